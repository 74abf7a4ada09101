"""Was it worth it? The classifier against its baselines, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ..metrics.intervals import Interval, wilson
from ..metrics.paired_tests import Comparison, compare
from ..metrics.single_label import Metrics, score
from .baselines import FROZEN, MAJORITY, Baseline


@dataclass(frozen=True)
class BaselineRow:
    """A baseline on the test rows: shares in [0, 1], seconds, and the classifier's comparison with it.

    `rows` is the number of training rows, 0 where it is not known.
    """

    name: str
    accuracy: float
    accuracy_interval: Interval
    macro_f1: float
    seconds: float
    comparison: Comparison
    rows: int = 0

    def with_unknown(self, rows: int) -> BaselineRow:
        """The same with so many further texts, of unknown labels, that both answer wrong."""
        if not rows:
            return self
        known = self.comparison.n
        right, total = round(self.accuracy * known), known + rows
        return replace(
            self,
            accuracy=right / total,
            accuracy_interval=wilson(right, total),
            comparison=self.comparison.with_unknown(rows),
        )


@dataclass(frozen=True)
class Verdict:
    """`headline` is one plain sentence; `better` only if every baseline is beaten for certain."""

    standing: Literal["better", "unclear", "no better", "not compared"]
    headline: str


def against(
    labels: np.ndarray, probabilities: np.ndarray, baselines: Sequence[Baseline], *, seed: int = 0
) -> tuple[BaselineRow, ...]:
    """Compare a classifier with baselines on the same test rows.

    Args:
        labels: (N,) true class numbers; probabilities: (N, L) of the classifier; each baseline holds its own (N, L).

    Raises:
        DataError: on shapes that do not fit, see `metrics.score`.
    """
    names = [str(index) for index in range(probabilities.shape[1])]
    predicted = probabilities.argmax(axis=1)
    rows = []
    for one in baselines:
        metrics = score(labels, one.probabilities, names)
        name = f"the {one.name}" if one.name in (MAJORITY, FROZEN) else one.name
        guessed = one.probabilities.argmax(axis=1)
        comparison = compare(labels, guessed, predicted, names=(name, "this classifier"), seed=seed)
        rows.append(
            BaselineRow(
                one.name,
                metrics.accuracy,
                metrics.accuracy_interval,
                metrics.macro.f1,
                one.seconds,
                comparison,
                one.rows,
            )
        )
    return tuple(rows)


def verdict(metrics: Metrics, rows: Sequence[BaselineRow]) -> Verdict:
    """The verdict; the worst news decides: the majority class not beaten, then any other baseline not beaten."""
    low, high = (100 * end for end in metrics.accuracy_interval)
    accuracy = f"accuracy {100 * metrics.accuracy:.1f}%, 95% interval {low:.1f} to {high:.1f}"
    if not rows:
        return Verdict("not compared", f"This classifier was compared with no baseline ({accuracy}).")
    unbeaten = [row for row in rows if not row.comparison.second_is_better]
    if any(row.name == MAJORITY for row in unbeaten):
        share = next(100 * row.accuracy for row in unbeaten if row.name == MAJORITY)
        against_it = f"always answering the commonest label gives {share:.1f}%"
        return Verdict("no better", f"This classifier is no better than the majority class ({accuracy}; {against_it}).")
    if unbeaten:
        worst = max(unbeaten, key=lambda row: row.accuracy)
        said = str(worst.comparison)
        standing: Literal["no better", "unclear"] = "no better" if worst.comparison.first_is_better else "unclear"
        return Verdict(standing, f"Not better than every baseline: {said}.")
    best = max(rows, key=lambda row: row.accuracy)
    return Verdict("better", f"Better than every baseline tried: {best.comparison}.")
