"""Where the classifier errs: the worst mistakes, the slices it is bad at, and test labels that may be wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np

from .intervals import Interval, wilson

MOST_SLICES = 20
BUCKETS = 5


@dataclass(frozen=True)
class Mistake:
    """One test row whose label and prediction differ; `row` counts from 0, probabilities are in [0, 1].

    `confidence` is the probability of the predicted class, `label_probability` that of the label.
    """

    row: int
    text: str
    label: str
    predicted: str
    confidence: float
    label_probability: float


@dataclass(frozen=True)
class Slice:
    """Accuracy on the `n` test rows that share something, with its 95% interval."""

    name: str
    n: int
    accuracy: float
    interval: Interval


def most_confident(
    labels: np.ndarray, probabilities: np.ndarray, texts: Sequence[str], names: Sequence[str], *, limit: int = 20
) -> tuple[Mistake, ...]:
    """The mistakes the classifier was surest of, surest first.

    Args:
        labels: (N,) true class numbers; probabilities: (N, L); texts: N; names: L.
    """
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    order = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]
    return _mistakes(order[:limit], probabilities.argmax(axis=1), labels, probabilities, texts, names)


def likely_mislabelled(
    labels: np.ndarray, probabilities: np.ndarray, texts: Sequence[str], names: Sequence[str], *, limit: int = 20
) -> tuple[Mistake, ...]:
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
    rival = other.argmax(axis=1)
    margin = other[rows, rival] - probabilities[rows, labels]
    suspicious = np.flatnonzero(margin > 0)
    order = suspicious[np.argsort(-margin[suspicious], kind="stable")]
    return _mistakes(order[:limit], rival, labels, probabilities, texts, names)


def _mistakes(
    rows: np.ndarray,
    predicted: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    texts: Sequence[str],
    names: Sequence[str],
) -> tuple[Mistake, ...]:
    return tuple(
        Mistake(
            row=row,
            text=texts[row],
            label=names[labels[row]],
            predicted=names[predicted[row]],
            confidence=float(probabilities[row, predicted[row]]),
            label_probability=float(probabilities[row, labels[row]]),
        )
        for row in rows.tolist()
    )


def by_column(labels: np.ndarray, predicted: np.ndarray, values: Sequence[object], unit: str = "") -> tuple[Slice, ...]:
    """Accuracy for each value of a column, commonest first, or by fifths where it holds many different numbers.

    Past 20 values the rarest are taken together.

    Args:
        labels, predicted: (N,) class numbers; values: N.
        unit: follows the numbers in the names of fifths, such as "tokens".
    """
    correct = labels == predicted
    counts = Counter(str(value) for value in values)
    numbers = [float(value) for value in values if isinstance(value, Real)]
    if len(counts) > 2 * BUCKETS and len(numbers) == len(values) and np.isfinite(numbers).all():
        return by_number(labels, predicted, np.array(numbers), unit)
    common = [name for name, _ in counts.most_common(MOST_SLICES if len(counts) > MOST_SLICES + 1 else None)]
    column = np.array([str(value) for value in values], dtype=object)
    parts = [_slice(name, correct[column == name]) for name in common]
    rest = ~np.isin(column, np.array(common, dtype=object))
    if rest.any():
        parts.append(_slice(f"{len(counts) - len(common):,} other values", correct[rest]))
    return tuple(parts)


def by_number(labels: np.ndarray, predicted: np.ndarray, values: np.ndarray, unit: str = "") -> tuple[Slice, ...]:
    """Accuracy by fifths of a number such as the texts' length, smallest first; equal numbers stay together.

    Args:
        labels, predicted: (N,) class numbers; values: (N,) finite numbers.
        unit: follows the numbers in the slices' names, such as "tokens".
    """
    correct = labels == predicted
    edges = np.quantile(values, np.arange(1, BUCKETS) / BUCKETS, method="inverted_cdf")  # (4,)
    place = np.searchsorted(edges, values, side="left")
    parts = []
    for index in np.unique(place).tolist():
        inside = values[place == index]
        low, high = f"{inside.min():g}", f"{inside.max():g}"
        name = low if low == high else f"{low} to {high}"
        parts.append(_slice(f"{name} {unit}".rstrip(), correct[place == index]))
    return tuple(parts)


def _slice(name: str, correct: np.ndarray) -> Slice:
    right = int(correct.sum())
    return Slice(name, len(correct), right / len(correct), wilson(right, len(correct)))
