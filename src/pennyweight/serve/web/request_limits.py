"""Limits of a request, checked before it is parsed: its size, its time, and free capacity."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..server_settings import ServerSettings
from ..serving_errors import QueueFull, ServerStopping
from .header_values import Headers, members_of, values_of
from .lifecycle import Lifecycle
from .refusals import Refusal, refusal, send_refusal
from .request_log import HUNG_UP, RECORD
from .route_table import RouteTable

# Of a body that is too large so much is read and dropped, in units of the limit: a client that writes before it reads
# would else see a broken connection instead of the answer.
_DRAINED = 4
_CLOSE = {"Connection": "close"}


class RequestLimits:
    """ASGI middleware before the web framework: reads a request's body within limits, and ends work nobody waits for.

    With the queue full, a request is refused before its body is read: refusals must cost so little that ten times the
    load that can be computed does not starve the computing.

    Args:
        full: the refusal that any text would meet now, or None.
        routes: says which templates take a body at all, and which compute and may be refused for load.
    """

    def __init__(
        self,
        app: Any,
        settings: ServerSettings,
        lifecycle: Lifecycle,
        full: Callable[[], Refusal | None],
        routes: RouteTable,
    ) -> None:
        self.app = app
        self._settings = settings
        self._lifecycle = lifecycle
        self._full = full
        self._routes = routes
        self._held_bytes = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not self._routes.posts(scope[RECORD].route):
            await self.app(scope, receive, send)
            return
        try:
            if self._routes.computes(scope[RECORD].route):
                self._refuse_for_load()
                self._refuse_kind(scope["headers"])
        except (Refusal, QueueFull) as error:
            await send_refusal(refusal(error), send)
            return
        self._lifecycle.in_flight += 1
        held = 0
        try:
            body = await self._read(scope, receive)
            if body is not None:
                held = len(body)
                await self._answer(scope, body, receive, send)
        except (Refusal, QueueFull) as error:
            await send_refusal(refusal(error), send)
        finally:
            self._lifecycle.in_flight -= 1
            self._held_bytes -= held

    def _refuse_for_load(self) -> None:
        if self._lifecycle.draining:
            stopping = refusal(ServerStopping())
            stopping.headers |= _CLOSE
            raise stopping
        full = self._full()
        if full is not None:
            raise full
        if self._lifecycle.in_flight >= self._settings.max_requests:
            raise QueueFull("too many requests are being answered", 1.0)

    def _refuse_kind(self, headers: Headers) -> None:
        """Refuse a body that is said not to be plain JSON."""
        kinds, codings = values_of(headers, b"content-type"), members_of(headers, b"content-encoding")
        # JSON is UTF-8 and has no parameter that says so (RFC 8259, section 11): what stands behind is ignored.
        if {kind.partition(b";")[0].strip().lower() for kind in kinds} != {b"application/json"}:
            raise Refusal(
                415,
                "media_type",
                "the body is not declared as JSON",
                expected="Content-Type: application/json",
                received=b", ".join(kinds).decode("latin-1") or "no Content-Type",
            )
        if any(coding.lower() != b"identity" for coding in codings):
            raise Refusal(
                415,
                "media_type",
                "the body is compressed",
                expected="no Content-Encoding",
                received=b", ".join(codings).decode("latin-1"),
            )

    async def _read(self, scope: Any, receive: Any) -> bytes | None:
        """The whole body; None if the client hung up. What it holds counts as held until the request is answered.

        Raises:
            Refusal: status 413 for too large a body, 408 for one that takes too long.
            QueueFull: other requests' bodies fill the memory for them.
        """
        limit = self._settings.max_body_bytes
        declared = values_of(scope["headers"], b"content-length")
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                if declared and int(declared[0]) > limit:
                    await self._drop(scope, receive, 0)
                    raise self._too_large()
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        self._held_bytes -= size
                        return None
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    self._held_bytes += len(chunk)
                    if size > limit:
                        if message.get("more_body", False):
                            await self._drop(scope, receive, size)
                        raise self._too_large()
                    if self._held_bytes > self._settings.max_held_bytes:
                        raise QueueFull("too many bytes of requests are being read", 1.0)
                    chunks.append(chunk)
                    if not message.get("more_body", False):
                        return b"".join(chunks)
        except TimeoutError:
            self._held_bytes -= size
            raise Refusal(
                408, "validation", f"the body did not arrive within {self._settings.body_seconds:g} s", headers=_CLOSE
            ) from None
        except (Refusal, QueueFull, asyncio.CancelledError):
            self._held_bytes -= size
            raise

    def _too_large(self) -> Refusal:
        limit = self._settings.max_body_bytes
        return Refusal(413, "too_large", "the body is too large", expected=f"at most {limit:,} bytes",
                       remedy="send fewer texts per request", headers=_CLOSE)  # fmt: skip

    async def _drop(self, scope: Any, receive: Any, size: int) -> None:
        """Read on, keeping nothing, so that the client comes to reading the answer."""
        if values_of(scope["headers"], b"expect"):
            return  # it waits to be told before it sends
        while size < _DRAINED * self._settings.max_body_bytes:
            message = await receive()
            size += len(message.get("body", b""))
            if message["type"] != "http.request" or not message.get("more_body", False):
                return

    async def _answer(self, scope: Any, body: bytes, receive: Any, send: Any) -> None:
        """Let the application answer, unless the client hangs up before."""

        async def replay() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        answering = asyncio.current_task()
        gone = False

        async def watch() -> None:
            nonlocal gone
            # The body is complete: nothing but the end of the connection can come now. The web server says so too when
            # the answer is written, which is an instant before we are done.
            await receive()
            if scope[RECORD].status == HUNG_UP and answering is not None:
                gone = True
                answering.cancel()

        watching = asyncio.ensure_future(watch())
        try:
            await self.app(scope, replay, send)
        except asyncio.CancelledError:
            if not gone or (answering is not None and answering.uncancel() > 0):
                raise
        finally:
            watching.cancel()
