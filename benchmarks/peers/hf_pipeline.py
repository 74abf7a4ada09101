"""transformers' `pipeline("text-classification")`, as its documentation shows it, on texts sorted by length.

https://huggingface.co/docs/transformers/main_classes/pipelines
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import pipeline

from .length_sorted import fastest


class HfPipeline:
    """Sorted by characters, since the pipeline tokenizes itself; fp32.

    Args:
        folder: a transformers classifier with its tokenizer.
        batch_size: texts at a time.
    """

    def __init__(self, folder: str, *, max_length: int, batch_size: int = 8) -> None:
        self.pipe = pipeline("text-classification", model=folder, device="cpu", dtype="float32")
        self.settings = {"truncation": True, "max_length": max_length}
        self.numbers = self.pipe.model.config.label2id
        self.batch_size = batch_size

    def tune(self, texts: Sequence[str]) -> dict[str, Any]:
        """The faster of few batch sizes."""
        candidates = [{"batch_size": size} for size in (1, 8, 32)]
        return fastest(candidates, self._label, texts)

    def classes(self, texts: Sequence[str]) -> np.ndarray:
        """(N,) class numbers."""
        return self._label(texts, self.batch_size)

    def class_of(self, text: str) -> int:
        """One text's class number."""
        return int(self.numbers[self.pipe(text, **self.settings)[0]["label"]])

    def _label(self, texts: Sequence[str], batch_size: int) -> np.ndarray:
        order = np.argsort([-len(text) for text in texts], kind="stable")
        found = self.pipe([texts[row] for row in order], batch_size=batch_size, **self.settings)
        classes = np.empty(len(texts), dtype=np.int64)
        classes[order] = [self.numbers[each["label"]] for each in found]
        return classes
