"""`POST /v1/classifiers/{name}/predict` and `POST /v1/predict`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from ..answers import json_answer, predictions_answer, refuse_abstaining
from ..openapi import COMPUTING, describe
from ..schemas import PredictAllAnswer, PredictAllBody, PredictAnswer, PredictBody
from ..serving import record_of, serving_of


def add_prediction_routes(app: FastAPI) -> None:
    """Add the routes to an application."""
    app.add_api_route(
        "/v1/classifiers/{name}/predict", predict_texts, methods=["POST"], summary="Labels of texts",
        **describe(COMPUTING, PredictAnswer, PredictBody, named=True),
    )  # fmt: skip
    app.add_api_route(
        "/v1/predict", predict_with_several, methods=["POST"], summary="Labels of texts from several classifiers",
        **describe(COMPUTING, PredictAllAnswer, PredictAllBody, named=True),
    )  # fmt: skip


async def predict_texts(request: Request, name: str) -> Response:
    """Labels and probabilities of one or more texts, by one classifier."""
    serving, record = serving_of(request), record_of(request)
    body = await serving.read(PredictBody, request, record)
    return await _predict(request, [name], body, lambda found: json_answer(found[0]))


async def predict_with_several(request: Request) -> Response:
    """Labels and probabilities of the same texts by several classifiers. Layers they share are computed once."""
    serving, record = serving_of(request), record_of(request)
    body = await serving.read(PredictAllBody, request, record)
    return await _predict(request, body.classifiers, body, lambda found: json_answer({"results": found}))


async def _predict(
    request: Request,
    names: list[str],
    body: PredictBody | PredictAllBody,
    write: Callable[[list[dict[str, Any]]], Response],
) -> Response:
    serving, record = serving_of(request), record_of(request)
    serving.check_sizes(body.texts)
    classifiers = await serving.classifiers(names, record)
    for classifier in classifiers:
        refuse_abstaining(classifier, body.abstain_below)
    logits = await serving.logits(await serving.prepare(classifiers, body.texts, record), record)

    def answer() -> Response:
        return write([predictions_answer(*one, body.abstain_below) for one in zip(classifiers, logits, strict=True)])

    return await serving.with_texts(answer, record, sum(own.size for own in logits))
