"""The threshold of each label in multi-label classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import ArtifactError, DataError

FIXED = 0.5
# Rounds over the labels when all of them share one F1; it hardly ever moves after the second.
ROUNDS = 10

#: What thresholds are tuned for: `macro_f1`, `micro_f1`, `fixed`, or a `Target` as it is written, `precision=0.9`.
Objective = str


@dataclass(frozen=True)
class Target:
    """The least `share` in (0, 1] that `figure`, precision or recall, has to reach on the validation rows."""

    figure: str
    share: float

    @classmethod
    def of(cls, objective: Objective) -> Target | None:
        """The target that an objective names, if it does."""
        figure, named, share = objective.partition("=")
        return cls(figure, float(share)) if named else None

    def __str__(self) -> str:
        return f"{self.figure} {100 * self.share:g}%"


@dataclass(frozen=True)
class TargetThreshold:
    """The threshold chosen for a target, and what it gives on the rows that it was chosen on.

    Attributes:
        value: the probability from which the label is given.
        right, given, carried: rows that carry the label among those that get it; that get it; that carry it.
        reached: whether it meets the target; otherwise it is the one of the highest precision.
    """

    value: float
    right: int
    given: int
    carried: int
    reached: bool

    @property
    def precision(self) -> float:
        return self.right / max(1, self.given)

    @property
    def recall(self) -> float:
        return self.right / max(1, self.carried)


def decide(probabilities: np.ndarray, thresholds: np.ndarray | None) -> np.ndarray:
    """Predictions from probabilities (N, L): (N, L) of 0 and 1 by thresholds (L,); without them (N,) classes."""
    predicted: np.ndarray
    predicted = probabilities.argmax(axis=1) if thresholds is None else (probabilities >= thresholds).astype(np.int64)
    return predicted


def tune_thresholds(labels: np.ndarray, probabilities: np.ndarray, objective: Objective = "macro_f1") -> np.ndarray:
    """One threshold a label, chosen where F1 is best on rows that were not trained on.

    A threshold stands half-way between the two neighbouring probabilities; of equally good ones the nearest to 0.5 is
    taken. A label that no row carries keeps 0.5: nothing is known about it.

    Args:
        labels: (N, L) of 0 and 1.
        probabilities: (N, L).
        objective: each label's own F1, whose mean is macro F1; the F1 of all decisions; 0.5 for every label; or a
            target for each label, see `threshold_for_target`.

    Returns:
        (L,) thresholds strictly between 0 and 1.

    Raises:
        DataError: without rows to tune on, or on shapes that do not fit.

    Source: Lipton, Elkan and Naryanaswamy, "Optimal Thresholding of Classifiers to Maximize F1 Measure", 2014,
    https://arxiv.org/abs/1402.1892
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if labels.ndim != 2 or labels.shape != probabilities.shape or not (len(labels) or objective == "fixed"):
        raise DataError("labels and probabilities do not fit", received=f"{labels.shape} and {probabilities.shape}")
    count = labels.shape[1]
    chosen = np.full(count, FIXED)
    if objective == "fixed":
        return chosen
    target = Target.of(objective)
    if target is not None:
        each = (threshold_for_target(labels[:, one], probabilities[:, one], target) for one in range(count))
        return np.array([found.value if found.carried else FIXED for found in each])
    cuts = [_cuts(labels[:, one], probabilities[:, one]) for one in range(count)]
    seen = labels.sum(axis=0)  # (L,) rows that carry each label
    hits, given = np.zeros(count), np.zeros(count)  # (L,) right answers and answers at the chosen thresholds
    for one, (values, right, answers) in enumerate(cuts):
        if not seen[one]:
            given[one] = answers[int(np.abs(values - FIXED).argmin())]
            continue
        place = _best(2 * right / (answers + seen[one]), values)
        chosen[one] = values[place]
        hits[one], given[one] = right[place], answers[place]
    if objective == "macro_f1":
        return chosen
    for _ in range(ROUNDS):
        before = chosen.copy()
        for one, (values, right, answers) in enumerate(cuts):
            if not seen[one]:
                continue
            others = hits.sum() - hits[one], given.sum() - given[one]
            place = _best(2 * (others[0] + right) / (others[1] + answers + seen.sum()), values)
            chosen[one], hits[one], given[one] = values[place], right[place], answers[place]
        if (chosen == before).all():
            break
    return chosen


def threshold_for_target(labels: np.ndarray, probabilities: np.ndarray, target: Target) -> TargetThreshold:
    """For a precision the threshold of the highest recall that reaches it, for a recall that of the highest precision.

    A recall can always be reached. Where no threshold has the precision, the one of the highest precision is taken.

    Args:
        labels: (N,) of 0 and 1; probabilities: (N,).
    """
    values, right, given = _cuts(labels, np.asarray(probabilities, dtype=np.float64))
    values, right, given = values[1:], right[1:], given[1:]  # the first threshold gives the label to no row
    carried = int(np.sum(labels))
    precision, recall = right / given, right / max(1, carried)
    meets = (precision if target.figure == "precision" else recall) >= target.share - 1e-12
    reached = bool(carried and meets.any())
    first, second = (recall, precision) if reached and target.figure == "precision" else (precision, recall)
    kept = np.flatnonzero(meets) if reached else np.arange(len(values))
    best = kept[np.lexsort((values[kept], second[kept], first[kept]))[-1]]
    return TargetThreshold(float(values[best]), int(right[best]), int(given[best]), carried, reached)


def out_of_reach(
    labels: np.ndarray, probabilities: np.ndarray, objective: Objective, names: Sequence[str]
) -> tuple[str, ...]:
    """Names of the labels for which no threshold reaches the target on these rows; empty without a target.

    Args:
        labels: (N, L) of 0 and 1; probabilities: (N, L); names: L label names.
    """
    target = Target.of(objective)
    if target is None:
        return ()
    each = (threshold_for_target(labels[:, one], probabilities[:, one], target) for one in range(len(names)))
    return tuple(name for name, found in zip(names, each, strict=True) if not found.reached)


def saved_thresholds(metrics: Mapping[str, Any], count: int) -> np.ndarray:
    """(L,) thresholds as metrics.json holds them; 0.5 where it holds none.

    Raises:
        ArtifactError: when they are not L numbers between 0 and 1.
    """
    saved = metrics.get("thresholds", {})
    values = saved.get("values") if isinstance(saved, dict) else saved
    if values is None:
        return np.full(count, FIXED)
    plain = isinstance(values, list) and all(type(value) in (int, float) and 0 < value < 1 for value in values)
    if not plain or len(values) != count:
        raise ArtifactError("the saved thresholds are damaged", expected=f"{count} numbers between 0 and 1")
    return np.array(values, dtype=np.float64)


def _cuts(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All thresholds that differ in what they answer: their values, right answers and answers, each (K,)."""
    order = np.argsort(-probabilities, kind="stable")
    ranked = probabilities[order]
    last = np.flatnonzero(np.append(ranked[:-1] > ranked[1:], True))  # the last row of each run of equal values
    after = np.append(ranked[last[:-1] + 1], 0.0)
    values = np.append((1.0 + ranked[0]) / 2, (ranked[last] + after) / 2)  # the first answers nothing
    right = np.append(0, np.cumsum(labels[order])[last])
    tiny = np.finfo(np.float64).tiny
    return np.clip(values, tiny, 1 - np.finfo(np.float64).eps), right, np.append(0, last + 1)


def _best(f1: np.ndarray, values: np.ndarray) -> int:
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    return int(best[np.abs(values[best] - FIXED).argmin()])
