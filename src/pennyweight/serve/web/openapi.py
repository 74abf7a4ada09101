"""The description of the routes at `/openapi.json`: every body, example and status."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ..server_settings import ServerSettings
from .schemas import ErrorAnswer, ExplainBody, InputsBody, PredictAllBody, PredictBody

#: Kinds of routes, by the tag they carry.
COMPUTING, LISTING, ADMINISTRATION, HEALTH = "inference", "classifiers", "administration", "health"

_MEANINGS = {
    400: "The body is not JSON.",
    401: "The token is missing or not valid.",
    403: "This server does not allow it.",
    404: "No such classifier.",
    408: "The body took too long to arrive.",
    413: "The body, its texts or the work they need are too large.",
    415: "The body is not declared as JSON.",
    422: "Values have a wrong type, or contradict each other.",
    429: "The queue is full. Retry-After gives the number of seconds to wait.",
    503: "A classifier cannot be used, or the server is loading or stopping.",
    504: "The request was not answered in time.",
}
_STATUSES = {
    COMPUTING: (400, 401, 408, 413, 415, 422, 429, 503, 504),
    LISTING: (401, 503),
    ADMINISTRATION: (401, 403, 408, 413, 503),
    HEALTH: (503,),
}
# Described here and not by FastAPI, which does not read these bodies.
_BODIES: tuple[type[BaseModel], ...] = (PredictBody, PredictAllBody, ExplainBody, InputsBody, ErrorAnswer)


def describe(kind: str, answer: Any, body: type[BaseModel] | None = None, *, named: bool = False) -> dict[str, Any]:
    """The arguments of `FastAPI.add_api_route` that describe a route.

    Args:
        kind: one of COMPUTING, LISTING, ADMINISTRATION and HEALTH.
        answer: the type of its answer; None for plain text.
        body: body of a request, which the route reads itself.
        named: whether it names a classifier that may be unknown.
    """
    statuses = sorted({*_STATUSES[kind], *((404, 422) if named else ())})
    found: dict[str, Any] = {
        "tags": [kind],
        "response_model": None,
        "responses": {status: {"description": _MEANINGS[status], "content": _error_content()} for status in statuses},
    }
    if answer is None:
        found["response_class"] = PlainTextResponse
    else:
        found["responses"][200] = {"model": answer}
    if 429 in statuses:
        found["responses"][429]["headers"] = {
            "Retry-After": {"description": "Whole seconds.", "schema": {"type": "integer", "minimum": 1}}
        }
    extra: dict[str, Any] = {"security": [] if kind == HEALTH else [{"token": []}]}
    if body is not None:
        content: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}
        example = next(iter(body.model_json_schema()["examples"]), None)
        extra["requestBody"] = {"required": True, "content": {"application/json": content | {"example": example}}}
    return found | {"openapi_extra": extra}


def _error_content() -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}


def openapi_document(app: FastAPI, settings: ServerSettings) -> dict[str, Any]:
    """The whole description, with the limits of this server."""
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes,
        separate_input_output_schemas=False,
    )  # fmt: skip
    _, found = models_json_schema(
        [(body, "validation") for body in _BODIES], ref_template="#/components/schemas/{model}"
    )
    schemas = found["$defs"]
    for body in schemas.values():
        fields = body.get("properties", {})
        if "texts" in fields:
            fields["texts"]["maxItems"] = settings.max_texts
        if "classifiers" in fields:
            fields["classifiers"] |= {"maxItems": settings.max_classifiers, "uniqueItems": True}
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(schemas)
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return document
