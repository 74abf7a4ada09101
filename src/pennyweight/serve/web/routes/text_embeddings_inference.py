"""`POST /predict` and `GET /info` as text-embeddings-inference has them, so that its clients and Hugging Face's work.

Source: https://github.com/huggingface/text-embeddings-inference, router/src/http
"""

from __future__ import annotations

from fastapi import FastAPI, Query
from starlette.requests import Request
from starlette.responses import Response

from .... import __version__
from ....errors import InputError
from ...classifiers.served_folders import same_name
from ...serving_errors import UnusableClassifier
from ..answers import json_answer, scores_answer
from ..openapi import COMPUTING, LISTING, describe
from ..refusals import Refusal
from ..schemas import InputsBody, ModelInfo, Score, Text
from ..serving import record_of, serving_of

_MODEL = Query(None, description="The classifier's name, if the body does not give it.")
# What text-embeddings-inference calls them.
_NUMBER_FORMATS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def add_tei_routes(app: FastAPI) -> None:
    """Add the routes to an application."""
    app.add_api_route(
        "/predict", predict_inputs, methods=["POST"], summary="Scores as text-embeddings-inference gives them",
        **describe(COMPUTING, list[Score] | list[list[Score]], InputsBody, named=True),
    )  # fmt: skip
    app.add_api_route(
        "/info", model_info, methods=["GET"], summary="The model as text-embeddings-inference describes it",
        **describe(LISTING, ModelInfo, named=True),
    )  # fmt: skip


async def predict_inputs(request: Request, model: str | None = _MODEL) -> Response:
    """Scores of one text (a list of labels) or of several (a list of such lists), best first.

    `huggingface_hub.InferenceClient(model="http://HOST:PORT/predict").text_classification(text)` works, too. It sends
    `parameters` and gets a list of lists even for a single text, as from Hugging Face's inference API.
    """
    serving, record = serving_of(request), record_of(request)
    body = await serving.read(InputsBody, request, record)
    texts: list[Text] = body.inputs if isinstance(body.inputs, list) else [body.inputs]
    serving.check_sizes(texts)
    classifiers = await serving.classifiers([_name_of_model(request, body.model)], record)
    prepared = await serving.prepare(classifiers, texts, record)
    from_left = (body.truncation_direction or "").lower() == "left"
    if prepared.tokens[0].truncated and (body.truncate is False or from_left):
        remedy = "leave out truncate: false" if body.truncate is False else "leave out truncation_direction: Left"
        raise InputError(
            f"texts longer than the classifier's maximum length: {prepared.tokens[0].truncated}",
            expected=f"at most {classifiers[0].max_length} tokens", remedy=remedy,
        )  # fmt: skip
    (logits,) = await serving.logits(prepared, record)
    nested = isinstance(body.inputs, list) or body.parameters is not None

    def answer() -> Response:
        found = scores_answer(classifiers[0], logits, body.raw_scores, body.parameters)
        return json_answer(found if nested else found[0])

    return await serving.with_texts(answer, record, logits.size)


async def model_info(request: Request, model: str | None = _MODEL) -> Response:
    """Labels and limits of `model`, or of the only classifier."""
    serving = serving_of(request)
    described = serving.registry.describe(_name_of_model(request))
    if described["labels"] is None:
        raise UnusableClassifier(described["name"], described["problem"])
    labels, precision = list(enumerate(described["labels"])), serving.registry.runtime.precision
    return json_answer({
        "model_id": described["name"],
        "model_sha": described["version"],
        "model_dtype": _NUMBER_FORMATS.get(precision, precision),
        "model_type": {
            "classifier": {
                "id2label": {str(number): label for number, label in labels},
                "label2id": {label: number for number, label in labels},
            }
        },
        "max_concurrent_requests": serving.settings.max_requests,
        "max_input_length": described["max_length"],
        "max_batch_tokens": serving.batcher.round_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": serving.settings.max_texts,
        "auto_truncate": True,
        "tokenization_workers": serving.settings.text_threads,
        "version": __version__,
    })  # fmt: skip


def _name_of_model(request: Request, in_body: str | None = None) -> str:
    """The classifier that a request names in its URL or its body; the only one, if it names none.

    Raises:
        Refusal: status 422 for two names, or for none where there are several classifiers.
    """
    given = [same_name(name) for name in request.query_params.getlist("model")]
    given += [] if in_body is None else [in_body]
    names = list(dict.fromkeys(given))
    if not names:
        names = list(serving_of(request).registry.names())
        if len(names) != 1:
            raise Refusal(
                422, "validation", f"{len(names):,} classifiers are served", expected="the name of one as model",
                remedy="GET /v1/classifiers lists them",
            )  # fmt: skip
    if len(names) > 1:
        raise Refusal(
            422, "validation", "model: the request names several classifiers", received=", ".join(names),
            expected="one, in the body or in the URL", remedy="POST /v1/predict takes several",
        )  # fmt: skip
    return names[0]
