"""The rows that a model is trained on, and the order in which an epoch reads them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch

from ..data.batching import Encoded, join, plan_batches
from ..model.inference import Feed
from ..model.text_model import TextModel
from ..recipe.schema import TrainRecipe
from .augmentation import augment
from .batch_source import BatchSources, choose_batch_sources
from .class_balance import oversampled
from .distillation import SoftTargets, Teaching, with_teacher
from .epochs import count_epochs
from .frozen_features import FrozenBackbone
from .loss import Loss, make

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingTexts:
    """The training texts with their labels and a teacher's probabilities.

    Attributes:
        texts: N texts; labels: (N,) class indices, or (N, L) of 0 and 1.
        class_weights: (L,) as `class_balance.class_weights` gives them; None for none.
        teaching: with further texts; None without a teacher.
    """

    texts: Sequence[str]
    labels: np.ndarray
    class_weights: np.ndarray | None = None
    teaching: Teaching | None = None


@dataclass(frozen=True)
class TrainingRows:
    """N rows: the training texts, unlabelled texts that a teacher knows, and augmented copies of some.

    Attributes:
        source: from row numbers to the model's keyword arguments.
        labels: (N,) class indices, or (N, L) of 0 and 1; an unlabelled text's are the teacher's.
        lengths: (N,) tokens of each row, for batches of similar length.
        bucket: batches are padded to a multiple of this many tokens.
        class_weights: (L,) as `class_balance.class_weights` gives them; None for none.
        epochs: for each epoch the rows it reads, each as many; None, all rows in every epoch.
        windows: (N,) windows of each row, where texts are read in windows.
        soft: a teacher's probabilities for each row; None without one.
    """

    source: Feed
    labels: np.ndarray
    lengths: np.ndarray
    bucket: int
    class_weights: np.ndarray | None = None
    epochs: Sequence[np.ndarray] | None = None
    windows: np.ndarray | None = None
    soft: SoftTargets | None = None

    @property
    def texts(self) -> int:
        """The number of texts in an epoch, before rarer classes are repeated."""
        return len(self.lengths if self.epochs is None else self.epochs[0])

    def loss(self, device: torch.device, label_smoothing: float = 0.0) -> Loss:
        """The loss of these rows, by their labels and by what a teacher says of them."""
        found = make(self.labels, device, label_smoothing, self.class_weights)
        return found if self.soft is None else with_teacher(found, self.soft, device)

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
        windows, size = self.windows, settings.gradient_accumulation_steps
        parts = [[batch] if windows is None else _parts(batch, windows, settings.batch_size) for batch in batches]
        return [list(chain.from_iterable(parts[start : start + size])) for start in range(0, len(parts), size)]


def prepare_rows(
    model: TextModel,
    training: TrainingTexts,
    tokens: Mapping[str, Encoded],
    settings: TrainRecipe,
    frozen: FrozenBackbone | None = None,
    kept: Sequence[str] | None = None,
) -> tuple[TrainingRows, BatchSources]:
    """The rows to train on, augmented if the settings say so, and the sources of all batches.

    Args:
        training: the training split.
        tokens: `train`, and `validation` where something is held out.
        frozen, kept: as for `choose_batch_sources`; `frozen` is None if nothing is kept on disk.
    """
    encoded, epochs = tokens["train"], None
    texts, labels, teaching = training.texts, training.labels, training.teaching
    soft = None if teaching is None else teaching.targets
    if teaching is not None and teaching.texts:
        encoded = join(encoded, model.encode(teaching.texts))
        texts, labels = [*texts, *teaching.texts], teaching.all_labels(labels)
    augmented = augment(
        texts, encoded, model.encode,
        share=settings.augment, copies=settings.augment_copies, epochs=count_epochs(settings, len(texts)),
        seed=settings.seed,
    )  # fmt: skip
    if augmented is not None:
        logger.info(str(augmented))
        encoded, labels, epochs = augmented.tokens, labels[augmented.texts], augmented.epochs
        soft = None if soft is None else soft.select(augmented.texts)
    batches = {"train": model.batches(encoded)}
    if "validation" in tokens:
        batches["validation"] = model.batches(tokens["validation"])
    backbone = "" if frozen is None else frozen.identity(model.model.engine)
    sources = choose_batch_sources(model.model, batches, settings, backbone=backbone, frozen=frozen, kept=kept)
    if sources.to_json() is not None:
        logger.info(str(sources))
    windows = None if encoded.windows is None else encoded.windows.counts
    rows = TrainingRows(
        sources.train, labels, encoded.lengths, model.bucket, training.class_weights, epochs, windows, soft
    )
    return rows, sources


def _parts(rows: np.ndarray, windows: np.ndarray, most: int) -> list[np.ndarray]:
    """The rows of a step in pieces of at most `most` windows, or of one row: memory as with texts of one window."""
    parts: list[list[int]] = [[]]
    taken = 0
    for row in rows.tolist():
        if parts[-1] and taken + windows[row] > most:
            parts.append([])
            taken = 0
        parts[-1].append(row)
        taken += windows[row]
    return [np.array(part, dtype=np.int64) for part in parts]
