"""The figures of one test set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ...errors import ArtifactError, DataError
from .calibration import expected_calibration_error
from .intervals import Interval, wilson


@dataclass(frozen=True)
class Averages:
    """Precision, recall and F1 averaged over classes, each in [0, 1]."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class ClassRow:
    """One class: precision, recall and F1 in [0, 1]; `support` is its number of test rows."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Metrics:
    """What a classifier reached on `n` labelled rows. Shares are in [0, 1], `log_loss` is in nats per row.

    `confusion[i][j]` counts rows of true class i predicted as class j, in the order of `per_class`.
    `macro` averages over the classes that occur among the true or the predicted labels, as scikit-learn does,
    so that a class the test set lacks neither helps nor hurts. `ece` is the expected calibration error in 15 bins.

    `unknown` further rows have labels that are no classes. They count as wrong in the accuracy and its interval only: a
    row without a true class has no recall, no log loss and no place in the confusion matrix, so that all other figures
    are those of the `n` rows.
    """

    n: int
    accuracy: float
    accuracy_interval: Interval
    macro: Averages
    weighted: Averages
    per_class: tuple[ClassRow, ...]
    confusion: tuple[tuple[int, ...], ...]
    log_loss: float
    ece: float
    unknown: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The class names in label order."""
        return tuple(row.name for row in self.per_class)

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dump`; `from_json` gives the same Metrics back."""
        return {
            "n": self.n,
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.accuracy_interval),
            "macro_f1": self.macro.f1,
            "weighted_f1": self.weighted.f1,
            "macro": asdict(self.macro),
            "weighted": asdict(self.weighted),
            "log_loss": self.log_loss,
            "ece": self.ece,
            "per_class": [asdict(row) for row in self.per_class],
            "confusion": [list(row) for row in self.confusion],
        } | ({"unknown": self.unknown} if self.unknown else {})

    def with_unknown(self, rows: int) -> Metrics:
        """The same with so many further rows, of unknown labels, that count as wrong."""
        if not rows:
            return self
        right = sum(self.confusion[place][place] for place in range(len(self.confusion)))
        total = self.n + rows
        return replace(self, accuracy=right / total, accuracy_interval=wilson(right, total), unknown=rows)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Metrics:
        """The Metrics that `to_json` wrote.

        Raises:
            ArtifactError: when a figure is missing or of the wrong kind.
        """
        try:
            low, high = value["accuracy_interval"]
            return cls(
                n=int(value["n"]),
                accuracy=float(value["accuracy"]),
                accuracy_interval=(float(low), float(high)),
                macro=Averages(**value["macro"]),
                weighted=Averages(**value["weighted"]),
                per_class=tuple(ClassRow(**row) for row in value["per_class"]),
                confusion=tuple(tuple(int(count) for count in row) for row in value["confusion"]),
                log_loss=float(value["log_loss"]),
                ece=float(value["ece"]),
                unknown=int(value.get("unknown", 0)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError("the saved metrics are damaged", received=f"{type(error).__name__}: {error}") from error


def score(labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str]) -> Metrics:
    """Score predicted probabilities against true labels, with scikit-learn's definitions.

    Args:
        labels: (N,) true class numbers, 0 <= label < L.
        probabilities: (N, L), each row summing to one; the prediction is the most probable class.
        names: L class names in label order.

    Raises:
        DataError: without rows, on shapes that do not fit, labels out of range, or rows that are no probabilities.
    """
    from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support

    labels, probabilities = checked(labels, probabilities)
    n, classes = probabilities.shape
    if len(names) != classes:
        raise DataError("names and probabilities do not fit", expected=f"{classes} names", received=len(names))
    predicted = probabilities.argmax(axis=1)  # (N,)
    every = np.arange(classes)
    correct = int((predicted == labels).sum())
    rows = precision_recall_fscore_support(labels, predicted, labels=every, zero_division=0)

    def averaged(how: str) -> Averages:
        values = precision_recall_fscore_support(labels, predicted, average=how, zero_division=0)
        return Averages(*(float(value) for value in values[:3]))

    return Metrics(
        n=n,
        accuracy=correct / n,
        accuracy_interval=wilson(correct, n),
        macro=averaged("macro"),
        weighted=averaged("weighted"),
        per_class=tuple(
            ClassRow(str(name), float(precision), float(recall), float(f1), int(support))
            for name, precision, recall, f1, support in zip(names, *rows, strict=True)
        ),
        confusion=tuple(tuple(row) for row in confusion_matrix(labels, predicted, labels=every).tolist()),
        log_loss=float(log_loss(labels, probabilities, labels=every)),
        ece=expected_calibration_error(labels, probabilities),
    )


def checked(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) as int64 and probabilities (N, L) as float64 with rows summing to one exactly.

    Raises:
        DataError: as in `score`.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if probabilities.ndim != 2 or probabilities.shape[1] < 2 or labels.shape != probabilities.shape[:1]:
        raise DataError(
            "labels and probabilities do not fit",
            expected="shapes (N,) and (N, L) with L >= 2",
            received=f"{labels.shape} and {probabilities.shape}",
        )
    if len(labels) == 0:
        raise DataError("there are no rows to score", remedy="give a test file with labelled rows")
    classes = probabilities.shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        outside = labels[(labels < 0) | (labels >= classes)][0]
        raise DataError("a label is out of range", expected=f"0 to {classes - 1}", received=int(outside))
    sums = probabilities.sum(axis=1)
    # 1e-2 admits probabilities rounded in half precision; the negation also catches NaN.
    bad = np.flatnonzero(~((np.abs(sums - 1) < 1e-2) & (probabilities >= 0).all(axis=1)))
    if bad.size:
        raise DataError(
            "a row holds no probabilities",
            expected="values from 0 to 1 that sum to 1",
            received=f"{probabilities[bad[0]].tolist()[:8]} in row {bad[0]}",
            remedy="if they are NaN, training diverged: lower the learning rate",
        )
    return labels.astype(np.int64), probabilities / sums[:, None]
