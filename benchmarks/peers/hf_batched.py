"""transformers in length-sorted, dynamically padded batches: what a careful user writes around its model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from .length_sorted import BATCH_SIZES, Feed, batches, fastest, feed, in_order, load_tokenizer


class HfBatched:
    """Weights and products in one number format, inference mode, scaled_dot_product_attention.

    Args:
        folder: a transformers classifier with its tokenizer.
        dtype: float32 or bfloat16.
        batch_size: texts at a time.
    """

    def __init__(self, folder: str, *, max_length: int, dtype: str, batch_size: int = 32) -> None:
        self.tokenizer = load_tokenizer(folder, max_length)
        self.model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype).eval()
        self.names = ("input_ids", "attention_mask")
        self.batch_size = batch_size

    def tune(self, texts: Sequence[str]) -> dict[str, Any]:
        """The fastest of few batch sizes."""
        return fastest([{"batch_size": size} for size in BATCH_SIZES], self._label, texts)

    def classes(self, texts: Sequence[str]) -> np.ndarray:
        """(N,) class numbers."""
        return self._label(texts, self.batch_size)

    def class_of(self, text: str) -> int:
        """One text's class number."""
        return int(self._logits(feed([self.tokenizer.encode(text)], self.names)).argmax())

    def _label(self, texts: Sequence[str], batch_size: int) -> np.ndarray:
        parts = [
            (rows, self._logits(inputs)) for rows, inputs in batches(self.tokenizer, texts, batch_size, self.names)
        ]
        return in_order(parts, len(texts))

    @torch.inference_mode()
    def _logits(self, inputs: Feed) -> np.ndarray:
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        logits: np.ndarray = self.model(**tensors).logits.float().numpy()
        return logits
