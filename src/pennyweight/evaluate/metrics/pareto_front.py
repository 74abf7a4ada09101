"""The Pareto front: entries that no other beats in both quality and price."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pareto_front(scores: Sequence[float], prices: Sequence[float]) -> np.ndarray:
    """(N,) whether none of the others has at least this score at no higher price, and is better in one of them.

    Args:
        scores: N, more is better; prices: N, less is better.
    """
    score, price = np.asarray(scores, dtype=np.float64), np.asarray(prices, dtype=np.float64)
    no_worse = (score[:, None] >= score) & (price[:, None] <= price)  # (N, N): the row against the column
    better = (score[:, None] > score) | (price[:, None] < price)
    return np.logical_not((no_worse & better).any(axis=0))
