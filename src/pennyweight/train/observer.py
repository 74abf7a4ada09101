"""Following a run: an `Observer` for its steps, and log records for everything else.

The library logs to loggers below `pennyweight`, each named after its module, and sets neither handlers nor levels of
its own. To see what a run does: `logging.basicConfig(level=logging.INFO)`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

ROOT = "pennyweight"


class Observer(Protocol):
    """Follows a training run: a progress bar, a pruner, a benchmark. What it raises ends the run."""

    def step(self, step: int, total: int, loss: float, rate: float, texts: int, seconds: float) -> None:
        """Called after optimizer step `step` (from 1) of `total`: the mean loss of its texts, its learning rate.

        On a GPU for several steps in turn, since their losses are read together; `seconds` is then their mean.
        """

    def evaluation(self, record: dict[str, Any]) -> None:
        """Called after each evaluation with its record of the history."""


class _Forwarder(logging.Handler):
    """Hands each message to a function, whose exceptions are the caller's."""

    def __init__(self, receive: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._receive = receive

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.INFO:
            self._receive(record.getMessage())


@contextmanager
def forward_log(receive: Callable[[str], None], name: str = ROOT) -> Iterator[None]:
    """Inside, messages of INFO and above, of the logger `name` and those below it, go to `receive`."""
    logger, handler = logging.getLogger(name), _Forwarder(receive)
    level = logger.level
    if not logger.isEnabledFor(logging.INFO):
        logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextmanager
def say_to_logging(say: Callable[[str], None] | None, name: str = ROOT) -> Iterator[None]:
    """The deprecated argument `say` of public functions: it receives what is logged while the block lasts.

    Use it directly in the public function, so that the warning points at the function's caller.
    """
    if say is None:
        yield
        return
    warnings.warn(
        "the argument `say` is deprecated: read the log of `pennyweight` instead, "
        "for example after logging.basicConfig(level=logging.INFO)",
        DeprecationWarning,
        stacklevel=4,
    )
    with forward_log(say, name):
        yield
