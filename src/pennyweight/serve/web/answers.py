"""Bodies of answers, made from logits."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic_core import to_json
from starlette.responses import Response

from ...errors import InputError
from ...evaluate.metrics.probabilities import sigmoid, softmax
from ...predict.prediction_rows import DECIMALS, labels_reaching
from ..classifiers.served_classifier import ServedClassifier
from .schemas import HuggingFaceParameters


def json_answer(value: Any) -> Response:
    """A JSON answer with status 200."""
    return Response(to_json(value), media_type="application/json")


def refuse_abstaining(classifier: ServedClassifier, abstain_below: float | None) -> None:
    """Refuse a threshold for a multi-label classifier.

    Raises:
        InputError: for one.
    """
    if classifier.multi and abstain_below is not None:
        raise InputError(
            f"{classifier.name} is multi-label: it has a threshold for each label",
            remedy="leave out abstain_below: texts below all thresholds get no label",
        )


def predictions_answer(
    classifier: ServedClassifier, logits: np.ndarray, abstain_below: float | None = None
) -> dict[str, Any]:
    """A `PredictAnswer`: what `pennyweight predict` writes for the same texts, probabilities rounded alike.

    Args:
        logits: (N, L).
        abstain_below: a text whose likeliest label is less probable gets the label null.
    """
    probabilities = classifier.probabilities(logits)
    rounded = np.round(probabilities, DECIMALS).tolist()
    rows = [dict(zip(classifier.labels, row, strict=True)) for row in rounded]
    found: list[dict[str, Any]]
    if classifier.thresholds is not None:
        found = [
            {"labels": labels_reaching(classifier.labels, row, classifier.thresholds), "probabilities": each}
            for row, each in zip(probabilities, rows, strict=True)
        ]
    else:
        found = []
        for place, row, each in zip(probabilities.argmax(axis=1).tolist(), rounded, rows, strict=True):
            sure = abstain_below is None or row[place] >= abstain_below
            label = classifier.labels[place] if sure else None
            found.append({"label": label, "probability": row[place], "probabilities": each})
    return {"classifier": classifier.name, "version": classifier.version, "predictions": found}


def scores_answer(
    classifier: ServedClassifier, logits: np.ndarray, raw: bool, parameters: HuggingFaceParameters | None
) -> list[list[dict[str, Any]]]:
    """Of each text its labels with their scores, best first, as text-embeddings-inference answers.

    Args:
        logits: (N, L).
        raw: logits instead of probabilities.
        parameters: what a client of Hugging Face's asks for.
    """
    function = parameters.function_to_apply if parameters is not None else None
    if raw or function == "none":
        scores = logits
    elif function is None:
        scores = classifier.probabilities(logits)
    else:
        scores = sigmoid(logits) if function == "sigmoid" else softmax(logits, classifier.temperature)
    most = len(classifier.labels) if parameters is None or parameters.top_k is None else parameters.top_k
    return [
        [
            {"score": float(row[place]), "label": classifier.labels[place]}
            for place in np.argsort(-row, kind="stable")[:most].tolist()
        ]
        for row in np.asarray(scores, dtype=np.float64)
    ]
