"""The location of a frozen prefix during training on a GPU: on the GPU if it fits, otherwise in main memory."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch

from ..model.device import free_memory
from .prefix_cache import Prefix

logger = logging.getLogger(__name__)


def fits_beside_training(needed: int, free: int, total: int) -> bool:
    """Whether a prefix may lie in a GPU's memory: half of all of that memory has to stay free for training.

    Args:
        needed, free, total: bytes, of the prefix and of the GPU's memory.
    """
    return free - needed >= total // 2


def place_prefix(prefix: Prefix) -> Prefix:
    """The prefix on the GPU that trains on it, where it fits; else, and on other devices, as it is.

    From main memory a batch goes over on a stream of its own, see `model.device.copy_rows`.
    """
    if prefix.device.type != "cuda":
        return prefix
    free, total = free_memory(prefix.device), torch.cuda.mem_get_info(prefix.device)[1]
    size, left = f"{prefix.bytes / 1e6:,.0f} MB", (free - prefix.bytes) / 1e9
    if fits_beside_training(prefix.bytes, free, total):
        try:
            moved = replace(prefix, hidden=prefix.hidden.to(prefix.device))
        except torch.OutOfMemoryError:  # free, but not in one piece
            logger.info(f"prefix: {size} stay in main memory: the GPU has no free block of this size")
            return prefix
        logger.info(f"prefix: {size} on the GPU, {left:.1f} of its {total / 1e9:.1f} GB are left for training")
        return moved
    logger.info(
        f"prefix: {size} stay in main memory, because less than half of the GPU's memory would remain for training"
    )
    return prefix
