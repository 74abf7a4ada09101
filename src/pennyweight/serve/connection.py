"""Limits of a connection, which the web server has none of: open connections, and headers in size and time."""

from __future__ import annotations

import asyncio
import json

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .server_settings import ServerSettings

_STATUSES = {
    408: (b"Request Timeout", "the request's headers did not arrive in time"),
    431: (b"Request Header Fields Too Large", "the request's headers are too large"),
    503: (b"Service Unavailable", "too many connections are open; try again later"),
}


def limited_protocol(settings: ServerSettings) -> type[HttpToolsProtocol]:
    """uvicorn's protocol, bounded: it would keep connections without a request for ever, and headers of any size."""

    class LimitedProtocol(HttpToolsProtocol):
        """One connection."""

        _header_bytes = 0
        _header_timer: asyncio.TimerHandle | None = None
        _in_headers = False

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > settings.max_connections:
                self._close_with(503)
            else:
                self._expect_headers()

        def connection_lost(self, exc: Exception | None) -> None:
            self._headers_done()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            if self._in_headers:
                self._header_bytes += len(data)
                # A small request may come with the beginning of a large body in one piece: only what is still
                # incomplete after parsing is too large.
            super().data_received(data)
            if self._in_headers and self._header_bytes > settings.max_header_bytes:
                self._close_with(431)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            if not self._in_headers:
                self._expect_headers()

        def on_headers_complete(self) -> None:
            self._headers_done()
            super().on_headers_complete()

        def _expect_headers(self) -> None:
            self._in_headers = True
            self._header_bytes = 0
            self._header_timer = self.loop.call_later(settings.header_seconds, self._close_with, 408)

        def _headers_done(self) -> None:
            self._in_headers = False
            if self._header_timer is not None:
                self._header_timer.cancel()
                self._header_timer = None

        def _close_with(self, status: int) -> None:
            """Answer in the server's form of errors and close. An answer that is being computed is not cut off."""
            self._headers_done()
            if self.transport.is_closing():
                return
            if self.cycle is not None and not self.cycle.response_complete:
                self.cycle.keep_alive = False
                return
            phrase, problem = _STATUSES[status]
            body = json.dumps({"error": problem, "error_type": "unavailable" if status == 503 else "validation"})
            self.transport.write(
                b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
                % (status, phrase, len(body), body.encode("ascii"))
            )
            self.transport.close()

        def send_400_response(self, msg: str) -> None:
            """What is no HTTP is answered in the server's form of errors."""
            body = json.dumps({"error": msg, "error_type": "validation"}).encode("ascii")
            self.transport.write(
                b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
                b"connection: close\r\n\r\n%s" % (len(body), body)
            )
            self.transport.close()

    return LimitedProtocol
