"""Records of a request: a log line, counts and times, and headers of its answer."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from random import getrandbits
from typing import IO, Any

from ..serving_errors import ServerStopping
from .header_values import values_of
from .prometheus import ServerMetrics
from .refusals import refusal, send_refusal

logger = logging.getLogger("pennyweight.serve")

#: Where a request's record stands in its ASGI scope.
RECORD = "pennyweight.record"
#: The status of a request whose client hung up before there was an answer.
HUNG_UP = 499
#: So many requests that were refused for load get a line of their own.
REFUSALS_A_SECOND = 20

_WRITE_SECONDS = 0.1

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._\-]{1,64}")
# What every answer carries. The page's files bring a policy of their own, under which their scripts run.
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


@dataclass
class RequestRecord:
    """The record of a request, filled in by the code that handles it.

    Attributes:
        request_id: the client's, where it sent a sane one.
        arrived: seconds, `time.monotonic`.
        route: the route's template, "other" where there is none.
        status: status of the answer, once it begins.
        classifiers: names as served, never as sent.
        texts, tokens: that were computed, or were to be.
        batcher_seconds: in the queue and in computation; None if nothing was computed.
        shown_texts: what is logged of the texts themselves, where that is asked for.
    """

    request_id: str
    arrived: float
    route: str = "other"
    status: int = HUNG_UP
    classifiers: tuple[str, ...] = ()
    texts: int = 0
    tokens: int = 0
    batcher_seconds: float | None = None
    shown_texts: list[Any] = field(default_factory=list)


class RequestLog:
    """The outermost ASGI middleware: whatever happens below, a request is answered, logged and counted.

    An exception that nothing below answers is a fault of ours: status 500, and its traceback in the log.

    Args:
        routes: finds the template of a path, for the log and the metrics: never the path itself, which anyone may make
            up.
    """

    def __init__(self, app: Any, metrics: ServerMetrics, routes: Any) -> None:
        self.app = app
        self._metrics = metrics
        self._routes = routes
        self._second = 0  # in which refusals were last counted
        self._refused = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        record = RequestRecord(_request_id(scope["headers"]), time.monotonic(), self._routes.template(scope["path"]))
        scope[RECORD] = record

        async def told(message: Any) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message["headers"] = _with_headers(message.get("headers", []), record.request_id)
            try:
                await send(message)
            except RuntimeError as error:
                # uvloop's word for a connection that broke an instant ago, before the web server was told.
                if "closed" not in str(error):
                    raise
                record.status = HUNG_UP

        try:
            await self.app(scope, receive, told)
        except asyncio.CancelledError:
            # The server stops without waiting. The web server would log the cancellation as a fault.
            if record.status == HUNG_UP:
                await send_refusal(refusal(ServerStopping()), told)
        except Exception as error:
            logger.exception("a bug in %s, request %s", record.route, record.request_id)
            if record.status == HUNG_UP:
                await send_refusal(refusal(error), told)
        finally:
            seconds = time.monotonic() - record.arrived
            self._metrics.answered(record, scope["method"], seconds)
            if logger.isEnabledFor(logging.INFO) and not self._is_one_of_many(record):
                line = logger.makeRecord(logger.name, logging.INFO, "", 0, "", (), None)  # `info` looks for its caller
                line.request = request_fields(record, scope["method"], seconds)
                logger.handle(line)

    def _is_one_of_many(self, record: RequestRecord) -> bool:
        """Whether a request was refused for load when many others were in the same second: those are counted instead.

        Under ten times the load that can be computed, the log would cost more than the refusals.
        """
        if record.status != 429:
            return False
        second = int(record.arrived)
        if second != self._second:
            if self._refused > REFUSALS_A_SECOND:
                more = self._refused - REFUSALS_A_SECOND
                logger.info("%d more requests were refused with status 429 in one second", more)
            self._second, self._refused = second, 0
        self._refused += 1
        return self._refused > REFUSALS_A_SECOND


def request_fields(record: RequestRecord, method: str, seconds: float) -> dict[str, Any]:
    """The fields of a request's line in the log; times in milliseconds."""
    fields: dict[str, Any] = {
        "request_id": record.request_id, "method": method, "route": record.route, "status": record.status,
        "milliseconds": round(1000 * seconds, 2),
    }  # fmt: skip
    if record.classifiers:
        fields["classifier"] = ",".join(record.classifiers)
    if record.texts:
        fields |= {"texts": record.texts, "tokens": record.tokens}
    if record.batcher_seconds is not None:
        fields["batcher_milliseconds"] = round(1000 * record.batcher_seconds, 2)
    return fields | ({"shown_texts": record.shown_texts} if record.shown_texts else {})


def _request_id(headers: list[tuple[bytes, bytes]]) -> str:
    for value in values_of(headers, b"x-request-id"):
        if _REQUEST_ID.fullmatch(value):
            return value.decode("ascii")
    return f"{getrandbits(64):016x}"  # tells requests apart; nothing depends on it being hard to guess


def _with_headers(given: Any, request_id: str) -> list[tuple[bytes, bytes]]:
    headers = list(given)
    names = {name for name, _ in headers}
    headers += [header for header in _HEADERS if header[0] not in names]
    headers.append((b"x-request-id", request_id.encode("ascii")))
    return headers


class JsonLines(logging.Formatter):
    """One JSON object a record: time, level, and a request's fields or the message."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {"time": f"{moment}.{int(record.msecs):03d}Z", "level": record.levelname.lower()}
        request = getattr(record, "request", None)
        line |= request if request is not None else {"message": record.getMessage()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


class LogWriter(logging.Handler):
    """As a context: writes the server's log, and the web server's, to a stream.

    Lines are written ten times per second by a thread of its own, so that neither a slow reader nor a write for each
    request holds up the server. Where more are waiting than may, lines are dropped and counted.

    Args:
        stream: text, such as standard error.
        level: level of `logging`.
        most_waiting: lines that may wait for the stream.
    """

    def __init__(self, stream: IO[str], level: int = logging.INFO, most_waiting: int = 10_000) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.dropped = 0
        self._stream = stream
        self._lines_level = level
        self._most_waiting = most_waiting
        self._waiting: deque[logging.LogRecord] = deque()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write_on, name="log", daemon=True)
        self._loggers = (logger, logging.getLogger("uvicorn.error"))

    def __enter__(self) -> LogWriter:
        for one in self._loggers:
            one.addHandler(self)
            one.setLevel(self._lines_level if one is logger else logging.WARNING)
            one.propagate = False
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._loggers:
            one.removeHandler(self)
            one.propagate = True
            one.setLevel(logging.NOTSET)
        self._ended.set()
        self._thread.join(1.0)  # a stream that takes nothing does not keep the process

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line in; it is written later."""
        if len(self._waiting) < self._most_waiting:
            self._waiting.append(record)
        else:
            self.dropped += 1

    def _write_on(self) -> None:
        told = 0
        while True:
            last = self._ended.wait(_WRITE_SECONDS)
            lines = [self.format(self._waiting.popleft()) for _ in range(len(self._waiting))]
            if self.dropped > told:
                words = f"{self.dropped - told} lines of the log were dropped because its reader was too slow"
                told = self.dropped
                lines.append(self.format(logging.LogRecord(logger.name, logging.WARNING, "", 0, words, (), None)))
            if lines:
                try:
                    self._stream.write("\n".join(lines) + "\n")
                    self._stream.flush()
                except (OSError, ValueError):  # the reader is gone: the server serves on
                    self.dropped += len(lines)
            if last:
                return
