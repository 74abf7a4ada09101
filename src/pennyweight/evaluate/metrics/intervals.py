"""Intervals: how far a figure may be off because the test set is only a sample."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np

from ...errors import DataError

Interval = tuple[float, float]
NORMAL_95 = 1.96  # standard errors from the middle of a 95% interval to its ends


def wilson(correct: int, n: int, level: float = 0.95) -> Interval:
    """The Wilson score interval of a proportion `correct / n`.

    Unlike the textbook plus-minus it never leaves [0, 1] and does not collapse at 0% or 100%.

    Raises:
        DataError: without rows, or `correct` outside 0..n.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.
    """
    if n < 1 or not 0 <= correct <= n:
        raise DataError("a proportion needs 0 <= correct <= n and n >= 1", received=f"{correct} of {n}")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = correct / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # The ends are exact at none and all right; rounding must not push them off 0 and 1.
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == n else min(1.0, centre + half)
    return low, high


def percentile_interval(values: np.ndarray, level: float) -> Interval:
    """The middle `level` share of resampled figures `values` (R,)."""
    ends: Any = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(ends[0]), float(ends[1])


def standard_error(interval: Interval) -> float:
    """The standard error that a 95% interval stands for."""
    low, high = interval
    return (high - low) / (2 * NORMAL_95)
