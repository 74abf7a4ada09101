"""The few figures of one evaluation during training, from logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .classification import score
from .probabilities import sigmoid, softmax


def figures(labels: np.ndarray, logits: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """`loss` (nats), `accuracy` and `macro_f1`, and with any number of labels per text also `micro_f1`.

    With any number of labels per text, each is given from a probability of 0.5 (thresholds are tuned once, after
    training), and `accuracy` is the exact match.

    Args:
        labels: (N,) class numbers, or (N, L) of 0 and 1.
        logits: (N, L).
    """
    if not np.isfinite(logits).all():  # the training loop raises the error
        return dict.fromkeys(("loss", "accuracy", "macro_f1", "micro_f1"), float("nan"))
    found = score(labels, sigmoid(logits) if labels.ndim == 2 else softmax(logits), names, ranked=False)
    values = {"loss": found.log_loss, "accuracy": found.accuracy, "macro_f1": found.macro.f1}
    return values if found.micro is None else values | {"micro_f1": found.micro.f1}
