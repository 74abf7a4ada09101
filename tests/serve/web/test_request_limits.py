"""Limits of a request, checked against scripted clients."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from pennyweight.serve.server_settings import ServerSettings
from pennyweight.serve.serving_errors import QueueFull
from pennyweight.serve.web.lifecycle import Lifecycle
from pennyweight.serve.web.refusals import Refusal, refusal
from pennyweight.serve.web.request_limits import RequestLimits
from pennyweight.serve.web.request_log import HUNG_UP, RECORD, RequestRecord

GONE = {"type": "http.disconnect"}


def part(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


@dataclass
class Exchange:
    """A request of these messages; then the client waits, or is gone. What came of it: see `ask`."""

    messages: list[dict[str, Any]]
    headers: dict[str, str] = field(default_factory=dict)
    route: str = "/predict"
    method: str = "POST"
    waits: bool = True
    received: int = 0
    sent: list[dict[str, Any]] = field(default_factory=list)

    @property
    def status(self) -> int | None:
        return self.sent[0]["status"] if self.sent else None

    @property
    def closes(self) -> bool:
        return (b"connection", b"close") in self.sent[0]["headers"]

    @property
    def error(self) -> str:
        return str(json.loads(self.sent[1]["body"])["error"])

    async def receive(self) -> dict[str, Any]:
        if self.received < len(self.messages):
            self.received += 1
            return self.messages[self.received - 1]
        if self.waits:
            await asyncio.Event().wait()
        return GONE


@dataclass
class App:
    """Answers with the size of the body, when `gate` is open."""

    bodies: list[bytes] = field(default_factory=list)
    cancelled: int = 0
    stuck: bool = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.bodies.append((await receive())["body"])
        try:
            if self.stuck:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        scope[RECORD].status = 200
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class Routes:
    """What `RouteTable` says of one route that computes and one that does not."""

    def posts(self, template: str) -> bool:
        return template in ("/predict", "/v1/classifiers/{name}/load")

    def computes(self, template: str) -> bool:
        return template == "/predict"


class Limits:
    """`RequestLimits` over an `App`, with what they depend on."""

    def __init__(self, full: Refusal | None = None, **settings: Any) -> None:
        self.app, self.lifecycle, self.queue_full = App(), Lifecycle(), full
        self.lifecycle.begin()
        self.middleware = RequestLimits(
            self.app,
            ServerSettings(**settings),
            self.lifecycle,
            lambda: self.queue_full,
            Routes(),  # type: ignore[arg-type]
        )

    def ask(self, one: Exchange) -> Exchange:
        async def send(message: dict[str, Any]) -> None:
            one.sent.append(message)

        given = {"content-type": "application/json"} | one.headers
        headers = [(name.encode(), value.encode()) for name, value in given.items()]
        record = RequestRecord("id", 0.0, one.route)
        scope = {"type": "http", "method": one.method, "headers": headers, RECORD: record}
        asyncio.run(self.middleware(scope, one.receive, send))
        assert self.lifecycle.in_flight == 0
        assert self.middleware._held_bytes == 0
        return one


def test_a_body_arrives_whole() -> None:
    limits = Limits()
    assert limits.ask(Exchange([part(b"ab", True), part(b"", True), part(b"c")])).status == 200
    assert limits.app.bodies == [b"abc"]


def test_a_full_queue_is_told_before_anything_is_read() -> None:
    limits = Limits(refusal(QueueFull("more requests are waiting than can be computed in 5 s", 2.4)))
    refused = limits.ask(Exchange([part(b"a")]))
    assert (refused.status, refused.received, limits.app.bodies) == (429, 0, [])
    assert (b"retry-after", b"2") in refused.sent[0]["headers"]
    assert limits.ask(Exchange([part(b"a")], route="/v1/classifiers/{name}/load")).status == 200


def test_a_stopping_server_refuses_and_closes() -> None:
    limits = Limits()
    limits.lifecycle.drain()
    refused = limits.ask(Exchange([part(b"a")]))
    assert (refused.status, refused.closes, refused.received) == (503, True, 0)


def test_too_many_requests_at_once_are_refused() -> None:
    limits = Limits(max_requests=0)
    refused = limits.ask(Exchange([part(b"a")]))
    assert (refused.status, refused.error) == (429, "too many requests are being answered; try again in 1 s")


@pytest.mark.parametrize("headers", [{}, {"content-length": "11"}])
def test_a_body_that_is_too_large_is_refused_and_dropped(headers: dict[str, str]) -> None:
    limits = Limits(max_body_bytes=10)
    refused = limits.ask(Exchange([part(b"a" * 6, True), part(b"a" * 5)], headers))
    assert (refused.status, refused.closes, limits.app.bodies) == (413, True, [])
    assert refused.error == "the body is too large; expected at most 10 bytes; send fewer texts per request"
    assert refused.received == 2
    assert limits.ask(Exchange([part(b"a" * 10)])).status == 200


def test_a_body_without_end_is_not_read_for_ever() -> None:
    refused = Limits(max_body_bytes=10).ask(Exchange([part(b"a" * 5, True)] * 1000))
    assert refused.status == 413
    assert refused.received < 20


def test_who_asks_before_sending_too_much_sends_nothing() -> None:
    headers = {"content-length": "11", "expect": "100-continue"}
    refused = Limits(max_body_bytes=10).ask(Exchange([part(b"a" * 11)], headers))
    assert (refused.status, refused.received) == (413, 0)


def test_a_body_that_does_not_arrive_is_given_up() -> None:
    refused = Limits(body_seconds=0.01).ask(Exchange([part(b"a", True)]))
    assert (refused.status, refused.closes) == (408, True)
    assert refused.error == "the body did not arrive within 0.01 s"


def test_bodies_take_bounded_memory() -> None:
    limits = Limits(max_held_bytes=10)
    assert limits.ask(Exchange([part(b"a" * 11)])).status == 429
    assert limits.ask(Exchange([part(b"a" * 10)])).status == 200


def test_who_hangs_up_while_sending_is_not_answered() -> None:
    limits = Limits()
    gone = limits.ask(Exchange([part(b"a", True)], waits=False))
    assert (gone.status, limits.app.bodies) == (None, [])


def test_nothing_is_computed_for_who_hung_up() -> None:
    limits = Limits()
    limits.app.stuck = True
    gone = limits.ask(Exchange([part(b"a")], waits=False))
    assert (gone.status, limits.app.cancelled) == (None, 1)


def test_an_answer_that_is_there_is_sent_to_the_end() -> None:
    """The web server says that the connection is done when the answer's last byte is written."""
    limits = Limits()
    assert limits.ask(Exchange([part(b"a")], waits=False)).status == 200


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_other_methods_and_unknown_paths_pass(method: str) -> None:
    limits = Limits(refusal(QueueFull("full", 1.0)), max_body_bytes=0)
    assert limits.ask(Exchange([part(b"a")], method=method)).status == 200
    for route in ("other", "/livez"):
        assert limits.ask(Exchange([part(b"a")], route=route)).status == 200


def test_the_server_may_end_while_a_request_is_answered() -> None:
    limits = Limits()
    limits.app.stuck = True

    async def run() -> None:
        one = Exchange([part(b"a")])
        record = RequestRecord("id", 0.0, "/predict")
        scope = {"type": "http", "method": "POST", RECORD: record, "headers": [(b"content-type", b"application/json")]}
        task = asyncio.ensure_future(limits.middleware(scope, one.receive, None))
        while not limits.app.bodies:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert record.status == HUNG_UP

    asyncio.run(run())
    assert limits.app.cancelled == 1
