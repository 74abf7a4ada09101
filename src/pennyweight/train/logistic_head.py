"""Logistic regression on pooled vectors, as a linear head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..evaluate.baselines.logistic_regression import fit_regression
from ..evaluate.metrics.calibration import row_losses
from ..model.heads import Head


@dataclass(frozen=True)
class LogisticHead:
    """A fitted linear head.

    Attributes:
        weight: (L, H); bias: (L,).
    """

    weight: np.ndarray
    bias: np.ndarray

    def logits(self, features: np.ndarray) -> np.ndarray:
        """(N, L) of features (N, H)."""
        found: np.ndarray = features @ self.weight.T + self.bias
        return found

    def scaled(self, factor: float) -> LogisticHead:
        """The same labels with logits `factor` times as large."""
        return LogisticHead(self.weight * factor, self.bias * factor)

    def put_into(self, head: Head) -> None:
        """Give a linear head these values."""
        with torch.no_grad():
            head.out.weight.copy_(torch.from_numpy(self.weight))
            head.out.bias.copy_(torch.from_numpy(self.bias))


def fit_logistic_head(features: np.ndarray, labels: np.ndarray, n_labels: int, strength: float) -> LogisticHead:
    """Logistic regression on features brought to a mean length of 1, which the head's weights then undo.

    Vectors of exactly unit length would need a head that divides by each text's own length; they gain little
    (docs/log.md).

    Args:
        features: (N, H).
        labels: (N,) class numbers below `n_labels`, of at least two classes; or (N, L) of 0 and 1, where each label has
            a regression of its own.
        strength: C of scikit-learn, the inverse of the penalty.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    length = float(np.linalg.norm(features, axis=1).mean()) or 1.0
    unit = features / length
    if labels.ndim == 2:
        with threadpool_limits(1):  # the same sums whatever else the machine does
            fitted = [_of_one_label(unit, column, strength) for column in labels.T]
        weight = np.stack([row for row, _ in fitted]) / length
        return LogisticHead(weight.astype(np.float32), np.array([bias for _, bias in fitted], dtype=np.float32))
    with threadpool_limits(1):
        model = fit_regression(unit, labels, strength)
    rows, bias = model.coef_ / length, model.intercept_
    if len(model.classes_) == 2:  # scikit-learn gives one row of two
        rows, bias = np.concatenate([-rows, rows]) / 2, np.concatenate([-bias, bias]) / 2
    # A class without rows is the last that would be predicted.
    every_bias = np.full(n_labels, float(bias.min()) - 10.0, dtype=np.float32)
    every_row = np.zeros((n_labels, features.shape[1]), dtype=np.float32)
    every_row[model.classes_], every_bias[model.classes_] = rows, bias
    return LogisticHead(every_row, every_bias)


def _of_one_label(features: np.ndarray, carried: np.ndarray, strength: float) -> tuple[np.ndarray, float]:
    """Weights (H,) and bias of one label, of 0 and 1 in each row; its smoothed share where all rows agree."""
    count = int(carried.sum())
    if count in (0, len(carried)):
        return np.zeros(features.shape[1]), float(np.log((count + 0.5) / (len(carried) - count + 0.5)))
    model = fit_regression(features, carried, strength)
    return model.coef_[0], float(model.intercept_[0])


def cross_entropy(values: np.ndarray, labels: np.ndarray) -> float:
    """The mean over N rows of logits (N, L), in nats: of class numbers (N,), or of (N, L) of 0 and 1 and all labels."""
    if labels.ndim == 2:
        return float((np.logaddexp(0, values) - labels * values).mean())
    return float(row_losses(values, labels).mean())
