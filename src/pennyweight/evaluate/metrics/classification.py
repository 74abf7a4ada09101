"""The metrics of one test set, with one label per text or any number of them; definitions as in scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ...data.html_table import html_text
from ...errors import ArtifactError, DataError
from .calibration import expected_calibration_error
from .intervals import Interval, wilson
from .ranking import Ranking, ranking


@dataclass(frozen=True)
class Averages:
    """Averaged precision, recall and F1, each in [0, 1]."""

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
    """The metrics of a classifier on `n` labelled rows. Shares are in [0, 1].

    Attributes:
        accuracy: share of rows that are right; with any number of labels per text, whose labels are all right (exact
            match). Its interval is Wilson's, 95%.
        macro: average over classes; with one label per text over those that occur among the true or the predicted
            labels, as in scikit-learn, so that a class the test set lacks has no effect.
        weighted: average over classes, weighted by support.
        log_loss: nats per row; with any number of labels per text, binary cross-entropy in nats per row and label.
        unknown: further rows whose labels are not among the classes. They count as wrong in the accuracy and its
            interval only: a row without a true class has no recall, no log loss and no place in the confusion matrix.
            All other figures are those of the `n` rows.
        confusion: `confusion[i][j]` counts rows of true class i predicted as class j, in the order of `per_class`;
            None with any number of labels per text, as `ece`.
        ece: expected calibration error in 15 bins.
        micro: average over decisions; None with one label per text, as all that follow.
        samples: average over rows.
        hamming: share of wrong decisions among all rows times labels (Hamming loss).
        thresholds: the probability from which each label is given.
        ranking: ROC-AUC and average precision of two classes, or of any number of labels per text; otherwise None.
    """

    n: int
    accuracy: float
    accuracy_interval: Interval
    macro: Averages
    weighted: Averages
    per_class: tuple[ClassRow, ...]
    log_loss: float
    unknown: int = 0
    confusion: tuple[tuple[int, ...], ...] | None = None
    ece: float | None = None
    micro: Averages | None = None
    samples: Averages | None = None
    hamming: float | None = None
    thresholds: tuple[float, ...] | None = None
    ranking: Ranking | None = None

    @property
    def multi_label(self) -> bool:
        """Whether a text may carry any number of labels."""
        return self.thresholds is not None

    @property
    def names(self) -> tuple[str, ...]:
        """The class names in label order."""
        return tuple(row.name for row in self.per_class)

    @property
    def exact(self) -> float:
        """The accuracy, by the name it has where a text may carry any number of labels: exact match."""
        return self.accuracy

    def with_unknown(self, rows: int) -> Metrics:
        """The same with `rows` further rows of unknown labels, which count as wrong."""
        if not rows:
            return self
        right, total = round(self.accuracy * self.n), self.n + rows
        return replace(self, accuracy=right / total, accuracy_interval=wilson(right, total), unknown=rows)

    def __str__(self) -> str:
        """The figures as a table in plain text."""
        from ..report.metrics_table import metrics_table

        return metrics_table(self)

    def _repr_html_(self) -> str:
        return html_text(str(self))

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dump`; `from_json` gives the same Metrics back."""
        more: dict[str, Any] = {"unknown": self.unknown} if self.unknown else {}
        more |= {} if self.ranking is None else {"ranking": self.ranking.to_json()}
        if self.thresholds is None:
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
                "confusion": [list(row) for row in self.confusion or ()],
            } | more
        averages = {name: getattr(self, name) for name in ("micro", "macro", "weighted", "samples")}
        return {
            "n": self.n,
            "exact_match": self.accuracy,
            "exact_match_interval": list(self.accuracy_interval),
            "hamming_loss": self.hamming,
            **{f"{name}_f1": average.f1 for name, average in averages.items()},
            **{name: asdict(average) for name, average in averages.items()},
            "log_loss": self.log_loss,
            "per_label": [
                asdict(row) | {"threshold": threshold}
                for row, threshold in zip(self.per_class, self.thresholds, strict=True)
            ],
        } | more

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Metrics:
        """The Metrics that `to_json` wrote.

        Raises:
            ArtifactError: when a figure is missing or of the wrong kind.
        """
        try:
            common: dict[str, Any] = {
                "n": int(value["n"]),
                "macro": Averages(**value["macro"]),
                "weighted": Averages(**value["weighted"]),
                "log_loss": float(value["log_loss"]),
                "unknown": int(value.get("unknown", 0)),
                "ranking": Ranking.from_json(value["ranking"]) if "ranking" in value else None,
            }
            if "exact_match" in value:
                low, high = value["exact_match_interval"]
                rows = [dict(row) for row in value["per_label"]]
                return cls(
                    **common,
                    accuracy=float(value["exact_match"]),
                    accuracy_interval=(float(low), float(high)),
                    thresholds=tuple(float(row.pop("threshold")) for row in rows),
                    per_class=tuple(ClassRow(**row) for row in rows),
                    micro=Averages(**value["micro"]),
                    samples=Averages(**value["samples"]),
                    hamming=float(value["hamming_loss"]),
                )
            low, high = value["accuracy_interval"]
            return cls(
                **common,
                accuracy=float(value["accuracy"]),
                accuracy_interval=(float(low), float(high)),
                per_class=tuple(ClassRow(**row) for row in value["per_class"]),
                confusion=tuple(tuple(int(count) for count in row) for row in value["confusion"]),
                ece=float(value["ece"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError("the saved metrics are damaged", received=f"{type(error).__name__}: {error}") from error


def score(
    labels: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
    thresholds: np.ndarray | Sequence[float] | float | None = None,
    *,
    ranked: bool = True,
) -> Metrics:
    """Score predicted probabilities against true labels.

    Args:
        labels: (N,) true class numbers, 0 <= label < L; or (N, L) of 0 and 1, any number of labels per text.
        probabilities: (N, L); with one label per text each row sums to one, and the prediction is the most probable
            class. Otherwise each value is independent.
        names: L class names in label order.
        thresholds: the probability from which each of the L labels is given, or one for all of them; None is 0.5.
            With one label per text they have no meaning.
        ranked: whether to compute `ranking`, which takes some milliseconds per label.

    Raises:
        DataError: without rows, on shapes that do not fit, labels out of range, or values that are no probabilities.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if labels.ndim == 2:
        found = _score_multi_label(labels, probabilities, names, 0.5 if thresholds is None else thresholds)
    else:
        found = _score_single_label(labels, probabilities, names)
    return replace(found, ranking=ranking(labels, probabilities)) if ranked else found


def _score_single_label(labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str]) -> Metrics:
    from sklearn.metrics import confusion_matrix, log_loss

    labels, probabilities = checked(labels, probabilities)
    n, classes = probabilities.shape
    if len(names) != classes:
        raise DataError("names and probabilities do not fit", expected=f"{classes} names", received=len(names))
    predicted = probabilities.argmax(axis=1)  # (N,)
    every = np.arange(classes)
    correct = int((predicted == labels).sum())
    return Metrics(
        n=n,
        accuracy=correct / n,
        accuracy_interval=wilson(correct, n),
        macro=averages(labels, predicted, "macro"),
        weighted=averages(labels, predicted, "weighted"),
        per_class=_class_rows(labels, predicted, names, every),
        confusion=tuple(tuple(row) for row in confusion_matrix(labels, predicted, labels=every).tolist()),
        log_loss=float(log_loss(labels, probabilities, labels=every)),
        ece=expected_calibration_error(labels, probabilities),
    )


def _score_multi_label(
    labels: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
    thresholds: np.ndarray | Sequence[float] | float,
) -> Metrics:
    from sklearn.metrics import hamming_loss

    _check_multi_label(labels, probabilities, names)
    limits = np.broadcast_to(np.asarray(thresholds, dtype=np.float64), (len(names),))
    predicted = (probabilities >= limits).astype(np.int64)  # (N, L)
    correct = int((predicted == labels).all(axis=1).sum())
    tiny = np.finfo(np.float64).eps
    likelihoods = np.clip(np.where(labels == 1, probabilities, 1 - probabilities), tiny, 1.0)
    return Metrics(
        n=len(labels),
        accuracy=correct / len(labels),
        accuracy_interval=wilson(correct, len(labels)),
        macro=averages(labels, predicted, "macro"),
        weighted=averages(labels, predicted, "weighted"),
        per_class=_class_rows(labels, predicted, names, None),
        log_loss=float(-np.log(likelihoods).mean()),
        micro=averages(labels, predicted, "micro"),
        samples=averages(labels, predicted, "samples"),
        hamming=float(hamming_loss(labels, predicted)),
        thresholds=tuple(limits.tolist()),
    )


def averages(labels: np.ndarray, predicted: np.ndarray, how: str) -> Averages:
    """Precision, recall and F1 by scikit-learn's name of an average, 0 where undefined.

    The average over rows (`samples`) leaves out rows where a figure is undefined: those that neither have a label nor
    get one would otherwise count as wrong.

    Args:
        labels, predicted: (N,) class numbers, or (N, L) of 0 and 1.
    """
    from sklearn.metrics import precision_recall_fscore_support

    undefined = np.nan if how == "samples" else 0
    values = precision_recall_fscore_support(labels, predicted, average=how, zero_division=undefined)
    return Averages(*(float(np.nan_to_num(value)) for value in values[:3]))


def _class_rows(
    labels: np.ndarray, predicted: np.ndarray, names: Sequence[str], every: np.ndarray | None
) -> tuple[ClassRow, ...]:
    from sklearn.metrics import precision_recall_fscore_support

    rows = precision_recall_fscore_support(labels, predicted, labels=every, average=None, zero_division=0)
    return tuple(
        ClassRow(str(name), float(precision), float(recall), float(f1), int(support))
        for name, precision, recall, f1, support in zip(names, *rows, strict=True)
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


def _check_multi_label(labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str]) -> None:
    if labels.shape != probabilities.shape or labels.shape[1] != len(names) or not labels.size:
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
