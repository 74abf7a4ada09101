"""Batches onto the device, and logits out of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..data.batch import Encoded, collate, collate_types, plan_batches

# From the indices of a batch to the keyword arguments of `Classifier.forward`.
Feed = Callable[[np.ndarray], dict[str, Tensor | int]]


@dataclass(frozen=True)
class TokenFeed:
    """Batches of token ids, padded to a multiple of `bucket`.

    Attributes:
        encoded: N ragged rows of ids.
        pad_id: the tokenizer's padding id.
        max_length: no batch is wider, even where `bucket` would round up past it.
    """

    encoded: Encoded
    pad_id: int
    bucket: int
    max_length: int
    device: torch.device

    def __call__(self, indices: np.ndarray) -> dict[str, Tensor | int]:
        ids, mask = collate(self.encoded, indices, pad_id=self.pad_id, bucket=self.bucket, max_length=self.max_length)
        batch: dict[str, Tensor | int] = {
            "input_ids": torch.from_numpy(ids).to(self.device, non_blocking=True),
            "attention_mask": torch.from_numpy(mask).to(self.device, non_blocking=True),
        }
        types = collate_types(self.encoded, indices, mask)
        if types is not None:
            batch["token_type_ids"] = torch.from_numpy(types).to(self.device, non_blocking=True)
        return batch


@torch.inference_mode()
def logits(model: nn.Module, feed: Feed, lengths: np.ndarray, *, batch_size: int, bucket: int) -> np.ndarray:
    """Logits of N texts in their own order, computed in batches of similar length.

    Args:
        lengths: (N,) tokens of each text.

    Returns:
        (N, L) fp32.
    """
    was_training = model.training
    model.eval()
    rows: np.ndarray | None = None
    try:
        for indices in plan_batches(lengths, batch_size=batch_size, bucket=bucket, seed=None, epoch=0, group=True):
            out = model(**feed(indices)).float().cpu().numpy()  # (B, L)
            if rows is None:
                rows = np.empty((len(lengths), out.shape[1]), dtype=np.float32)
            rows[indices] = out
    finally:
        model.train(was_training)
    return rows if rows is not None else np.empty((0, 0), dtype=np.float32)
