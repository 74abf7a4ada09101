"""The figures of a test set whose rows carry any number of labels each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ...errors import ArtifactError, DataError
from .intervals import Interval, wilson
from .single_label import Averages, ClassRow


@dataclass(frozen=True)
class MultilabelMetrics:
    """What a classifier reached on `n` rows; shares are in [0, 1].

    Attributes:
        exact: rows whose labels are all right (subset accuracy), with its 95% interval.
        hamming: wrong decisions among all rows times labels (Hamming loss).
        micro, macro, weighted, samples: averages over decisions, labels, labels by support, and rows.
        per_label: one row a label.
        log_loss: binary cross-entropy in nats a decision.
        thresholds: from which probability on each label is given.
        unknown: further rows with a label that is none of the names. They count as wrong in the exact match and its
            interval only; all other figures are those of the `n` rows.
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
    thresholds: tuple[float, ...] = ()
    unknown: int = 0

    @property
    def accuracy(self) -> float:
        """The exact match, which is what accuracy means here."""
        return self.exact

    @property
    def accuracy_interval(self) -> Interval:
        """Of the exact match, 95% Wilson."""
        return self.exact_interval

    @property
    def names(self) -> tuple[str, ...]:
        """The label names in order."""
        return tuple(row.name for row in self.per_label)

    @property
    def ranked(self) -> list[tuple[ClassRow, float]]:
        """The labels with their thresholds, the worst F1 first."""
        return sorted(zip(self.per_label, self.thresholds, strict=True), key=lambda pair: pair[0].f1)

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dump`; `from_json` gives the same figures back."""
        averages = {name: getattr(self, name) for name in ("micro", "macro", "weighted", "samples")}
        return {
            "n": self.n,
            "exact_match": self.exact,
            "exact_match_interval": list(self.exact_interval),
            "hamming_loss": self.hamming,
            **{f"{name}_f1": average.f1 for name, average in averages.items()},
            **{name: asdict(average) for name, average in averages.items()},
            "log_loss": self.log_loss,
            "per_label": [
                asdict(row) | {"threshold": threshold}
                for row, threshold in zip(self.per_label, self.thresholds, strict=True)
            ],
        } | ({"unknown": self.unknown} if self.unknown else {})

    def with_unknown(self, rows: int) -> MultilabelMetrics:
        """The same with so many further rows, of unknown labels, that count as wrong."""
        if not rows:
            return self
        right, total = round(self.exact * self.n), self.n + rows
        return replace(self, exact=right / total, exact_interval=wilson(right, total), unknown=rows)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> MultilabelMetrics:
        """The figures that `to_json` wrote.

        Raises:
            ArtifactError: when a figure is missing or of the wrong kind.
        """
        try:
            low, high = value["exact_match_interval"]
            rows = [dict(row) for row in value["per_label"]]
            return cls(
                n=int(value["n"]),
                exact=float(value["exact_match"]),
                exact_interval=(float(low), float(high)),
                hamming=float(value["hamming_loss"]),
                **{name: Averages(**value[name]) for name in ("micro", "macro", "weighted", "samples")},
                thresholds=tuple(float(row.pop("threshold")) for row in rows),
                per_label=tuple(ClassRow(**row) for row in rows),
                log_loss=float(value["log_loss"]),
                unknown=int(value.get("unknown", 0)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError("the saved metrics are damaged", received=f"{type(error).__name__}: {error}") from error


def score_multilabel(
    labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str], *, threshold: float | Sequence[float] = 0.5
) -> MultilabelMetrics:
    """Score one probability a row and label, with scikit-learn's definitions.

    Args:
        labels: (N, L) of 0 and 1.
        probabilities: (N, L), each in [0, 1] on its own; a label is given from `threshold` on, its own
            where there are L of them.
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
    thresholds = np.broadcast_to(np.asarray(threshold, dtype=np.float64), (len(names),))
    predicted = (probabilities >= thresholds).astype(np.int64)  # (N, L)
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
        thresholds=tuple(thresholds.tolist()),
    )
