"""Limits of a connection, which the web server has none of: open connections, and headers in size and time."""

from __future__ import annotations

import asyncio
import json
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .server_settings import ServerSettings

_STATUSES = {
    400: (b"Bad Request", "the request is no HTTP/1.1", "validation"),
    408: (b"Request Timeout", "the request's headers did not arrive in time", "validation"),
    431: (b"Request Header Fields Too Large", "the request's headers are too large", "too_large"),
    503: (b"Service Unavailable", "too many connections are open; try again later", "overloaded"),
}


def limited_protocol(settings: ServerSettings) -> type[HttpToolsProtocol]:
    """uvicorn's protocol, bounded: it would keep connections without a request for ever, and headers of any size."""
    return type("LimitedProtocol", (_LimitedProtocol,), {"settings": settings})


class _LimitedProtocol(HttpToolsProtocol):
    """One connection.

    A client that closes its side of a connection has hung up, also where it could still read: what it asked for is not
    computed any more.
    """

    settings: ClassVar[ServerSettings]
    _header_bytes = 0
    _header_timer: asyncio.TimerHandle | None = None
    _in_headers = False
    _answering: Any = None  # the cycle whose answer is being made; with pipelining not the newest

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.settings.max_connections:
            self._close_with(503)
        else:
            self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_done()
        # uvicorn tells the newest request alone; those that it queued before would write to a closed connection.
        for cycle in (self._answering, *(queued for queued, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._header_bytes += len(data)
        super().data_received(data)
        # Headers may come in one piece with a body: only what is still incomplete after parsing is too large.
        if self._in_headers and self._header_bytes > self.settings.max_header_bytes:
            self._close_with(431)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if not self._in_headers:
            self._expect_headers()

    def on_headers_complete(self) -> None:
        self._headers_done()
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            raise ValueError("another version of HTTP")  # the parser makes it status 400
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _expect_headers(self) -> None:
        self._in_headers = True
        self._header_bytes = 0
        self._header_timer = self.loop.call_later(self.settings.header_seconds, self._close_with, 408)

    def _headers_done(self) -> None:
        self._in_headers = False
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _close_with(self, status: int) -> None:
        """Answer in the server's form of errors and close. An answer that is being made is not cut off."""
        self._headers_done()
        if self.transport.is_closing():
            return
        if self._answering is not None and not self._answering.response_complete:
            self._answering.keep_alive = False
            return
        phrase, problem, error_type = _STATUSES[status]
        body = json.dumps({"error": problem, "error_type": error_type}).encode("ascii")
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
            % (status, phrase, len(body), body)
        )
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is answered in the server's form of errors, too."""
        self._close_with(400)
