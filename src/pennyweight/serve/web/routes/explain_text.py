"""`POST /v1/classifiers/{name}/explain`."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from ....predict.explanation import Erasures, check_label, erase_words
from ...classifiers.served_classifier import ServedClassifier
from ..answers import json_answer
from ..openapi import COMPUTING, describe
from ..schemas import ExplainAnswer, ExplainBody, Text
from ..serving import Prepared, characters, record_of, refuse_other_kind, serving_of


def add_explanation_route(app: FastAPI) -> None:
    """Add the route to an application."""
    app.add_api_route(
        "/v1/classifiers/{name}/explain", explain_text, methods=["POST"], summary="Weights of a text's words for a "
        "label",
        **describe(COMPUTING, ExplainAnswer, ExplainBody, named=True),
    )  # fmt: skip


async def explain_text(request: Request, name: str) -> Response:
    """Show which words of a text speak for a label and which speak against it, as `pennyweight explain` does.

    Repeats the prediction without each word in turn: a text of 100 words takes as long as 101 texts.
    """
    serving, record = serving_of(request), record_of(request)
    body = await serving.read(ExplainBody, request, record)
    serving.check_sizes([body.text])
    (classifier,) = await serving.classifiers([name], record)
    refuse_other_kind(classifier, [body.text])
    check_label(body.label, classifier.labels)
    # The text comes back once for each of its words.
    size = characters(body.text) ** 2 // 8
    erasures, prepared = await serving.with_texts(partial(_variants, classifier, body.text), record, size)
    record.texts, record.tokens = len(prepared.tokens[0]), len(prepared.tokens[0].ids)
    (logits,) = await serving.logits(prepared, record)
    found = erasures.weigh(
        logits, classifier.labels, multi=classifier.multi, temperature=classifier.temperature, label=body.label
    )
    return json_answer({"classifier": classifier.name, "version": classifier.version} | asdict(found))


def _variants(classifier: ServedClassifier, text: Text) -> tuple[Erasures, Prepared]:
    """The text as the classifier reads it, and it without each of its words, in tokens.

    Cleaned once: without a word, what is left might look like markup.
    """
    erasures = erase_words(classifier.cleaned([text])[0])
    tokens = classifier.encoded(erasures.variants)
    return erasures, Prepared((classifier,), (tokens,), (0,))
