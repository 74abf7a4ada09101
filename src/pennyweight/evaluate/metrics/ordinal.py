"""Metrics of ordered classes: how many ranks predictions are off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .bootstrap import REPLICATIONS
from .intervals import Interval, percentile_interval


@dataclass(frozen=True)
class Ordinal:
    """Figures that know the order of the classes, with 95% bootstrap intervals over rows.

    Attributes:
        mean_absolute_error: ranks between the prediction and the label, on average.
        quadratic_kappa: agreement beyond chance, a mistake weighing its squared ranks; 1 is perfect, 0 is chance.
    """

    mean_absolute_error: float
    mean_absolute_error_interval: Interval
    quadratic_kappa: float
    quadratic_kappa_interval: Interval

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def __str__(self) -> str:
        """One line."""
        low, high = self.mean_absolute_error_interval
        below, above = self.quadratic_kappa_interval
        return (
            f"mean absolute error {self.mean_absolute_error:.3f} ranks (95% interval {low:.3f} to {high:.3f}), "
            f"quadratic kappa {self.quadratic_kappa:.3f} ({below:.3f} to {above:.3f})"
        )


def ordinal(confusion: Sequence[Sequence[int]] | np.ndarray, *, seed: int = 0) -> Ordinal:
    """The figures of a confusion matrix (L, L) whose classes are in order.

    Where labels and predictions are all of one class, the kappa has no meaning and is given as 0.

    Source: Cohen, "Weighted kappa", Psychological Bulletin 1968; scikit-learn's `cohen_kappa_score`.
    """
    counts = np.asarray(confusion, dtype=np.float64)  # (L, L)
    n = int(counts.sum())
    drawn = np.random.default_rng(seed).multinomial(n, counts.ravel() / n, size=REPLICATIONS)
    resampled = drawn.reshape(-1, *counts.shape).astype(np.float64)
    return Ordinal(
        float(_error(counts[None])[0]),
        percentile_interval(_error(resampled), 0.95),
        float(_kappa(counts[None])[0]),
        percentile_interval(_kappa(resampled), 0.95),
    )


def _error(counts: np.ndarray) -> np.ndarray:
    """(R,) mean ranks of confusion matrices (R, L, L)."""
    ranks = np.abs(np.subtract.outer(*(np.arange(counts.shape[1]),) * 2))
    found: np.ndarray = (counts * ranks).sum(axis=(1, 2)) / counts.sum(axis=(1, 2))
    return found


def _kappa(counts: np.ndarray) -> np.ndarray:
    """(R,) quadratic kappas of confusion matrices (R, L, L)."""
    weights = np.subtract.outer(*(np.arange(counts.shape[1]),) * 2) ** 2
    chance = counts.sum(axis=2)[:, :, None] * counts.sum(axis=1)[:, None, :] / counts.sum(axis=(1, 2))[:, None, None]
    expected = (chance * weights).sum(axis=(1, 2))
    observed = (counts * weights).sum(axis=(1, 2))
    found: np.ndarray = 1 - np.divide(observed, expected, out=np.ones_like(observed), where=expected > 0)
    return found
