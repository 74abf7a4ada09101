"""Deciding whether a training run needs gradient checkpointing to fit into memory."""

from __future__ import annotations

import logging
import math

from ..budget.cost import memory, number_bytes
from ..model.device import free_memory
from ..model.text_model import TextModel
from .frozen_features import FrozenBackbone
from .training_rows import TrainingRows

logger = logging.getLogger(__name__)

USABLE = 0.9  # of the free memory: the estimate was 10 % below the measured peak, see docs/planning.md


def choose_gradient_checkpointing(model: TextModel, rows: TrainingRows, frozen: FrozenBackbone) -> None:
    """Switch activation checkpointing on or off in an encoder: as the recipe says, or as memory demands.

    Args:
        model: built, on its device: the free memory is what its frozen weights leave.
        rows: rows whose longest decide.
        frozen: the model's backbone, with recipe and plan.
    """
    recipe, encoder = frozen.recipe, model.model.encoder
    wanted = recipe.train.gradient_checkpointing
    encoder.gradient_checkpointing = wanted == "on"
    if wanted == "on":
        logger.info("memory: gradient checkpointing is on for all layers but the last")
    if wanted != "auto":
        return
    longest = min(int(rows.lengths.max()), model.max_length)
    needed = memory(
        frozen.backbone.config, frozen.plan, batch_size=math.ceil(recipe.train.batch_size / frozen.group.size),
        length=min(-(-longest // model.bucket) * model.bucket, model.max_length),
        bytes_per_number=number_bytes(model.model.engine, model.runtime.precision), pooling=recipe.model.pooling,
        cpu=model.runtime.device.type == "cpu", quantization=model.model.quantization,
    )  # fmt: skip
    free = free_memory(model.runtime.device)
    if needed.trained + needed.activations <= USABLE * free or needed.checkpointed >= needed.activations:
        return
    encoder.gradient_checkpointing = True
    logger.info(
        "memory: gradient checkpointing is on for all layers but the last: a step takes about "
        f"{(needed.trained + needed.checkpointed) / 1e6:,.0f} MB with it and "
        f"{(needed.trained + needed.activations) / 1e6:,.0f} MB without it; {free / 1e6:,.0f} MB are free"
    )
