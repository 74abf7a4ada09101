"""`POST /v1/classifiers/{name}/predict` and `POST /v1/predict`."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from ..answers import json_answer, predictions_answer, refuse_abstaining
from ..openapi import COMPUTING, describe
from ..schemas import PredictAllAnswer, PredictAllBody, PredictAnswer, PredictBody, Text, read_body
from ..serving import record_of, serving_of


def add_prediction_routes(app: FastAPI) -> None:
    """Add the routes to an application."""
    app.add_api_route(
        "/v1/classifiers/{name}/predict", predict_texts, methods=["POST"], summary="Labels of texts",
        **describe(COMPUTING, PredictAnswer, PredictBody, named=True),
    )  # fmt: skip
    app.add_api_route(
        "/v1/predict", predict_with_several, methods=["POST"], summary="Labels of texts by several classifiers",
        **describe(COMPUTING, PredictAllAnswer, PredictAllBody, named=True),
    )  # fmt: skip


async def predict_texts(request: Request, name: str) -> Response:
    """Labels and probabilities of one or more texts, by one classifier."""
    serving, record = serving_of(request), record_of(request)
    raw = await request.body()
    body = await serving.with_texts(partial(read_body, PredictBody, raw), record)
    (found,) = await _predict(request, [name], body.texts, body.abstain_below)
    return json_answer(found)


async def predict_with_several(request: Request) -> Response:
    """The same texts by several classifiers. Layers that they have in common are computed once."""
    serving, record = serving_of(request), record_of(request)
    raw = await request.body()
    body = await serving.with_texts(partial(read_body, PredictAllBody, raw), record)
    return json_answer({"results": await _predict(request, body.classifiers, body.texts, body.abstain_below)})


async def _predict(
    request: Request, names: list[str], texts: list[Text], abstain_below: float | None
) -> list[dict[str, Any]]:
    serving, record = serving_of(request), record_of(request)
    serving.check_sizes(texts)
    classifiers = await serving.classifiers(names, record)
    for classifier in classifiers:
        refuse_abstaining(classifier, abstain_below)
    logits = await serving.logits(await serving.prepare(classifiers, texts, record), record)
    return [
        predictions_answer(classifier, own, abstain_below)
        for classifier, own in zip(classifiers, logits, strict=True)
    ]  # fmt: skip
