"""The baseline that ignores the texts and always predicts the most common label or labels."""

from __future__ import annotations

import numpy as np

from .baseline import Baseline, timed

MAJORITY = "majority class"
COMMONEST = "commonest labels"


def majority(train_labels: np.ndarray, rows: int, n_labels: int) -> Baseline:
    """The training shares as the probabilities of each of the `rows` to predict.

    Args:
        train_labels: (N,) class numbers, or (N, L) of 0 and 1.

    Raises:
        DataError: without training rows.
    """
    if train_labels.ndim == 2:

        def label_shares() -> np.ndarray:
            return np.tile(train_labels.mean(axis=0).clip(1e-6, 1 - 1e-6), (rows, 1))

        return timed(COMMONEST, train_labels, label_shares, trivial=True)

    def class_shares() -> np.ndarray:
        return np.tile(np.bincount(train_labels, minlength=n_labels) / len(train_labels), (rows, 1))

    return timed(MAJORITY, train_labels, class_shares, trivial=True)
