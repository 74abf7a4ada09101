"""Limits that the web server lacks: number of connections, and size and time of headers."""

from __future__ import annotations

import asyncio
import json
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ..server_settings import ServerSettings

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
    _header_bytes = 0
    _header_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _in_headers = False
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
        if self._write_timer is not None:
            self._write_timer.cancel()
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
        if self._in_headers:
            self._header_bytes += len(data)
            # A small request may come with the beginning of a large body in one piece: only what is still
            # incomplete after parsing is too large.
        super().data_received(data)
        if self._in_headers and self._header_bytes > self.settings.max_header_bytes:
            self._close_with(431)
        elif len(self.pipeline) > self.settings.max_pipelined:
            self.pipeline.clear()
            self._close_after_answers()
        elif not self._answering and not self._in_headers and self._header_timer is None:
            # Neither a request's beginning nor anything that is waited for: line breaks, or the rest of a body
            # whose request is answered. It does not keep the connection for longer than headers would.
            self._header_timer = self.loop.call_later(self.settings.header_seconds, self.transport.close)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if not self._in_headers:
            self._expect_headers()

    def on_headers_complete(self) -> None:
        self._headers_done()
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            raise ValueError("another version of HTTP")  # the parser makes it status 400
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    @property
    def _answering(self) -> bool:
        return self._running is not None and not self._running.response_complete

    def _expect_headers(self) -> None:
        self._headers_done()
        self._in_headers = True
        self._header_bytes = 0
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
