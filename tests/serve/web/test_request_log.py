"""The log: one JSON object a line, and nothing in it that must not be."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from pennyweight.serve.serving_errors import QueueFull
from pennyweight.serve.web.prometheus import ServerMetrics
from pennyweight.serve.web.refusals import refusal, send_refusal
from pennyweight.serve.web.request_log import REFUSALS_A_SECOND, LogWriter, RequestLog, logger

from ...server_process import TOKEN

PREDICT = "/v1/classifiers/news/predict"
SECRET = "The bank of the secret word zqzq."


def lines_of(work: Callable[[], object], level: int = logging.INFO) -> list[dict[str, Any]]:
    stream = io.StringIO()
    with LogWriter(stream, level):
        work()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_request_is_one_line(client: TestClient) -> None:
    (line,) = lines_of(lambda: client.post(PREDICT, json={"texts": [SECRET, "a"]}, headers={"X-Request-Id": "r-1"}))
    assert line["time"].endswith("Z")
    assert {key: line[key] for key in ("level", "request_id", "method", "route", "status", "classifier", "texts")} == {
        "level": "info", "request_id": "r-1", "method": "POST", "route": "/v1/classifiers/{name}/predict",
        "status": 200, "classifier": "news", "texts": 2,
    }  # fmt: skip
    assert line["tokens"] > 4
    assert 0 <= line["batcher_milliseconds"] <= line["milliseconds"]


def test_neither_texts_nor_tokens_nor_paths_are_logged(client: TestClient) -> None:
    def ask() -> None:
        client.post(PREDICT, json={"texts": [SECRET]})
        client.post(PREDICT, json={"texts": [SECRET, 1]})
        client.post(f"/v1/classifiers/{SECRET}/predict", json={"texts": ["a"]})
        client.get(f"/{SECRET}", headers={"Authorization": f"Bearer {SECRET}"})
        client.get("/metrics", headers={"X-Request-Id": SECRET})

    found = lines_of(ask)
    assert len(found) == 5
    assert "zqzq" not in json.dumps(found)
    assert TOKEN not in json.dumps(found)
    assert [line["route"] for line in found] == [
        "/v1/classifiers/{name}/predict", "/v1/classifiers/{name}/predict", "/v1/classifiers/{name}/predict", "other",
        "/metrics",
    ]  # fmt: skip


def test_texts_are_logged_where_that_is_asked_for(make_client: Callable[..., TestClient]) -> None:
    talkative = make_client(log_texts=True)
    (line,) = lines_of(lambda: talkative.post(PREDICT, json={"texts": [SECRET, "a" * 5000]}))
    assert line["shown_texts"] == [SECRET, "a" * 1000]


def test_a_log_that_nobody_reads_holds_up_nobody() -> None:
    stream = io.StringIO()
    writer = LogWriter(stream, most_waiting=2)
    for number in range(5):
        writer.handle(logging.LogRecord("a", logging.INFO, "", 0, f"line {number}", (), None))
    with writer:
        pass
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == [
        "line 0", "line 1", "3 lines of the log were dropped because its reader was too slow",
    ]  # fmt: skip


def test_a_reader_that_is_gone_ends_nothing() -> None:
    stream = io.StringIO()
    stream.close()
    with LogWriter(stream) as writer:
        logger.info("a line")
    assert writer.dropped == 1


def test_of_many_refusals_for_load_some_are_logged_and_the_others_counted() -> None:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await send_refusal(refusal(QueueFull("full", 1.0)), send)

    async def send(message: Any) -> None:
        """Nobody reads it."""

    class Routes:
        def template(self, path: str) -> str:
            return path

    log = RequestLog(refuse, ServerMetrics(), Routes())
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": []}

    async def many() -> None:
        for _ in range(500):
            await log(dict(scope), None, send)

    found = lines_of(lambda: asyncio.run(many()))
    alone = [line for line in found if "status" in line]
    counted = sum(int(line["message"].split()[0]) for line in found if "message" in line)
    # The last second's are counted in the next.
    assert REFUSALS_A_SECOND <= len(alone) < 500
    assert len(alone) + counted <= 500


def test_a_traceback_is_one_line() -> None:
    def fail() -> None:
        try:
            raise ValueError("two\nlines")
        except ValueError:
            logger.exception("a fault")

    (line,) = lines_of(fail)
    assert (line["level"], line["message"]) == ("error", "a fault")
    assert "ValueError: two\nlines" in line["traceback"]


@pytest.mark.parametrize("name", ["pennyweight.serve", "uvicorn.error"])
def test_afterwards_logging_is_as_before(name: str) -> None:
    one = logging.getLogger(name)
    before = (one.level, one.propagate, list(one.handlers))
    lines_of(lambda: None)
    assert (one.level, one.propagate, list(one.handlers)) == before
