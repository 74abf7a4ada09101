"""What the web server lacks: limits of connections, headers and bodies, and requests that offer another protocol."""

from __future__ import annotations

import asyncio
import json
from itertools import chain
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ..server_settings import ServerSettings
from .header_values import values_of

_STATUSES = {
    400: (b"Bad Request", "not a valid HTTP/1.1 request, or one whose parts contradict each other"),
    408: (b"Request Timeout", "the request's headers did not arrive in time"),
    431: (b"Request Header Fields Too Large", "the request's headers are too large"),
    503: (b"Service Unavailable", "too many connections are open; try again later"),
}


def limited_protocol(settings: ServerSettings) -> type[HttpToolsProtocol]:
    """uvicorn's protocol, bounded: it would keep connections without a request for ever, and headers of any size."""
    return type("LimitedProtocol", (_LimitedProtocol,), {"settings": settings})


class _LimitedProtocol(HttpToolsProtocol):
    """One connection.

    A client may send requests before it has the answers to former ones (pipelining): `_running` is the one that is
    being answered, `cycle` the one that arrived last.
    """

    settings: ClassVar[ServerSettings]
    _unused_bytes = 0  # since the end of headers, of a message, or of a part of a body: headers, trailers and the like
    _header_timer: asyncio.TimerHandle | None = None
    _dropped_bytes = 0
    _drop_timer: asyncio.TimerHandle | None = None  # runs while the rest of an answered request's body arrives
    _write_timer: asyncio.TimerHandle | None = None
    _in_headers = False
    _too_large = False
    _offers_upgrade = False
    _running: RequestResponseCycle | None = None
    _deaf = False

    # --- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.settings.max_connections:
            self._close_with(503)
        else:
            self._expect_headers()

    def eof_received(self) -> None:
        self._hung_up()

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_done()
        for timer in (self._write_timer, self._drop_timer):
            if timer is not None:
                timer.cancel()
        self._hung_up()
        self.pipeline.clear()
        super().connection_lost(exc)

    def _hung_up(self) -> None:
        """Tell who is being answered: uvicorn tells the request that arrived last, which may not be it."""
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.settings.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    # --- requests

    def data_received(self, data: bytes) -> None:
        if self._deaf or self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        # A small request may come with the beginning of a large body in one piece: its headers are measured once they
        # are complete, and what is still incomplete after parsing here.
        self._unused_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self._close_with(431 if self._too_large else 400)
            return
        if self._unused_bytes > self.settings.max_header_bytes:
            # The trailers of a request that is answered are of no interest to its client.
            self._close_with(431) if self._in_headers or self._answering else self.transport.close()
        elif len(self.pipeline) > self.settings.max_pipelined:
            self.pipeline.clear()
            self._close_after_answers()
        elif not (self._answering or self._in_headers or self._header_timer or self._drop_timer):
            # Neither a request's beginning nor anything that is waited for: line breaks. They do not keep the
            # connection for longer than headers would.
            self._header_timer = self.loop.call_later(self.settings.header_seconds, self.transport.close)

    def _parse(self, data: bytes) -> None:
        """Parse what arrived; an offer of another protocol is passed over (RFC 9110, section 7.8).

        Java's and curl's clients offer HTTP/2 with their first request. The parser takes all that follows its headers
        for the other protocol: a new parser reads the request without the offer.
        """
        rest = memoryview(data)
        while rest:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
                lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.scope["http_version"].encode())]
                lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
                self._offers_upgrade = False
                self.parser.feed_data(b"\r\n".join([*lines, b"", b""]))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if not self._in_headers:
            self._expect_headers()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers are dropped. They would come among the headers, past whatever a proxy checks or removes there (RFC
        # 9110, section 6.5.1).
        if self._in_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._headers_done()
        self._unused_bytes = 0
        version = self.parser.get_http_version()
        hosts = len(values_of(self.headers, b"host"))
        codings = [value.lower() for value in values_of(self.headers, b"transfer-encoding")]
        self._too_large = len(self.url) + sum(map(len, chain(*self.headers))) > self.settings.max_header_bytes
        # What is raised here ends the connection with status 400, or 431.
        if self._too_large:
            raise ValueError("too large")
        if version not in ("1.0", "1.1"):
            raise ValueError("another version of HTTP")
        if hosts > 1 or (version == "1.1" and not hosts):
            raise ValueError("not one Host: RFC 9112, section 3.2")
        if codings not in ([], [b"chunked"]):
            raise ValueError("a transfer coding that is not known")
        if version == "1.0":
            self.scope["http_version"] = version
            self.expect_100_continue = False  # RFC 9110, section 10.1.1
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise ValueError("this is no proxy")
            self._offers_upgrade = True  # see `_parse`
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unused_bytes = 0
        super().on_body(body)
        if self._drop_timer is not None:
            self._dropped_bytes += len(body)
            if self._dropped_bytes > self.settings.max_body_bytes:
                self.flow.pause_reading()

    def on_message_complete(self) -> None:
        self._unused_bytes = 0
        if self._drop_timer is not None:
            self._drop_timer.cancel()
            self._drop_timer = None
            if self.flow.read_paused or not self.cycle.keep_alive:
                self.transport.close()
        elif not self._offers_upgrade:
            super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        cycle.transport = _AnswerTransport(self)  # type: ignore[assignment]
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body:
            self._drop_body()

    def _close_answered(self) -> None:
        """Close behind an answer, but let the request's body come first."""
        if self.cycle.response_complete and self.cycle.more_body and not self._deaf:
            self._drop_body()
        else:
            self.transport.close()

    def _drop_body(self) -> None:
        """Read the rest of an answered request's body and keep nothing of it, for a moment and up to a body's limit.

        A request that is refused is answered at once. A client that writes the whole body before it reads would see a
        broken connection instead of the answer if that were closed at once, too.
        """
        if self._drop_timer is None and not self.transport.is_closing():
            self.cycle.body = bytearray()
            self._dropped_bytes = 0
            self._drop_timer = self.loop.call_later(self.settings.drop_seconds, self.transport.close)

    @property
    def _answering(self) -> bool:
        return self._running is not None and not self._running.response_complete

    def _expect_headers(self) -> None:
        self._headers_done()
        self._in_headers = True
        self._header_timer = self.loop.call_later(self.settings.header_seconds, self._close_with, 408)

    def _headers_done(self) -> None:
        self._in_headers = False
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    # --- the end

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP with the server's own form of errors."""
        self._close_with(400)

    def _close_with(self, status: int) -> None:
        """Answer in the server's form of errors and close. Answers to whole requests before it are not cut off."""
        self._headers_done()
        if self.transport.is_closing():
            return
        if self._answering and not self._is_broken():
            self._close_after_answers()
            return
        self._hung_up()
        phrase, problem = _STATUSES[status]
        body = json.dumps({"error": problem, "error_type": "unavailable" if status == 503 else "validation"})
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
            % (status, phrase, len(body), body.encode("ascii"))
        )
        self.transport.close()

    def _is_broken(self) -> bool:
        """Whether the request that is being answered is itself the one whose body cannot be read."""
        running = self._running
        return running is not None and running is self.cycle and running.more_body and not running.response_started

    def _close_after_answers(self) -> None:
        """Listen to nothing more; close when every whole request is answered."""
        self._deaf = True
        if self.pipeline and self.pipeline[0][0].more_body:
            self.pipeline.popleft()  # it will never be whole
        last = self.pipeline[0][0] if self.pipeline else self._running
        if last is not None:
            last.keep_alive = False


class _AnswerTransport:
    """The transport as an answer sees it, which closes it when it is written and the client wants no more."""

    def __init__(self, protocol: _LimitedProtocol) -> None:
        self.write, self.is_closing = protocol.transport.write, protocol.transport.is_closing
        self.close = protocol._close_answered
