"""Batches and logits of the model as it is trained; `engine.py` is faster for a trained model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from ...data.batching import Encoded, collate, collate_types, plan_batches
from ...errors import InputError
from ..device import to_device

# From the indices of a batch to the keyword arguments of `SequenceClassifier.forward`.
Feed = Callable[[np.ndarray], dict[str, Tensor | int]]


@dataclass(frozen=True)
class TokenFeed:
    """Batches of token ids, padded to a multiple of `bucket`; if texts are read in windows, each row is a window.

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
        encoded, windows = self.encoded.sequences, self.encoded.windows
        texts = indices
        if windows is not None:
            indices = windows.rows_of(texts)
        ids, mask = collate(encoded, indices, pad_id=self.pad_id, bucket=self.bucket, max_length=self.max_length)
        batch: dict[str, Tensor | int] = {
            "input_ids": to_device(ids, self.device),
            "attention_mask": to_device(mask, self.device),
            "tokens": int(mask.sum()),
        }
        types = collate_types(encoded, indices, mask)
        if types is not None:
            batch["token_type_ids"] = to_device(types, self.device)
        if windows is not None:
            batch["windows"] = to_device(windows.counts[texts], self.device)
        return batch


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, and afterwards each submodule as it was.

    For who trains the module: a prediction must not switch what another thread may be using.
    """
    trained = [each for each in module.modules() if each.training]
    for each in trained:
        each.training = False
    try:
        yield
    finally:
        for each in trained:
            each.training = True


@torch.inference_mode()
def logits(model: nn.Module, feed: Feed, lengths: np.ndarray, *, batch_size: int, bucket: int) -> np.ndarray:
    """Logits of N texts in their own order, computed in batches of similar length.

    Args:
        model: in evaluation mode. Nothing of it is changed, so that other threads may use it at the same time.
        lengths: (N,) tokens of each text.

    Returns:
        (N, L) fp32.

    Raises:
        InputError: when the model is in training mode, in which dropout would make its answers random.
    """
    if any(module.training for module in model.modules()):
        raise InputError("the model is in training mode", remedy="call .eval() on it before predicting")
    if isinstance(feed, TokenFeed) and feed.encoded.windows is not None:
        # Window by window: a batch of whole texts may be of any size.
        whole, windows = feed.encoded.sequences, feed.encoded.windows
        alone = replace(feed, encoded=whole)
        return windows.mean(logits(model, alone, whole.lengths, batch_size=batch_size, bucket=bucket))
    rows: np.ndarray | None = None
    for indices in plan_batches(lengths, batch_size=batch_size, bucket=bucket, seed=None, epoch=0, group=True):
        out = model(**feed(indices)).float().cpu().numpy()  # (B, L)
        if rows is None:
            rows = np.empty((len(lengths), out.shape[1]), dtype=np.float32)
        rows[indices] = out
    return rows if rows is not None else np.empty((0, 0), dtype=np.float32)
