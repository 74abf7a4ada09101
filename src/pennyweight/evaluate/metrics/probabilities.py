"""From logits to probabilities."""

from __future__ import annotations

import numpy as np


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """(N, L) probabilities in float64, each row summing to 1, of logits (N, L) divided by a temperature.

    Log-probabilities serve as well as logits.
    """
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    # As scipy.special.softmax computes it; importing that takes longer than a prediction.
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities: np.ndarray = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """(N, L) probabilities in float64, each label's on its own, of logits (N, L)."""
    from scipy.special import expit

    probabilities: np.ndarray = expit(np.asarray(logits, dtype=np.float64))
    return probabilities
