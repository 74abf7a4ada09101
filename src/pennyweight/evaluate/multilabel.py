"""The figures of a test set whose rows carry any number of labels each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from .intervals import Interval, wilson
from .metrics import Averages, ClassRow


@dataclass(frozen=True)
class MultilabelMetrics:
    """What a classifier reached on `n` rows; shares are in [0, 1].

    Attributes:
        exact: rows whose labels are all right (subset accuracy), with its 95 % interval.
        hamming: wrong decisions among all rows times labels (Hamming loss).
        micro, macro, weighted, samples: averages over decisions, labels, labels by support, and rows.
        per_label: one row a label.
        log_loss: binary cross-entropy in nats a decision.
    """

    n: int
    exact: float
    exact_interval: Interval
    hamming: float
    micro: Averages
    macro: Averages
    weighted: Averages
    samples: Averages
    per_label: tuple[ClassRow, ...]
    log_loss: float


def score_multilabel(
    labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str], *, threshold: float = 0.5
) -> MultilabelMetrics:
    """Score one probability a row and label, with scikit-learn's definitions.

    Args:
        labels: (N, L) of 0 and 1.
        probabilities: (N, L), each in [0, 1] on its own; a label is given from `threshold` on.
        names: L label names.

    Raises:
        DataError: without rows, on shapes that do not fit, or values that are no labels or probabilities.
    """
    from sklearn.metrics import hamming_loss, precision_recall_fscore_support

    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if labels.ndim != 2 or labels.shape != probabilities.shape or labels.shape[1] != len(names) or not labels.size:
        raise DataError(
            "labels, probabilities and names do not fit",
            expected=f"two arrays (N, {len(names)}) with N >= 1",
            received=f"{labels.shape} and {probabilities.shape}",
        )
    if not np.isin(labels, (0, 1)).all():
        raise DataError("a label is neither 0 nor 1", received=labels[~np.isin(labels, (0, 1))][0])
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise DataError(
            "a value is no probability",
            expected="values from 0 to 1",
            remedy="if they are NaN, training diverged: lower the learning rate",
        )
    predicted = (probabilities >= threshold).astype(np.int64)  # (N, L)
    right = int((predicted == labels).all(axis=1).sum())

    def averaged(how: str) -> Averages:
        values = precision_recall_fscore_support(labels, predicted, average=how, zero_division=0)
        return Averages(*(float(value) for value in values[:3]))

    rows = precision_recall_fscore_support(labels, predicted, average=None, zero_division=0)
    tiny = np.finfo(np.float64).eps
    sure = np.clip(np.where(labels == 1, probabilities, 1 - probabilities), tiny, 1.0)
    return MultilabelMetrics(
        n=len(labels),
        exact=right / len(labels),
        exact_interval=wilson(right, len(labels)),
        hamming=float(hamming_loss(labels, predicted)),
        micro=averaged("micro"),
        macro=averaged("macro"),
        weighted=averaged("weighted"),
        samples=averaged("samples"),
        per_label=tuple(
            ClassRow(str(name), float(precision), float(recall), float(f1), int(support))
            for name, precision, recall, f1, support in zip(names, *rows, strict=True)
        ),
        log_loss=float(-np.log(sure).mean()),
    )
