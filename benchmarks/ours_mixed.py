"""Pennyweight as a contender with many adapters: one merged into the weights, and any number in the mixed engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from adapter_batches import calls

import pennyweight as pw
from pennyweight.serve.classifiers.open_registry import open_registry
from pennyweight.serve.classifiers.served_classifier import ServedClassifier


class OursMerged:
    """The first classifier of a fleet, its adapter merged, as `pennyweight.load` gives it. It reads every text.

    Args:
        folders: of saved classifiers.
    """

    def __init__(self, folders: Sequence[str], *, precision: str) -> None:
        self.classifier = pw.load(folders[0], device="cpu", precision=precision)

    def load(self, count: int) -> None:
        """There is no second one."""

    def mixed(self, texts: Sequence[str], readers: Sequence[int], size: int) -> list[int]:
        """N class numbers, `size` texts per call."""
        found: list[int] = []
        for some, _ in calls(texts, readers, size):
            found += self.classifier.logits(some).argmax(axis=1).tolist()
        return found


class OursMixed:
    """A fleet's classifiers in one engine, loaded as `pennyweight serve` loads them.

    Args:
        folders: of saved classifiers, of one backbone.
    """

    def __init__(self, folders: Sequence[str], *, precision: str) -> None:
        self.registry = open_registry(folders, precision=precision, memory=1 << 50)
        self.names = [Path(folder).name for folder in folders]
        self.classifiers: list[ServedClassifier] = []

    def load(self, count: int) -> None:
        """Hold the first `count` classifiers."""
        self.classifiers += [self.registry.get(name) for name in self.names[len(self.classifiers) : count]]

    def mixed(self, texts: Sequence[str], readers: Sequence[int], size: int) -> list[int]:
        """N class numbers, `size` texts per call."""
        found: list[int] = []
        for some, theirs in calls(texts, readers, size):
            tokens = self.classifiers[0].tokens(some)  # all read alike
            logits = self.registry.engine.logits(tokens, [[self.classifiers[reader].member] for reader in theirs])
            found += [int(np.argmax(one[0])) for one in logits]
        return found
