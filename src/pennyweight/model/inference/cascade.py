"""A cascade of two engines: int8 for all texts, and fp32 for those whose label int8 might change.

Rounding to int8 moves a text's logits a little, so that it changes the label only where two labels are nearly level.
These texts are few, and computing them again costs little. How far int8 moves logits is measured in training. Both
engines are in memory. A text whose margin lies at the limit may be computed again in one batch and not in another: its
logits then differ by the error of int8, its label does not.

Deferring by the margin between the two best classes is the usual rule of cascades (Jitkrittum et al. 2023, "When does
confidence-based cascade deferral suffice?", https://arxiv.org/abs/2307.02764).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from ...data.batching import Encoded, select
from .engine import InferenceEngine

# The share of measured texts whose margin int8 changes by at most the limit. A label changes unnoticed only if the
# change is larger and the two labels are nearly level as well.
COVERED = 0.99


@dataclass(frozen=True)
class CascadeEngine:
    """As an `InferenceEngine`, for classifiers with one label per text.

    Attributes:
        fast: computes all texts.
        exact: computes again those with a margin of less than `limit`.
        limit: of the difference between the two highest logits.
    """

    fast: InferenceEngine
    exact: InferenceEngine
    limit: float

    @property
    def head(self) -> nn.Module:
        """That of both engines."""
        return self.exact.head

    def logits(self, tokens: Encoded, offsets: np.ndarray | None = None) -> np.ndarray:
        """(N, L) fp32 logits of N token sequences, in their order.

        Args:
            offsets: (L,) what the caller adds to the logits before taking the highest; they are not added here.
        """
        return self.corrected(tokens, self.fast.logits(tokens), offsets)

    def corrected(self, tokens: Encoded, logits: np.ndarray, offsets: np.ndarray | None = None) -> np.ndarray:
        """Logits (N, L) of `fast`, with those of `exact` for texts with a small margin; in place."""
        if not len(logits):
            return logits
        rows = np.flatnonzero(margins(logits if offsets is None else logits + offsets) < self.limit)
        if len(rows):
            logits[rows] = self.exact.logits(select(tokens, rows))
        return logits


def margins(logits: np.ndarray) -> np.ndarray:
    """(N,) by how much the highest of each row of logits (N, L) leads the second; infinite if there is none."""
    if logits.shape[1] < 2:
        return np.full(len(logits), np.inf, dtype=logits.dtype)
    best = np.partition(logits, -2, axis=1)[:, -2:]
    found: np.ndarray = best[:, 1] - best[:, 0]
    return found


def margin_limit(exact: np.ndarray, fast: np.ndarray) -> float:
    """How far `fast` lets the best class lead others at most, for 99% of the texts, where `exact` would not.

    Args:
        exact, fast: (N, L) logits of the same texts, N at least 1.
    """
    rows, best = np.arange(len(fast)), fast.argmax(axis=1)
    change = fast - exact  # (N, L)
    largest = (change[rows, best][:, None] - change).max(axis=1)
    return float(np.float32(np.quantile(largest, COVERED)))  # as it is saved
