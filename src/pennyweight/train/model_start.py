"""Preparing a new model before its first step: the head is fitted, and an adapter may use gradients."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from ..errors import RecipeError, StorageError
from ..model.classifier import SequenceClassifier
from ..model.inference import evaluating
from ..recipe.schema import TrainRecipe
from ..storage.atomic import atomic_file
from ..storage.json_files import to_json
from ..storage.user_cache import cache_folder
from .frozen_features import FrozenBackbone
from .head_init import fit_head
from .training_rows import TrainingRows
from .warm_start import WarmStart, start_from

logger = logging.getLogger(__name__)

BATCHES, BATCH_SIZE = 48, 16  # that gradients are computed on: more of them find the same directions
MOST_KEPT = 64  # files of estimates in the cache
# Of a run's fingerprint what the estimate depends on, by the beginning of the entry's name.
IDENTITY = (
    "data", "backbone", "config", "device", "precision", "teacher", "model -> ", "plan -> ", "version of ",
    "train -> distillation_", "train -> unlabelled_",
    *(f"train -> {key}" for key in ("seed", "lp_ft", "class_weights", "augment")),
)  # fmt: skip


def start_model(
    model: SequenceClassifier,
    rows: TrainingRows,
    frozen: FrozenBackbone,
    settings: TrainRecipe,
    fingerprint: Mapping[str, Any],
    start: WarmStart | None = None,
) -> None:
    """Fit the head if the settings say so, then let the adapter take what it needs of the first gradients.

    Where the training begins at an earlier run, its weights take the place of both. What an adapter took is kept in the
    user's cache, for the next run of the same data, backbone and plan.

    Args:
        model: just built; rows: that it will be trained on.
        frozen: the model's backbone.
        fingerprint: fingerprint of the run.
        start: the earlier run to begin at.

    Raises:
        RecipeError: the adapter needs gradients, and they are not finite.
        ArtifactError: the earlier run's weights do not fit.
    """
    if start is not None:
        start_from(model, start, rows, frozen, batch_size=settings.eval_batch_size)
        return
    if settings.lp_ft:
        loss = fit_head(model, rows, frozen, batch_size=settings.eval_batch_size)
        logger.info(f"head: fitted on frozen features, training loss {loss:.3f}")
    names = model.adapter.gradients_wanted()
    if not names:
        return
    identity = {key: value for key, value in fingerprint.items() if key.startswith(IDENTITY)}
    kept = cache_folder() / "gradient-bases" / f"{sha256(to_json(identity).encode()).hexdigest()}.safetensors"
    if _take_kept(model, kept):
        logger.info(f"bases: reused from an earlier run on the same rows, {kept}")
        return
    began = time.perf_counter()
    batches = sample_batches(len(rows.labels), settings.seed)
    model.adapter.start(batch_gradients(model, rows, names, batches))
    seconds = time.perf_counter() - began
    texts = sum(map(len, batches))
    logger.info(f"bases: estimated from gradients on {texts:,} labelled training texts in {seconds:.1f} s")
    _keep(model.adapter.resume_state(), kept)


def sample_batches(rows: int, seed: int) -> list[np.ndarray]:
    """`BATCHES` random batches of `BATCH_SIZE` row numbers, no row twice; fewer where there are fewer rows."""
    chosen = np.random.default_rng(seed).permutation(rows)[: BATCHES * BATCH_SIZE]
    return [chosen[begin : begin + BATCH_SIZE] for begin in range(0, len(chosen), BATCH_SIZE)]


def batch_gradients(
    model: SequenceClassifier, rows: TrainingRows, names: tuple[str, ...], batches: list[np.ndarray]
) -> Iterator[dict[str, Tensor]]:
    """For each batch the gradients of its mean loss, without dropout.

    Args:
        names: names of frozen parameters of the encoder.
        batches: batches of row numbers.
    """
    wanted = {name: model.module.get_parameter(name) for name in names}
    loss_of = rows.loss(next(model.head.parameters()).device)
    try:
        for parameter in wanted.values():
            parameter.requires_grad_(True)
        for batch in batches:
            with evaluating(model), torch.enable_grad():
                loss = loss_of(model(**rows.source(batch)), batch) / len(batch)
                found = torch.autograd.grad(loss, list(wanted.values()))
            yield dict(zip(wanted, found, strict=True))
    finally:
        for parameter in wanted.values():
            parameter.requires_grad_(False)


def _take_kept(model: SequenceClassifier, file: Path) -> bool:
    """Give the adapter what an earlier run kept; False where there is nothing that fits."""
    try:
        held = load(file.read_bytes())
        own = {name: tensor.shape for name, tensor in model.adapter.resume_state().items()}
        if {name: tensor.shape for name, tensor in held.items()} != own:
            return False
        model.adapter.resume(held, 0)
    except (OSError, ValueError, SafetensorError, RecipeError):
        return False
    with suppress(OSError):
        file.touch()  # used last, removed last
    return True


def _keep(state: Mapping[str, Tensor], file: Path) -> None:
    """Write what an adapter took to the cache, the oldest files making room; without room it is made again."""
    with suppress(OSError, StorageError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as aside:
            save_file({name: tensor.cpu().contiguous() for name, tensor in state.items()}, aside)
        held = sorted(file.parent.glob("*.safetensors"), key=lambda each: each.stat().st_mtime)
        for old in held[:-MOST_KEPT]:
            old.unlink(missing_ok=True)
