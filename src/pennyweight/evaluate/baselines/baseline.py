"""What every baseline gives: probabilities, and what they cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ...errors import DataError


@dataclass(frozen=True)
class Baseline:
    """A classifier that costs seconds, trained and tested on the same rows as the one it is compared with.

    Attributes:
        name: what it is called in reports.
        probabilities: (M, L) on the rows to predict.
        seconds: to train and predict.
        rows: number of training rows; 0 where it is not known.
        trivial: whether it does without the texts.
        validation: (V, L) probabilities on the validation rows, where thresholds are tuned on them.
    """

    name: str
    probabilities: np.ndarray
    seconds: float
    rows: int = 0
    trivial: bool = False
    validation: np.ndarray | None = None

    def split(self, validation_rows: int) -> Baseline:
        """The same, the first `validation_rows` of its probabilities being those on the validation rows."""
        return replace(
            self,
            probabilities=self.probabilities[validation_rows:],
            validation=self.probabilities[:validation_rows],
        )


def timed(name: str, train_labels: np.ndarray, predict: Callable[[], np.ndarray], *, trivial: bool = False) -> Baseline:
    """A baseline of the probabilities that `predict` gives, with the seconds that it takes.

    Raises:
        DataError: without training rows.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    if not len(train_labels):
        raise DataError("a baseline needs training rows", where=name)
    start = time.perf_counter()
    with threadpool_limits(1):  # the same seconds whatever else the machine does, and the same sums
        probabilities = predict()
    return Baseline(name, probabilities, time.perf_counter() - start, len(train_labels), trivial)
