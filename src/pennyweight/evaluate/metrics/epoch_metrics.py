"""The few figures of one evaluation during training, from logits, whatever the number of labels a text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .calibration import softmax
from .multi_label import score_multilabel
from .single_label import score


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """(N, L) probabilities in float64, each label's on its own, from logits (N, L)."""
    # One exponential of a number below zero, so that nothing overflows.
    values = np.asarray(logits, dtype=np.float64)
    small = np.exp(-np.abs(values))
    found: np.ndarray = np.where(values >= 0, 1.0, small) / (1.0 + small)
    return found


def figures(labels: np.ndarray, logits: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """`loss` (nats), `accuracy` and `macro_f1`; with several labels a text also `micro_f1`, all labels given from 0.5
    on (thresholds are tuned once, after training), and `accuracy` is the exact match.

    Args:
        labels: (N,) class numbers, or (N, L) of 0 and 1.
        logits: (N, L).
    """
    if not np.isfinite(logits).all():  # the training loop says so in its own words
        return dict.fromkeys(("loss", "accuracy", "macro_f1", "micro_f1"), float("nan"))
    if labels.ndim == 1:
        one = score(labels, softmax(logits), names)
        return {"loss": one.log_loss, "accuracy": one.accuracy, "macro_f1": one.macro.f1}
    several = score_multilabel(labels, sigmoid(logits), names)
    return {
        "loss": several.log_loss,
        "accuracy": several.exact,
        "macro_f1": several.macro.f1,
        "micro_f1": several.micro.f1,
    }
