"""Pennyweight as a predicting contender: `pennyweight.load`, as a user calls it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import pennyweight as pw


class OursPredict:
    """A saved classifier at one precision.

    Args:
        folder: what `pennyweight train` wrote.
    """

    def __init__(self, folder: str, *, precision: str) -> None:
        self.classifier = pw.load(folder, device="cpu", precision=precision)
        self.classifier.predict("Both wait for their first text.")  # what is built on demand is built

    def tune(self, texts: Sequence[str]) -> dict[str, Any]:
        """Nothing is left to choose: batches are the engine's own."""
        self.classes(texts)
        return {}

    def classes(self, texts: Sequence[str]) -> np.ndarray:
        """(N,) class numbers."""
        classes: np.ndarray = self.classifier.logits(list(texts)).argmax(axis=1)
        return classes

    def class_of(self, text: str) -> int:
        """One text's class number."""
        return int(self.classifier.logits(text).argmax())
