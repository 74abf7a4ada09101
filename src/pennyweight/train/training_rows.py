"""The rows that a model is trained on, and the order in which an epoch reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..data.batching import plan_batches
from ..model.inference import Feed
from ..recipe.schema import TrainRecipe
from .class_balance import oversampled


@dataclass(frozen=True)
class TrainingRows:
    """N rows: the training texts, and augmented copies of some.

    Attributes:
        source: from row numbers to the model's keyword arguments.
        labels: (N,) class indices, or (N, L) of 0 and 1.
        lengths: (N,) tokens of each row, for batches of similar length.
        bucket: batches are padded to a multiple of this many tokens.
        class_weights: (L,) as `class_balance.class_weights` gives them; None for none.
        epochs: for each epoch the rows it reads, each as many; None, all rows in every epoch.
    """

    source: Feed
    labels: np.ndarray
    lengths: np.ndarray
    bucket: int
    class_weights: np.ndarray | None = None
    epochs: Sequence[np.ndarray] | None = None

    def batches(self, epoch: int, settings: TrainRecipe) -> list[list[np.ndarray]]:
        """An epoch's batches of row numbers by optimizer step: `gradient_accumulation_steps` of them to each step.

        The same for the same (seed, epoch), so that a resumed run reads the same.
        """
        rows = np.arange(len(self.lengths)) if self.epochs is None else self.epochs[epoch]
        if settings.oversample:
            rows = rows[oversampled(self.labels[rows], seed=settings.seed, epoch=epoch)]
        positions = plan_batches(
            self.lengths[rows], batch_size=settings.batch_size, bucket=self.bucket, seed=settings.seed, epoch=epoch,
            group=settings.group_by_length,
        )  # fmt: skip
        batches = [rows[batch] for batch in positions]
        size = settings.gradient_accumulation_steps
        return [batches[start : start + size] for start in range(0, len(batches), size)]
