"""The page and its files, which hold no data and need no token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from ...page.static_files import CONTENT_SECURITY_POLICY, StaticFile, static_files
from ..header_values import members_of


def add_page_routes(app: FastAPI) -> frozenset[str]:
    """Add a route for each file, all of them known now; returns their paths."""
    files = static_files()
    for path, file in files.items():
        app.add_route(path, _answer(file), methods=["GET"], include_in_schema=False)
    return frozenset(files)


def _answer(file: StaticFile) -> Callable[[Request], Awaitable[Response]]:
    etag = file.etag.encode("ascii")
    headers = {
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        # Requested again each time, and answered with 304 while the program stays the same.
        "Cache-Control": "no-cache",
        "ETag": file.etag,
    }

    async def page(request: Request) -> Response:
        # A cache or a proxy may have marked the tag as weak, which makes no difference here (RFC 9110, section 13.1.2).
        known = {tag.removeprefix(b"W/") for tag in members_of(request.scope["headers"], b"if-none-match")}
        if known & {b"*", etag}:
            return Response(status_code=304, headers=headers)
        return Response(file.content, headers=headers | {"Content-Type": file.media_type})

    return page
