"""Misclassified texts: those the classifier was most confident about, and those whose label may be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Misclassified:
    """One test row whose label and prediction differ; `row` counts from 0, probabilities are in [0, 1].

    `confidence` is the probability of the predicted class, `label_probability` that of the label.
    """

    row: int
    text: str
    label: str
    predicted: str
    confidence: float
    label_probability: float


def most_confident(
    labels: np.ndarray, probabilities: np.ndarray, texts: Sequence[str], names: Sequence[str], *, limit: int = 20
) -> tuple[Misclassified, ...]:
    """The misclassified texts with the highest confidence, highest first.

    Args:
        labels: (N,) true class numbers; probabilities: (N, L); texts: N; names: L.
    """
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    order = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]
    return _rows(order[:limit], predicted, labels, probabilities, texts, names)


def likely_mislabelled(
    labels: np.ndarray, probabilities: np.ndarray, texts: Sequence[str], names: Sequence[str], *, limit: int = 20
) -> tuple[Misclassified, ...]:
    """Test rows whose label may be wrong, most suspicious first: candidates to read, not verdicts.

    A row is suspicious when the classifier gives another class at least the probability that rows labelled with that
    class get on average, and prefers it to the label. Ranked by how far it prefers it.

    Args:
        labels: (N,) true class numbers; probabilities: (N, L); texts: N; names: L.

    Source: Northcutt, Jiang and Chuang, "Confident Learning", JAIR 2021.
    """
    rows = np.arange(len(labels))
    usual = np.full(probabilities.shape[1], np.inf)  # (L,), out of reach for a class without rows
    for label in np.unique(labels).tolist():
        usual[label] = probabilities[labels == label, label].mean()
    other = np.where(probabilities >= usual, probabilities, -np.inf)  # (N, L)
    other[rows, labels] = -np.inf
    preferred = other.argmax(axis=1)
    margin = other[rows, preferred] - probabilities[rows, labels]
    suspicious = np.flatnonzero(margin > 0)
    order = suspicious[np.argsort(-margin[suspicious], kind="stable")]
    return _rows(order[:limit], preferred, labels, probabilities, texts, names)


def _rows(
    rows: np.ndarray,
    predicted: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    texts: Sequence[str],
    names: Sequence[str],
) -> tuple[Misclassified, ...]:
    return tuple(
        Misclassified(
            row=row,
            text=texts[row],
            label=names[labels[row]],
            predicted=names[predicted[row]],
            confidence=float(probabilities[row, predicted[row]]),
            label_probability=float(probabilities[row, labels[row]]),
        )
        for row in rows.tolist()
    )
