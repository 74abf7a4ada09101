"""The location of a frozen prefix during training on a GPU: on the GPU if it fits, otherwise in main memory or nowhere.

Reading a batch from main memory may take longer than computing its frozen layers again; this is measured.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..data.batching import plan_batches
from ..model.device import free_memory, wait_for
from ..model.encoders.encoder import Encoder
from ..model.inference import TokenFeed, evaluating
from .prefix_cache import Prefix

logger = logging.getLogger(__name__)

TRIED = 5  # batches that are timed


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


def stays_in_main_memory(needed: int, device: torch.device) -> bool:
    """Whether a prefix of so many bytes would be read from main memory by a GPU that trains on it."""
    if device.type != "cuda":
        return False
    return not fits_beside_training(needed, free_memory(device), torch.cuda.mem_get_info(device)[1])


def computing_is_quicker(
    encoder: Encoder, feed: TokenFeed, first: int, dtype: torch.dtype, batch_size: int,
    clock: Callable[[], float] = time.perf_counter,
) -> bool:  # fmt: skip
    """Whether a GPU computes the layers below `first` in less time than it takes to read them from main memory.

    Measured on a few batches of random texts, before anything is kept; the log says what was found.

    Args:
        feed: gives batches of token ids, and holds them all.
        dtype: of the kept values.
        batch_size: texts in a batch of the training.
        clock: seconds.
    """
    planned = plan_batches(feed.encoded.lengths, batch_size=batch_size, bucket=feed.bucket, seed=0)[:TRIED]
    if not planned:
        return False
    rows = np.concatenate(planned)
    lengths = np.maximum(feed.encoded.lengths[rows], 1)
    held = torch.zeros(int(lengths.sum()), encoder.hidden_size, dtype=dtype)
    kept = Prefix(held, lengths.cumsum() - lengths, lengths, first, feed.bucket, feed.device, None, False, 0.0)
    ends = np.cumsum([len(batch) for batch in planned])
    places = [np.arange(end - len(batch), end) for batch, end in zip(planned, ends.tolist(), strict=True)]

    def compute(batch: np.ndarray) -> None:
        given: dict[str, Any] = feed(batch)
        mask = given["attention_mask"]
        encoder.run(encoder.embed(given["input_ids"], mask, given.get("token_type_ids")), mask, 0, first)

    def seconds(each: Callable[[np.ndarray], object], batches: list[np.ndarray]) -> float:
        began = 0.0
        for _ in range(2):  # at first kernels are tried and memory is pinned
            wait_for(feed.device)
            began = clock()
            for batch in batches:
                each(batch)
        wait_for(feed.device)
        return (clock() - began) / len(batches)

    with evaluating(encoder.module), torch.no_grad():
        computing, reading = seconds(compute, planned), seconds(kept, places)
    quicker = computing < reading
    logger.info(
        f"prefix: {'not kept' if quicker else 'kept in main memory'}, because a batch of frozen layers takes "
        f"{computing * 1e3:.1f} ms to compute and {reading * 1e3:.1f} ms to read from there"
    )
    return quicker
