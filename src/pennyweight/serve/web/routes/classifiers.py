"""`GET /v1/classifiers`, and loading, unloading and reloading for the administrator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from ..answers import json_answer
from ..openapi import ADMINISTRATION, LISTING, describe
from ..refusals import Refusal
from ..schemas import ClassifierDetails, ClassifierFacts, ClassifierList
from ..serving import Serving, serving_of


def add_classifier_routes(app: FastAPI) -> None:
    """Add the routes to an application."""
    app.add_api_route(
        "/v1/classifiers", list_classifiers, methods=["GET"], summary="All classifiers",
        **describe(LISTING, ClassifierList),
    )  # fmt: skip
    app.add_api_route(
        "/v1/classifiers/{name}", show_classifier, methods=["GET"], summary="A classifier with its metrics and card",
        **describe(LISTING, ClassifierDetails, named=True),
    )  # fmt: skip
    for action, route in (("load", load), ("unload", unload), ("reload", reload)):
        app.add_api_route(
            f"/v1/classifiers/{{name}}/{action}", route, methods=["POST"],
            summary=f"{action.capitalize()} a classifier",
            **describe(ADMINISTRATION, ClassifierFacts, named=True),
        )  # fmt: skip


async def list_classifiers(request: Request) -> Response:
    """A summary of each classifier, sorted by name, and the backbone they share."""
    serving = serving_of(request)
    return await serving.with_disk(lambda: json_answer(_listing(serving)))


async def show_classifier(request: Request, name: str) -> Response:
    """A classifier with its metrics from training and its model card."""
    serving = serving_of(request)
    return await serving.with_disk(lambda: json_answer(serving.registry.details(name)))


async def load(request: Request, name: str) -> Response:
    """Load a classifier into memory. If its name is not known yet, the served folders are searched for it."""
    serving = serving_of(request)
    return await _administer(serving, serving.registry.load, name)


async def unload(request: Request, name: str) -> Response:
    """Unload a classifier. Its name is unknown until it is loaded again."""
    serving = serving_of(request)

    def gone(name: str) -> dict[str, Any]:
        serving.registry.unload(name)
        return {"name": name, "state": "unloaded"}

    return await _administer(serving, gone, name)


async def reload(request: Request, name: str) -> Response:
    """Read a classifier's folder again. Requests already in progress keep the version they started with."""
    serving = serving_of(request)
    return await _administer(serving, serving.registry.reload, name)


async def _administer(serving: Serving, action: Callable[[str], Any], name: str) -> Response:
    if not serving.settings.admin:
        raise Refusal(403, "forbidden", "this server does not load, unload or reload classifiers on request",
                      remedy="start the server with --allow-admin")  # fmt: skip
    return await serving.with_disk(lambda: json_answer(action(name)))


def _listing(serving: Serving) -> dict[str, Any]:
    registry = serving.registry
    described = [registry.describe(name) for name in registry.names()]
    return {"backbone": serving.backbone_facts(), "classifiers": described}
