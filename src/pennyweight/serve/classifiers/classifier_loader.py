"""Loading a `ServedClassifier` from a saved folder, with all checks of `pennyweight.load`."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

from torch import Tensor

from ...artifact import validation
from ...artifact.checked_parts import check_parts
from ...artifact.file_contents import damage_as_errors
from ...artifact.layout import TOKENIZER
from ...artifact.load_artifact import recipe_of
from ...artifact.saved_files import SavedFiles, read_files
from ...budget.plan import Plan
from ...errors import ArtifactError
from ...evaluate.metrics.calibration import saved_temperature
from ...evaluate.metrics.thresholds import saved_thresholds
from ...model.backbone import Backbone
from ...model.tokenizer import FastTokenizer
from .served_classifier import ServedClassifier
from .served_folders import DIGITS

CHANGED = "the folder no longer contains the classifier that was scanned"


class MemberBuilder(Protocol):
    """The part of the mixed engine that the loader needs."""

    @property
    def max_length(self) -> int:
        """The longest text in tokens that the backbone has positions for."""
        ...

    def member(self, plan: Plan, adapter: Mapping[str, Tensor], head: Mapping[str, Tensor], pooling: str) -> Any:
        """The engine's form of one classifier; it has `nbytes`."""
        ...


class ClassifierLoader:
    """Loads classifiers of one backbone for one engine. Any number of threads may use it.

    A tokenizer is built once for all classifiers whose tokenizer files have the same checksums, and goes with the last
    of them. The backbone's weights are hashed once.

    Args:
        backbone: every classifier must have been trained on it.
        engine: makes members of what is loaded.
    """

    def __init__(self, backbone: Backbone, engine: MemberBuilder) -> None:
        self._backbone = backbone
        self._engine = engine
        self._tokenizers: WeakValueDictionary[Any, FastTokenizer] = WeakValueDictionary()
        self._lock = threading.Lock()

    def load(self, name: str, folder: Path, digest: str) -> ServedClassifier:
        """Read and check a classifier.

        The files are read, not mapped: one that is truncated under a memory map kills the process.

        Args:
            digest: digest of the manifest when the folder was scanned.

        Raises:
            ArtifactError: damaged or foreign files, another backbone, or not the classifier that was scanned.
            ResourceError: when memory runs out.
        """
        saved = read_files(folder)
        if sha256(saved.manifest).hexdigest() != digest:
            raise ArtifactError(CHANGED, where=folder)
        with damage_as_errors(folder):
            recipe = recipe_of(saved)
            parts = check_parts(saved, recipe, self._same_backbone)
            max_length = recipe.data.max_length
            if max_length > self._engine.max_length:
                raise ArtifactError(
                    "its maximum length exceeds the backbone's number of positions",
                    where=folder,
                    expected=f"at most {self._engine.max_length} tokens",
                    received=max_length,
                )
            tokenizer = self._tokenizer(saved, max_length)
            member = self._engine.member(
                parts.plan, parts.tensors.adapter, parts.tensors.head, recipe.model.pooling
            )  # fmt: skip
            labels = parts.labels
            return ServedClassifier(
                name, digest[:DIGITS], labels.names, labels.multi, parts.input_spec.pair, parts.input_spec.markup,
                saved_temperature(parts.metrics),
                saved_thresholds(parts.metrics, len(labels)) if labels.multi else None,
                max_length, tokenizer, member, member.nbytes, recipe.data.long_texts,
            )  # fmt: skip

    def _same_backbone(self, path: Path, facts: Mapping[str, Any]) -> Backbone:
        return validation.same_backbone(validation.stored_backbone(path, facts), self._backbone)

    def _tokenizer(self, saved: SavedFiles, max_length: int) -> FastTokenizer:
        """The tokenizer of some files: one that was built of the same, or a new one.

        `max_length` is part of what it is: a tokenizer holds the length that it cuts at.
        """
        files = {name: digest for name, digest in saved.facts["sha256"].items() if name.startswith(f"{TOKENIZER}/")}
        key = (tuple(sorted(files.items())), max_length)
        with self._lock:
            found = self._tokenizers.get(key)
            if found is None:
                found = validation.check_tokenizer(saved, TOKENIZER, self._backbone)
                self._tokenizers[key] = found
            return found
