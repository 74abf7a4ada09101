"""Pennyweight as a contender with many adapters: one merged into the weights, and any number in the mixed engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from adapter_batches import calls

import pennyweight as pw
from pennyweight.artifact import validation
from pennyweight.artifact.layout import ADAPTER, ADAPTER_CONFIG, MANIFEST, PLAN
from pennyweight.artifact.saved_files import read_files
from pennyweight.model.device import choose
from pennyweight.model.inference.mixed_engine import mixed_engine
from pennyweight.model.tokenizer import encode


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
        """N class numbers, `size` texts a call."""
        found: list[int] = []
        for some, _ in calls(texts, readers, size):
            found += self.classifier.logits(some).argmax(axis=1).tolist()
        return found


class OursMixed:
    """A fleet's classifiers in one engine.

    Args:
        folders: of saved classifiers, of one backbone.
    """

    def __init__(self, folders: Sequence[str], *, precision: str) -> None:
        self.folders = [Path(folder) for folder in folders]
        first = pw.load(folders[0], device="cpu", precision=precision).artifact
        self.backbone, self.tokenizer = first.backbone, first.fast_tokenizer
        self.max_length = first.recipe.data.max_length
        engine = mixed_engine(self.backbone, choose("cpu", precision), self.tokenizer.pad_token_id)
        assert engine is not None, "this backbone has no inference encoder"
        self.engine, self.members = engine, list[Any]()

    def load(self, count: int) -> None:
        """Hold the first `count` classifiers."""
        self.members += [self._member(folder) for folder in self.folders[len(self.members) : count]]

    def mixed(self, texts: Sequence[str], readers: Sequence[int], size: int) -> list[int]:
        """N class numbers, `size` texts a call."""
        found: list[int] = []
        for some, theirs in calls(texts, readers, size):
            tokens = encode(self.tokenizer, some, self.max_length)
            logits = self.engine.logits(tokens, [[self.members[reader]] for reader in theirs])
            found += [int(np.argmax(one[0])) for one in logits]
        return found

    def _member(self, folder: Path) -> Any:
        saved = read_files(folder, only=(PLAN, ADAPTER_CONFIG, ADAPTER, "head.safetensors"))
        labels = validation.check_labels(saved.path(MANIFEST), saved.facts)
        plan = validation.check_plan(saved, PLAN)
        adapter = validation.check_adapter(saved, ADAPTER_CONFIG, ADAPTER, plan, self.backbone)
        head = validation.check_weights(saved, plan, self.backbone, len(labels), adapter)
        return self.engine.member(plan, adapter, head, saved.facts["pooling"])
