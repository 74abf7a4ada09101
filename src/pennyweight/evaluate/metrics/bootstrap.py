"""How far the headline figures may be off: bootstrap intervals of what has no formula, and the spread over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .calibration import BINS, confidences
from .intervals import Interval, percentile_interval
from .single_label import Metrics

REPLICATIONS = 1000
# Random numbers drawn at most; past a million rows fewer replications say the same.
MOST_DRAWN = 50_000_000


@dataclass(frozen=True)
class Spread:
    """A figure over several training seeds: its values, their mean, and their standard deviation (n - 1)."""

    values: tuple[float, ...]
    mean: float
    deviation: float


def macro_f1_interval(metrics: Metrics, *, level: float = 0.95, seed: int = 0) -> Interval:
    """The percentile bootstrap interval of macro F1.

    Only a row's cell of the confusion matrix matters, so that resampling rows is drawing the cells' counts.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", chapter 13, 1993.
    """
    counts = np.asarray(metrics.confusion)  # (L, L)
    true, predicted = np.nonzero(counts)  # (K,) the cells that hold rows
    shares = counts[true, predicted] / metrics.n
    drawn = np.random.default_rng(seed).multinomial(metrics.n, shares, size=_replications(len(shares)))  # (R, K)
    every = np.arange(len(counts))
    labelled, answered = drawn @ (true[:, None] == every), drawn @ (predicted[:, None] == every)  # (R, L)
    hit = drawn @ ((true == predicted)[:, None] & (true[:, None] == every))  # (R, L)
    occurs = labelled + answered
    f1 = np.divide(2 * hit, occurs, out=np.zeros(hit.shape), where=occurs > 0)
    return percentile_interval(f1.sum(axis=1) / (occurs > 0).sum(axis=1), level)


def log_loss_interval(labels: np.ndarray, probabilities: np.ndarray, *, level: float = 0.95) -> Interval:
    """The normal interval of the mean log loss (nats a row), from the spread of the rows' own losses.

    Args:
        labels: (N,) true class numbers; probabilities: (N, L).
    """
    from statistics import NormalDist

    right = np.asarray(probabilities, dtype=np.float64)[np.arange(len(labels)), labels]
    losses = -np.log(np.maximum(right, np.finfo(np.float64).eps))  # (N,)
    error = float(losses.std(ddof=1)) / len(losses) ** 0.5 if len(losses) > 1 else float("inf")
    half = NormalDist().inv_cdf(0.5 + level / 2) * error
    mean = float(losses.mean())
    return max(0.0, mean - half), mean + half if np.isfinite(half) else float(losses.max())


def ece_interval(labels: np.ndarray, probabilities: np.ndarray, *, level: float = 0.95, seed: int = 0) -> Interval:
    """The basic bootstrap interval of the expected calibration error.

    Chance alone lifts a calibration error, a resampled one twice; the basic interval mirrors the resampled values at
    the measured one, which takes that lift out where the percentile interval would double it.

    Args:
        labels: (N,) true class numbers; probabilities: (N, L).

    Source: Davison and Hinkley, "Bootstrap Methods and their Application", chapter 5, 1997.
    """
    confidence, correct = confidences(labels, probabilities)
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gap = confidence - correct  # (N,); its sum in a bin is that bin's rows times its error

    def error(rows: np.ndarray) -> float:
        return float(np.abs(np.bincount(place[rows], gap[rows], BINS)).sum()) / len(rows)

    random = np.random.default_rng(seed)
    n = len(gap)
    values = [error(random.integers(0, n, n)) for _ in range(_replications(n))]
    low, high = percentile_interval(np.asarray(values), level)
    measured = error(np.arange(n))
    # Mirrored, and never so that the measured value itself falls outside.
    return min(measured, max(0.0, 2 * measured - high)), max(measured, 2 * measured - low)


def over_seeds(values: Sequence[float]) -> Spread:
    """Mean and spread of one figure over several seeds; with one seed the spread is zero."""
    numbers = np.asarray(values, dtype=np.float64)
    deviation = float(numbers.std(ddof=1)) if len(numbers) > 1 else 0.0
    return Spread(tuple(numbers.tolist()), float(numbers.mean()), deviation)


def _replications(n: int) -> int:
    return int(min(REPLICATIONS, max(100, MOST_DRAWN // max(1, n))))
