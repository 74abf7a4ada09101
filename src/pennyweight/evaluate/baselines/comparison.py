"""The classifier against each baseline on the same test rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..metrics.bootstrap import paired_macro_f1, resampled_f1
from ..metrics.classification import Metrics, score
from ..metrics.intervals import percentile_interval
from ..metrics.paired_tests import Comparison, compare
from ..metrics.thresholds import Objective, tune_thresholds
from .baseline import Baseline
from .linear_probe import LINEAR_PROBE
from .majority import COMMONEST, MAJORITY


@dataclass(frozen=True)
class BaselineRow:
    """A baseline's metrics on the test rows, and the classifier's comparison with it.

    Attributes:
        comparison: comparison of the accuracy; of micro F1 where a text may carry any number of labels.
        seconds: to train and predict; `rows`: the number of training rows, 0 where it is not known.
        trivial: whether the baseline does without the texts.
        macro_f1: the comparison of macro F1, with one label per text.
    """

    name: str
    metrics: Metrics
    comparison: Comparison
    seconds: float
    rows: int = 0
    trivial: bool = False
    macro_f1: Comparison | None = None

    @property
    def score(self) -> float:
        """The score for ranking baselines: micro F1 for multi-label classifiers, otherwise accuracy."""
        return self.metrics.accuracy if self.metrics.micro is None else self.metrics.micro.f1

    def with_unknown(self, rows: int) -> BaselineRow:
        """The same with `rows` further texts of unknown labels, which both get wrong."""
        return replace(self, metrics=self.metrics.with_unknown(rows), comparison=self.comparison.with_unknown(rows))

    def to_json(self) -> dict[str, Any]:
        """Plain values, as in metrics.json."""
        found: dict[str, Any] = {"name": self.name, "rows": self.rows}
        accuracy, interval = self.metrics.accuracy, list(self.metrics.accuracy_interval)
        if self.metrics.micro is None:
            found |= {"accuracy": accuracy, "accuracy_interval": interval, "macro_f1": self.metrics.macro.f1}
        else:
            found |= {"micro_f1": self.metrics.micro.f1, "macro_f1": self.metrics.macro.f1}
            found |= {"exact_match": accuracy, "exact_match_interval": interval}
        found |= {
            "seconds": round(self.seconds, 3),
            "difference": self.comparison.difference,
            "difference_interval": list(self.comparison.interval),
        }
        if self.macro_f1 is not None:
            found |= {
                "macro_f1_difference": self.macro_f1.difference,
                "macro_f1_difference_interval": list(self.macro_f1.interval),
            }
        return found if self.comparison.p is None else found | {"p": self.comparison.p}


def compare_with_baselines(
    labels: np.ndarray,
    predicted: np.ndarray,
    baselines: Sequence[Baseline],
    *,
    validation: np.ndarray | None = None,
    objective: Objective = "macro_f1",
    unknown: int = 0,
) -> tuple[BaselineRow, ...]:
    """Compare a classifier with baselines on the same test rows.

    Args:
        labels, predicted: (N,) true and predicted class numbers; or (N, L) of 0 and 1.
        validation: (V, L) labels of the validation rows, on which the baselines' thresholds are tuned, where a text
            may carry any number of labels; without them the thresholds are 0.5.
        objective: what the thresholds are tuned for.
        unknown: further rows of unknown labels, which count as wrong.

    Raises:
        DataError: on shapes that do not fit, see `score`.
    """
    if not baselines:
        return ()
    ours = resampled_f1(labels, predicted, 0)[0] if labels.ndim == 2 else np.empty(0)
    rows = []
    for one in baselines:
        if labels.ndim == 1:
            metrics, comparison = _compare_accuracy(labels, predicted, one)
            macro = _compare_macro_f1(labels, predicted, one)
        else:
            thresholds = _thresholds(one, validation, objective)
            metrics, comparison = _compare_micro_f1(labels, predicted, ours, one, thresholds)
            macro = None
        rows.append(BaselineRow(one.name, metrics, comparison, one.seconds, one.rows, one.trivial, macro))
    return tuple(row.with_unknown(unknown) for row in rows)


def _compare_accuracy(labels: np.ndarray, predicted: np.ndarray, baseline: Baseline) -> tuple[Metrics, Comparison]:
    names = [str(number) for number in range(baseline.probabilities.shape[1])]
    guessed = baseline.probabilities.argmax(axis=1)
    compared = compare(labels, guessed, predicted, names=(in_a_sentence(baseline.name), "this classifier"))
    return score(labels, baseline.probabilities, names, ranked=False), compared


def _compare_macro_f1(labels: np.ndarray, predicted: np.ndarray, baseline: Baseline) -> Comparison:
    gap, interval = paired_macro_f1(labels, baseline.probabilities.argmax(axis=1), predicted)
    name = in_a_sentence(baseline.name)
    return Comparison(name, "this classifier", len(labels), gap, interval, figure="macro F1")


def _compare_micro_f1(
    labels: np.ndarray, predicted: np.ndarray, resampled: np.ndarray, baseline: Baseline, thresholds: np.ndarray
) -> tuple[Metrics, Comparison]:
    """`resampled` (R,) are the classifier's micro F1 on resampled rows."""
    names = [str(number) for number in range(labels.shape[1])]
    ours = score(labels, predicted.astype(np.float64), names, ranked=False)
    theirs = score(labels, baseline.probabilities, names, thresholds, ranked=False)
    guessed = (baseline.probabilities >= thresholds).astype(np.int64)
    # Both on the same resampled rows: what is hard for both does not widen the interval.
    gap = resampled - resampled_f1(labels, guessed, 0)[0]
    assert ours.micro is not None
    assert theirs.micro is not None
    return theirs, Comparison(
        in_a_sentence(baseline.name),
        "this classifier",
        len(labels),
        ours.micro.f1 - theirs.micro.f1,
        percentile_interval(gap, 0.95),
        figure="micro F1",
    )


def _thresholds(baseline: Baseline, validation: np.ndarray | None, objective: Objective) -> np.ndarray:
    """(L,) tuned as the classifier's; always for micro F1 where the baseline does without the texts."""
    count = baseline.probabilities.shape[1]
    if validation is None or baseline.validation is None or not len(validation):
        return tune_thresholds(np.empty((0, count)), np.empty((0, count)), "fixed")
    return tune_thresholds(validation, baseline.validation, "micro_f1" if baseline.trivial else objective)


def in_a_sentence(name: str) -> str:
    """A baseline's name with its article, where it has one."""
    return f"the {name}" if name in (MAJORITY, COMMONEST, LINEAR_PROBE) else name
