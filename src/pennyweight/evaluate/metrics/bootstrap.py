"""Confidence intervals of the headline figures by bootstrap, and the variation of a figure over training seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .calibration import BINS, confidences
from .classification import Metrics, averages
from .intervals import Interval, percentile_interval
from .thresholds import decide

REPLICATIONS = 1000
# Random numbers drawn at most; past a million rows fewer replications say the same.
MOST_DRAWN = 50_000_000


@dataclass(frozen=True)
class MeanAndDeviation:
    """A figure over several training seeds: its values, their mean, and their standard deviation (n - 1)."""

    values: tuple[float, ...]
    mean: float
    deviation: float


def confidence_intervals(labels: np.ndarray, probabilities: np.ndarray, metrics: Metrics) -> dict[str, Interval]:
    """95% intervals of the headline figures, by their names in `Metrics.to_json`.

    Args:
        labels: (N,) or (N, L); probabilities: (N, L); metrics: what `score` made of them.
    """
    if metrics.confusion is None:
        predicted = decide(probabilities, np.asarray(metrics.thresholds))
        return f1_intervals(labels, predicted) | {"exact_match": metrics.accuracy_interval}
    return {
        "accuracy": metrics.accuracy_interval,
        "macro_f1": macro_f1_interval(metrics.confusion),
        "log_loss": log_loss_interval(labels, probabilities),
        "ece": ece_interval(labels, probabilities),
    }


def macro_f1_interval(
    confusion: Sequence[Sequence[int]] | np.ndarray, *, level: float = 0.95, seed: int = 0
) -> Interval:
    """The percentile bootstrap interval of macro F1 with one label per text.

    Only a row's cell of the confusion matrix (L, L) matters: resampling rows is drawing the cells' counts.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", chapter 13, 1993.
    """
    counts = np.asarray(confusion)  # (L, L)
    n = int(counts.sum())
    true, predicted = np.nonzero(counts)  # (K,) the cells that hold rows
    shares = counts[true, predicted] / n
    drawn = np.random.default_rng(seed).multinomial(n, shares, size=_replications(len(shares)))  # (R, K)
    every = np.arange(len(counts))
    labelled, answered = drawn @ (true[:, None] == every), drawn @ (predicted[:, None] == every)  # (R, L)
    hit = drawn @ ((true == predicted)[:, None] & (true[:, None] == every))  # (R, L)
    occurs = labelled + answered
    f1 = np.divide(2 * hit, occurs, out=np.zeros(hit.shape), where=occurs > 0)
    return percentile_interval(f1.sum(axis=1) / (occurs > 0).sum(axis=1), level)


def paired_macro_f1(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, *, level: float = 0.95, seed: int = 0
) -> tuple[float, Interval]:
    """Macro F1 of `second` minus that of `first` on the same rows, and its percentile bootstrap interval.

    Both are computed on the same resampled rows, of which only the triple (label, first, second) matters.

    Args:
        labels, first, second: (N,) true class numbers and those that two classifiers predict.
    """
    triples, counts = np.unique(np.stack([labels, first, second], axis=1), axis=0, return_counts=True)
    n = int(counts.sum())
    drawn = np.random.default_rng(seed).multinomial(n, counts / n, size=_replications(len(counts)))
    drawn = np.concatenate([counts[None], drawn])  # (1 + R, K): the rows themselves, then resampled ones
    every = np.arange(int(triples.max()) + 1)
    is_label = triples[:, :1] == every  # (K, L)
    scores = []
    for column in (1, 2):
        is_answer = triples[:, column, None] == every
        hit, occurs = drawn @ (is_label & is_answer), drawn @ is_label + drawn @ is_answer  # (1 + R, L)
        f1 = np.divide(2 * hit, occurs, out=np.zeros(hit.shape), where=occurs > 0)
        scores.append(f1.sum(axis=1) / (occurs > 0).sum(axis=1))
    gap = scores[1] - scores[0]
    return float(gap[0]), percentile_interval(gap[1:], level)


def paired_micro_f1(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, *, level: float = 0.95, seed: int = 0
) -> tuple[float, Interval]:
    """Micro F1 of `second` minus that of `first` on the same rows, and its percentile bootstrap interval.

    Args:
        labels, first, second: (N, L) of 0 and 1: the true labels and those that two classifiers predict.
    """
    gap = resampled_f1(labels, second, seed)[0] - resampled_f1(labels, first, seed)[0]
    before, after = (averages(labels, each, "micro").f1 for each in (first, second))
    return after - before, percentile_interval(gap, level)


def log_loss_interval(labels: np.ndarray, probabilities: np.ndarray, *, level: float = 0.95) -> Interval:
    """The normal interval of the mean log loss (nats per row), from the standard deviation of the rows' losses.

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


def f1_intervals(
    labels: np.ndarray, predicted: np.ndarray, *, level: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Percentile bootstrap intervals of `micro_f1`, `macro_f1` and `hamming_loss` over rows.

    Args:
        labels, predicted: (N, L) of 0 and 1.
    """
    micro, macro, wrong = resampled_f1(labels, predicted, seed)
    return {
        "micro_f1": percentile_interval(micro, level),
        "macro_f1": percentile_interval(macro, level),
        "hamming_loss": percentile_interval(wrong, level),
    }


def resampled_f1(labels: np.ndarray, predicted: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Micro F1, macro F1 and Hamming loss (R,) of resampled rows.

    The same rows are drawn for the same seed and number of rows, so that two classifiers' values are paired.

    Args:
        labels, predicted: (N, L) of 0 and 1.
    """
    random = np.random.default_rng(seed)
    n = len(labels)
    facts = np.concatenate([labels & predicted, labels + predicted, labels ^ predicted], axis=1).astype(np.float64)
    count = labels.shape[1]
    sums = np.empty((REPLICATIONS, 3 * count))
    for one in range(REPLICATIONS):
        # How often each row is drawn says as much as which rows are.
        sums[one] = np.bincount(random.integers(0, n, n), minlength=n) @ facts
    hits, occurs, wrong = np.split(sums, 3, axis=1)  # (R, L) each
    each = np.divide(2 * hits, occurs, out=np.zeros_like(hits), where=occurs > 0)
    whole = occurs.sum(axis=1)
    micro = np.divide(2 * hits.sum(axis=1), whole, out=np.zeros(len(whole)), where=whole > 0)
    return micro, each.mean(axis=1), wrong.mean(axis=1) / n


def over_seeds(values: Sequence[float]) -> MeanAndDeviation:
    """Mean and standard deviation of one figure over several seeds; with one seed the deviation is zero."""
    numbers = np.asarray(values, dtype=np.float64)
    deviation = float(numbers.std(ddof=1)) if len(numbers) > 1 else 0.0
    return MeanAndDeviation(tuple(numbers.tolist()), float(numbers.mean()), deviation)


def _replications(n: int) -> int:
    return int(min(REPLICATIONS, max(100, MOST_DRAWN // max(1, n))))
