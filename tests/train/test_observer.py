"""What a run tells: through logging, and through the deprecated argument `say`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pennyweight as pw
from pennyweight.train.observer import forward_log, say_to_logging


@pytest.fixture
def settings(tiny_backbone: Callable[..., Path]) -> dict[str, Any]:
    return {"backbone": str(tiny_backbone("bert")), "budget": "5k", "precision": "fp32", "report": "short"}


@pytest.fixture(autouse=True)
def unchanged() -> Iterator[None]:
    """Whatever happens, the loggers are afterwards as they were."""
    loggers = [logging.getLogger(name) for name in (None, "pennyweight", "pennyweight.search")]
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    yield
    assert [(logger.level, list(logger.handlers)) for logger in loggers] == before


def test_the_library_has_no_handler_that_prints_and_no_level() -> None:
    logger = logging.getLogger("pennyweight")
    assert [type(handler) for handler in logger.handlers] == [logging.NullHandler]
    assert logger.level == logging.NOTSET


def test_messages_below_a_name_are_forwarded_while_it_lasts() -> None:
    inner, other = logging.getLogger("pennyweight.search.study"), logging.getLogger("pennyweight.pipeline")
    received: list[str] = []
    with forward_log(received.append, "pennyweight.search"):
        inner.info("%d trials", 3)
        inner.debug("not this")
        other.info("nor this")
    inner.info("nor this")
    assert received == ["3 trials"]


def test_what_the_receiver_raises_reaches_the_caller() -> None:
    def broken(message: str) -> None:
        raise BrokenPipeError(message)

    with forward_log(broken), pytest.raises(BrokenPipeError, match="hello"):
        logging.getLogger("pennyweight.pipeline").info("hello")


def test_a_level_that_the_user_set_is_set_again() -> None:
    logger = logging.getLogger("pennyweight.search")
    logger.setLevel(logging.ERROR)
    try:
        with forward_log(lambda message: None, "pennyweight.search"):
            assert logger.isEnabledFor(logging.INFO)
        assert logger.level == logging.ERROR
    finally:
        logger.setLevel(logging.NOTSET)


def test_without_say_nothing_is_changed() -> None:
    with say_to_logging(None):
        assert not logging.getLogger("pennyweight").isEnabledFor(logging.INFO)


def test_say_is_deprecated_and_still_told(news: Path, settings: dict[str, Any]) -> None:
    received: list[str] = []
    with pytest.warns(DeprecationWarning, match="`say` is deprecated") as warned:
        pw.train(news / "train.csv", say=received.append, max_steps=1, **settings)
    assert [Path(one.filename).name for one in warned] == [Path(__file__).name]
    assert [line.partition(":")[0] for line in received] == ["data", "plan", "model", "audit", "head", "adapter"]


def test_users_read_it_with_logging(news: Path, settings: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="pennyweight")
    pw.train(news / "train.csv", max_steps=1, **settings)
    assert {record.name for record in caplog.records} >= {"pennyweight.pipeline"}


def test_warnings_reach_who_receives_the_log() -> None:
    lines: list[str] = []
    with forward_log(lines.append):
        logging.getLogger("pennyweight.evaluate").warning("out of reach")
        logging.getLogger("pennyweight.evaluate").debug("a detail")
    assert lines == ["out of reach"]
