"""The verdict: the classifier against its baselines, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..metrics.classification import Metrics
from ..metrics.intervals import Interval
from .comparison import BaselineRow, in_a_sentence


@dataclass(frozen=True)
class Verdict:
    """`headline` is one plain sentence; `better` only if every baseline is beaten for certain."""

    standing: Literal["better", "unclear", "no better", "not compared"]
    headline: str


def verdict(metrics: Metrics, intervals: Mapping[str, Interval], rows: Sequence[BaselineRow]) -> Verdict:
    """The verdict; the worst result decides: a trivial baseline not beaten, then any other baseline not beaten.

    Args:
        intervals: of `micro_f1`, where a text may carry any number of labels.
    """
    figure = _figure(metrics, intervals)
    if not rows:
        return Verdict("not compared", f"This classifier was compared with no baseline ({figure}).")
    unbeaten = [row for row in rows if not row.comparison.second_is_better]
    trivial = next((row for row in unbeaten if row.trivial), None)
    if trivial is not None:
        name = in_a_sentence(trivial.name)
        answer = "the commonest labels" if metrics.multi_label else "the commonest label"
        share = f"always predicting {answer} gives {100 * trivial.score:.1f}%"
        return Verdict("no better", f"This classifier is no better than {name} ({figure}; {share}).")
    if unbeaten:
        worst = max(unbeaten, key=lambda row: row.score)
        standing: Literal["no better", "unclear"] = "no better" if worst.comparison.first_is_better else "unclear"
        return Verdict(standing, f"Not better than every baseline: {worst.comparison}.")
    best = max(rows, key=lambda row: row.score)
    return Verdict("better", f"Better than every baseline tried: {best.comparison}.")


def _figure(metrics: Metrics, intervals: Mapping[str, Interval]) -> str:
    if metrics.micro is None:
        name, value, (low, high) = "accuracy", metrics.accuracy, metrics.accuracy_interval
    else:
        name, value, (low, high) = "micro F1", metrics.micro.f1, intervals["micro_f1"]
    return f"{name} {100 * value:.1f}%, 95% interval {100 * low:.1f} to {100 * high:.1f}"
