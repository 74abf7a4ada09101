"""Selective prediction: thresholds below which a text gets no label."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...errors import DataError
from .calibration import confidences
from .intervals import Interval, wilson


@dataclass(frozen=True)
class RiskCoverage:
    """Answering only the most confident rows: with confidence >= `threshold[i]`, a share `coverage[i]` is answered
    and a share `risk[i]` of the answers is wrong; arrays (P,), from the strictest threshold to answering all."""

    threshold: np.ndarray
    coverage: np.ndarray
    risk: np.ndarray


@dataclass(frozen=True)
class Threshold:
    """Answering rows with confidence >= `value`: of `n` rows a share `coverage` is answered with `accuracy`."""

    value: float
    n: int
    coverage: float
    accuracy: float
    interval: Interval


@dataclass(frozen=True)
class Abstention:
    """What abstaining gives on the test rows: the whole curve and, for a target accuracy, the threshold `picked` on
    validation rows and what it does `on_test` (None when it answers no test row); `rows` says which ones these are: of
    the kind "test", or "validation" where there are no others."""

    curve: RiskCoverage
    target: float | None = None
    picked: Threshold | None = None
    on_test: Threshold | None = None
    rows: str = "test"

    def __str__(self) -> str:
        """The effect of the threshold, in sentences; empty without a target."""
        if self.target is None or self.picked is None:
            return ""
        start = (
            f"For a target accuracy of {100 * self.target:g}%, texts with a confidence of at least "
            f"{self.picked.value:.3f} get a label (chosen on {self.picked.n:,} validation texts)."
        )
        if self.on_test is None:
            return f"{start} No {self.rows} text reaches this confidence."
        low, high = (100 * end for end in self.on_test.interval)
        met = "met" if self.on_test.accuracy >= self.target else "met within the interval"
        return (
            f"{start} This labels {100 * self.on_test.coverage:.1f}% of the {self.rows} texts with an accuracy of "
            f"{100 * self.on_test.accuracy:.1f}%, 95% interval {low:.1f} to {high:.1f}: the target is "
            f"{met if self.on_test.interval[1] >= self.target else 'missed'}."
        )


def risk_coverage(labels: np.ndarray, probabilities: np.ndarray) -> RiskCoverage:
    """Errors among the answered rows for every possible threshold; rows of one confidence stand or fall together.

    Args:
        labels: (N,) true class numbers.
        probabilities: (N, L).

    Source: El-Yaniv and Wiener, "On the Foundations of Noise-free Selective Classification", JMLR 2010.
    """
    return _curve(*confidences(labels, probabilities))


def _curve(confidence: np.ndarray, correct: np.ndarray) -> RiskCoverage:
    order = np.argsort(-confidence, kind="stable")
    confidence, wrong = confidence[order], np.cumsum(~correct[order])
    last = np.flatnonzero(np.append(confidence[1:] < confidence[:-1], True))  # the last row of each confidence
    return RiskCoverage(confidence[last], (last + 1) / len(correct), wrong[last] / (last + 1))


def threshold_for(labels: np.ndarray, probabilities: np.ndarray, target: float, *, sure: float = 0.9) -> Threshold:
    """The threshold that answers most validation rows while their accuracy is at least `target`.

    A threshold picked because it just reaches the target on validation misses it elsewhere about every other time.
    So the one-sided Wilson bound of the accuracy must reach the target, at confidence `sure`; 0.5 takes the
    accuracy as it stands.

    Args:
        labels: (N,) true class numbers of the validation rows.
        probabilities: (N, L), calibrated as they will be when predicting.
        target: the wanted accuracy among the answered, in (0, 1].

    Raises:
        DataError: when no threshold reaches the target; the message names the best bound there is.
    """
    return pick_threshold(*confidences(labels, probabilities), target, sure=sure)


def pick_threshold(confidence: np.ndarray, correct: np.ndarray, target: float, *, sure: float = 0.9) -> Threshold:
    """`threshold_for` where all that was kept of the validation rows is how sure each answer was and if it was right.

    Args:
        confidence: (N,) probabilities of the predicted classes.
        correct: (N,) whether the prediction is the label.

    Raises:
        DataError: as `threshold_for`, and without rows.
    """
    if not len(correct):
        raise DataError("a threshold needs validation rows")
    picks = list(_thresholds(_curve(confidence, correct), len(correct), sure))
    reached = [pick for pick, bound in picks if bound >= target]
    if not reached:
        pick, bound = max(picks, key=lambda one: one[1])
        raise DataError(
            f"no threshold gives an accuracy of {100 * target:g}% on the {len(correct):,} validation texts",
            expected=f"a share of these texts whose accuracy reaches the target with {100 * sure:g}% confidence",
            received=f"at best {100 * bound:.1f}%, with labels for {100 * pick.coverage:.1f}% of the texts",
            remedy="lower the target accuracy or validate on more texts",
        )
    return reached[-1]


def _thresholds(curve: RiskCoverage, n: int, sure: float) -> Iterator[tuple[Threshold, float]]:
    # Halfway to the next lower confidence, so that rounding elsewhere does not push the last answered row out.
    values = (curve.threshold + np.append(curve.threshold[1:], -curve.threshold[-1])) / 2
    for value, coverage, risk in zip(values.tolist(), curve.coverage.tolist(), curve.risk.tolist(), strict=True):
        answered = round(coverage * n)
        right = round((1 - risk) * answered)
        bound = wilson(right, answered, level=2 * sure - 1)[0]
        yield Threshold(value, n, coverage, right / answered, wilson(right, answered)), bound


def answered(labels: np.ndarray, probabilities: np.ndarray, value: float) -> Threshold | None:
    """The result of a threshold on other rows, such as the test set; None if it answers none of them."""
    confidence, correct = confidences(labels, probabilities)
    kept = correct[confidence >= value]
    if not len(kept):
        return None
    return Threshold(
        value, len(labels), len(kept) / len(labels), float(kept.mean()), wilson(int(kept.sum()), len(kept))
    )
