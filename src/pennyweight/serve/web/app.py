"""The web application: routes, middleware and errors put together."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import cache, partial
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ... import __version__
from ...errors import PennyweightError
from ..batching.batcher import Batcher
from ..classifiers.registry import Registry
from ..classifiers.served_folders import same_name
from ..server_settings import ServerSettings
from .auth import HEALTH_PATHS, BearerAuth
from .lifecycle import Lifecycle
from .openapi import openapi_document
from .prometheus import ServerMetrics
from .refusals import Refusal, refusal
from .request_limits import RequestLimits
from .request_log import RequestLog
from .route_table import RouteTable
from .routes.classifiers import add_classifier_routes
from .routes.explain_text import add_explanation_route
from .routes.health import add_health_routes
from .routes.pages import add_page_routes
from .routes.predict_texts import add_prediction_routes
from .routes.text_embeddings_inference import add_tei_routes
from .serving import Serving

_DESCRIPTION = (
    "Many text classifiers over one frozen encoder. Every route but health takes the token in the header "
    "`Authorization: Bearer TOKEN`. Every error is a JSON object with `error`, one line for people, and `error_type`, "
    "a short code for programs."
)


def create_app(
    registry: Registry,
    batcher: Batcher,
    settings: ServerSettings,
    *,
    token: str | None,
    lifecycle: Lifecycle | None = None,
    metrics: ServerMetrics | None = None,
) -> FastAPI:
    """The application over loaded classifiers and a started batcher.

    Args:
        token: token that requests must carry; None for no authentication, for a loopback address only.
        lifecycle: what `/readyz` tells; ready if not given.
        metrics: metrics that the batcher's rounds are counted in; new ones if not given.
    """
    if lifecycle is None:
        lifecycle = Lifecycle()
        lifecycle.begin()
    metrics = metrics or ServerMetrics()
    metrics.watch(registry, batcher)
    # FastAPI's own pages of documentation load their scripts from elsewhere, and its redirects trust the Host header.
    app = FastAPI(
        title="Pennyweight", version=__version__, description=_DESCRIPTION, docs_url=None, redoc_url=None,
        redirect_slashes=False,
    )  # fmt: skip
    app.router.route_class = DirectRoute
    app.state.serving = Serving(registry, batcher, settings, lifecycle, metrics)
    add_prediction_routes(app)
    add_explanation_route(app)
    add_classifier_routes(app)
    add_tei_routes(app)
    add_health_routes(app)
    pages = add_page_routes(app)
    app.openapi = cache(partial(openapi_document, app, settings))  # type: ignore[method-assign]
    app.add_exception_handler(PennyweightError, _answer_error)
    app.add_exception_handler(MemoryError, _answer_error)
    routes = RouteTable(app.routes)
    app.add_exception_handler(HTTPException, partial(_answer_http_error, routes))
    _add_middleware(app, routes, token, HEALTH_PATHS | pages)
    return app


class DirectRoute(APIRoute):
    """A route whose function gets the request and its parameters as they came.

    FastAPI would read the body on the event loop, without our limits on JSON, and resolve dependencies, of which there
    are none. It is here for the routing and its description.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint, asked = self.endpoint, [field.alias for field in self.dependant.query_params]

        async def handle(request: Request) -> Response:
            given = {name: request.query_params.get(name) for name in asked}
            named = {name: same_name(value) for name, value in request.path_params.items()}
            answer: Response = await endpoint(request, **named, **given)
            return answer

        return handle


def _add_middleware(app: FastAPI, routes: RouteTable, token: str | None, open_paths: frozenset[str]) -> None:
    """From the innermost to the outermost: limits, authentication, log."""
    serving: Serving = app.state.serving
    app.add_middleware(
        RequestLimits, settings=serving.settings, lifecycle=serving.lifecycle, full=serving.full,
        routes=routes,
    )  # fmt: skip
    app.add_middleware(BearerAuth, token=token, open_paths=open_paths)
    app.add_middleware(RequestLog, metrics=serving.metrics, routes=routes)


async def _answer_error(request: Request, error: Exception) -> Response:
    refused = refusal(error)
    return Response(refused.body, refused.status, refused.headers, media_type="application/json")


async def _answer_http_error(routes: RouteTable, request: Request, error: Exception) -> Response:
    """The router's errors: an unknown path, or a method that the path does not support."""
    status = getattr(error, "status_code", 500)
    headers = getattr(error, "headers", None)
    if status == 405:
        # The router names the methods of the first route that has the path.
        allowed = ", ".join(sorted(routes.methods(routes.template(request.url.path))))
        refused = Refusal(405, "method_not_allowed", "this path does not support the method",
                          headers={"Allow": allowed}, expected=allowed, received=request.method)  # fmt: skip
    elif status == 404:
        refused = Refusal(404, "not_found", "no such path", remedy="GET /openapi.json lists them")
    else:
        refused = Refusal(status, "validation", str(getattr(error, "detail", "")), headers=headers)
    return await _answer_error(request, refused)
