"""Training that starts from the weights of an earlier run, possibly with new labels."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import ArtifactError
from ..evaluate.row_predictions import RowPredictions
from ..model.classifier import SequenceClassifier
from .frozen_features import FrozenBackbone
from .head_init import fit_new_labels
from .training_rows import TrainingRows

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WarmStart:
    """The state of an earlier run that a training run starts from.

    Attributes:
        name: name of the run.
        adapter, head: its tensors, as saved.
        places: (K,) numbers of its K labels among the training's L.
        new: names of the labels that it did not have.
        fingerprint: fingerprint of the run's files.
        before: what it predicted for the test rows; None if there are none.
        measured: (N,) which of the test rows tell what is forgotten.
        old_test: whether those are rows of its own test; otherwise all rows of its labels.
    """

    name: str
    adapter: Mapping[str, Tensor]
    head: Mapping[str, Tensor]
    places: np.ndarray
    new: tuple[str, ...]
    fingerprint: str
    before: RowPredictions | None = None
    measured: np.ndarray | None = None
    old_test: bool = False


def start_from(
    model: SequenceClassifier, start: WarmStart, rows: TrainingRows, frozen: FrozenBackbone, *, batch_size: int
) -> None:
    """Put the earlier run's weights into a model that was just built, and fit the output rows of new labels alone.

    Args:
        rows: rows that the model will be trained on.
        frozen: the model's backbone.
        batch_size: texts that features are computed of at a time.

    Raises:
        ArtifactError: the run's tensors do not fit the model.
    """
    model.adapter.take_folded(start.adapter)
    own = model.head.state_dict()
    if own.keys() != start.head.keys():
        raise ArtifactError(
            "the run's head does not fit the plan", where=start.name, expected=", ".join(own),
            received=", ".join(start.head),
        )  # fmt: skip
    places = torch.from_numpy(start.places).to(next(iter(own.values())).device)
    with torch.no_grad():
        for name, held in own.items():
            saved = start.head[name].to(held.device)
            if name.startswith("out."):
                held[places] = saved
            else:
                held.copy_(saved)
    model.head.load_state_dict(own)
    logger.info(f"start: adapter and head of {start.name}")
    new = np.setdiff1d(np.arange(len(own["out.bias"])), start.places)
    if len(new):
        loss = fit_new_labels(model, rows, new, frozen, batch_size=batch_size)
        logger.info(
            f"head: {len(new):,} new labels fitted in addition to those of {start.name}, training loss {loss:.3f}"
        )
