"""Whether the server lives and takes requests, its metrics, and its description for programs."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from ..answers import json_answer
from ..openapi import HEALTH, LISTING, describe
from ..prometheus import CONTENT_TYPE
from ..refusals import Refusal
from ..schemas import StateAnswer
from ..serving import serving_of


def add_health_routes(app: FastAPI) -> None:
    """Add the routes to an application."""
    # Some load balancers ask by HEAD, without wanting the body.
    app.add_route("/livez", alive, methods=["HEAD"], include_in_schema=False)
    app.add_api_route(
        "/livez", alive, methods=["GET"], summary="Whether the process is alive", **describe(HEALTH, StateAnswer)
    )
    for path, words in (("/readyz", "Whether the server accepts requests"), ("/health", "The same as /readyz")):
        app.add_route(path, ready, methods=["HEAD"], include_in_schema=False)
        app.add_api_route(path, ready, methods=["GET"], summary=words, **describe(HEALTH, StateAnswer))
    app.add_api_route("/metrics", metrics, methods=["GET"], summary="Metrics for Prometheus", **describe(LISTING, None))


async def alive(request: Request) -> Response:
    """Status 200 as long as the process answers at all."""
    return json_answer({"state": str(serving_of(request).lifecycle)})


async def ready(request: Request) -> Response:
    """Status 200 while the server accepts requests; 503 while classifiers are loading, or the server is stopping."""
    lifecycle = serving_of(request).lifecycle
    if not lifecycle.ready:
        raise Refusal(503, "unhealthy", f"the server is {lifecycle}")
    return json_answer({"state": str(lifecycle)})


async def metrics(request: Request) -> Response:
    """Counts and times in the Prometheus text format."""
    serving = serving_of(request)
    # Of thousands of classifiers it is long.
    return Response(await serving.with_disk(serving.metrics.text), media_type=CONTENT_TYPE)
