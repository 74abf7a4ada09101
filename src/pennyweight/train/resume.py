"""Resuming a run, and only the same run.

From `mark_begun` to `mark_ended` a run's folder has a file `unfinished` next to the checkpoints: a classifier in the
folder belongs to an earlier run until then. It stays in place, whole, until the new one replaces it.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from ..errors import RecipeError
from ..model.classifier import SequenceClassifier
from ..model.device import Runtime
from ..model.trainable import trainable
from ..recipe.schema import SECTIONS, Recipe
from ..storage.atomic import write_text
from ..storage.json_files import to_json
from ..storage.system_errors import storage_errors
from .checkpoint import Checkpoint, check_fits, keep_up_to, latest

logger = logging.getLogger(__name__)

CHECKPOINTS = Path("checkpoints")  # in a run's folder
UNFINISHED = CHECKPOINTS / "unfinished"
# Fields whose default has changed: what a run did whose version did not have the field yet.
FORMER_DEFAULTS: dict[str, Any] = {
    "train -> learning_rate": 7e-4,
    "train -> lp_ft": False,
    "plan -> lora_dropout": 0.0,
    "plan -> head_dropout": 0.0,
    "train -> contrastive": "off",
    "train -> metric": "accuracy",
    "train -> logit_adjustment": "off",
    "train -> frozen_head": "off",
    "processes": 1,
}

# What a recipe may change without changing the result: names of things whose content is compared, and conveniences.
NOT_COMPARED = {
    *("train", "test", "validation", "mix", "ood", "unlabelled", "label_descriptions", "teacher", "start_from"),
    *("backbone", "revision", "cache_dir", "cache_gb"),
    *("track", "save_total_limit", "save_steps", "report", "audit", "shift"),
    "gradient_checkpointing",  # the same numbers for less memory
    # What these came to on this machine is compared.
    *("device", "precision", "quantization", "threads", "inference_precision"),
}


def run_fingerprint(
    settings: Mapping[str, Any],
    *,
    data: Mapping[str, str | None],
    backbone: str,
    config: Mapping[str, Any],
    runtime: Runtime,
    versions: Mapping[str, str],
    quantization: str = "none",
    processes: int = 1,
) -> dict[str, Any]:
    """All that decides a run's result, as flat JSON; a changed entry refuses a resume.

    Args:
        settings: the recipe as JSON: fields by section and key.
        data: fingerprints of every text and label (`data`) and of the teacher, by entry.
        backbone: fingerprint of the frozen weights.
        config: the backbone's config.json.
        versions: versions of the packages that compute, by name.
        quantization: of the frozen matrices in training steps, not `auto`.
        processes: that train together; each has its share of a batch, so that another number rounds differently.
    """
    fingerprint: dict[str, Any] = {
        **data,
        "backbone": backbone,
        "config of the backbone": sha256(to_json(dict(config)).encode()).hexdigest(),
        "device": runtime.device.type,
        "precision": runtime.precision,
        "quantization": quantization,
        "threads": torch.get_num_threads(),
        "processes": processes,
    }
    fingerprint |= {
        f"{section} -> {key}": value
        for section in SECTIONS
        for key, value in settings[section].items()
        if key not in NOT_COMPARED
    }
    if fingerprint["train -> metric"] == "auto":  # without a rare class, see `train.auto_settings`; as runs said before
        fingerprint["train -> metric"] = "accuracy"
    return fingerprint | {f"version of {name}": value for name, value in versions.items()}


@dataclass
class ResumePoint:
    """Where a run resumes; without a checkpoint, at its beginning.

    Attributes:
        folder: the run's.
        checkpoint: its newest complete checkpoint.
        finished: fingerprint of the run that made the classifier in the folder; empty if there is none.
    """

    folder: Path | None = None
    checkpoint: Checkpoint | None = None
    finished: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def find(cls, folder: Path, finished: Mapping[str, Any]) -> ResumePoint:
        """The newest complete checkpoint in a run's folder.

        Args:
            finished: fingerprint of the run that made the classifier in the folder, if there is one.
        """
        if unfinished_run(folder):
            finished = {}  # that classifier is what the unfinished run is about to replace
        checkpoint = latest(folder / CHECKPOINTS)
        if checkpoint is not None:
            logger.info(f"checkpoint: step {checkpoint.step}")
        elif not finished:
            logger.info("no complete checkpoint yet: starting from the beginning")
        return cls(folder, checkpoint, finished)

    def is_finished(self, fingerprint: Mapping[str, Any]) -> bool:
        """Whether the classifier in the folder is the result of the run with this fingerprint."""
        saved = _complete(self.finished)
        return bool(self.finished) and all(saved.get(key) == value for key, value in fingerprint.items())

    def precision(self, wanted: str) -> str:
        """Where the recipe says auto, the number format the run was started in: auto decides by a timing."""
        saved = self._saved().get("precision")
        return saved if wanted == "auto" and saved in ("fp32", "bf16", "fp16") else wanted

    def quantization(self, wanted: str) -> str:
        """Likewise the quantization of the frozen matrices."""
        saved = self._saved().get("quantization")
        return saved if wanted == "auto" and saved in ("none", "int8") else wanted

    def prefixes(self, anyway: bool = False) -> list[str] | None:
        """Names of the splits whose frozen prefix the run kept: on a GPU it may decide by a timing.

        None where that is decided anew: in a new run, and if the run may have changed (`anyway`).
        """
        found = self._saved().get("prefix kept")
        return found if isinstance(found, list) and not anyway else None

    def check(self, fingerprint: Mapping[str, Any], anyway: bool = False) -> None:
        """Compare entries of a run's fingerprint with those it was started with.

        Raises:
            RecipeError: naming each difference, unless `anyway`.
        """
        saved = self._saved()
        if not saved:
            return
        changed = [
            f"{key}: was {_short(saved.get(key))}, is {_short(fingerprint[key])}"
            for key in sorted(fingerprint)
            if saved.get(key) != fingerprint[key]
        ]
        if changed and not anyway:
            raise RecipeError(
                "cannot resume: the run has changed since its checkpoint: " + " | ".join(changed),
                where=self.folder,
                remedy="use the run's own recipe and data, or --resume-anyway if you know what you are doing",
            )
        for change in changed:
            logger.info(f"resuming although {change}")

    def check_model(self, model: SequenceClassifier) -> None:
        """Compare the checkpoint's tensors with what is trained of a model.

        Raises:
            ArtifactError: they do not fit.
        """
        if self.checkpoint is not None and not model.adapter.keeps_state:  # else a checkpoint holds more
            check_fits(self.checkpoint, trainable(model))

    def begin(self, model: SequenceClassifier, more: Mapping[str, Any], folder: Path | None, anyway: bool) -> None:
        """Start or continue training: check what is known by now, and note in the folder that a run has begun.

        Args:
            more: entries of the run's fingerprint that are only known once its rows are prepared.
            folder: the run's, if it has one; an earlier classifier in it stays until the new one is saved.

        Raises:
            RecipeError, ArtifactError: as `check` and `check_model`; then nothing in the folder was touched.
            StorageError: when it cannot be written.
        """
        self.check(more, anyway)
        self.check_model(model)
        if folder is not None:
            mark_begun(folder, self.checkpoint)

    def _saved(self) -> Mapping[str, Any]:
        """The fingerprint the run was started with; a field that its version did not have has its former default."""
        saved = self.finished if self.checkpoint is None else self.checkpoint.fingerprint
        return saved and _complete(saved)


def mark_begun(folder: Path, checkpoint: Checkpoint | None) -> None:
    """Note that a run began in a folder, and drop the checkpoints that are not of the run resuming at `checkpoint`.

    Raises:
        StorageError: when the folder cannot be written.
    """
    keep_up_to(folder / CHECKPOINTS, checkpoint)  # first: no earlier run's may lie next to the note
    write_text(folder / UNFINISHED, f"{uuid.uuid4().hex}\n")


def unfinished_run(folder: Path) -> str:
    """The name of the run that began in a folder and has not ended, different for each run; empty for none."""
    try:
        return (folder / UNFINISHED).read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError:
        return "unknown"


def mark_ended(folder: Path) -> None:
    """Remove the note: the classifier in the folder is this run's."""
    with storage_errors(folder):
        (folder / UNFINISHED).unlink(missing_ok=True)


def _complete(saved: Mapping[str, Any]) -> dict[str, Any]:
    """A fingerprint with what its run did in the fields that its version did not have."""
    values = Recipe().model_dump(mode="json")
    today = {f"{section} -> {key}": value for section in SECTIONS for key, value in values[section].items()}
    quantization = saved.get("train -> quantization", "none")  # which `auto` did not resolve then
    return today | FORMER_DEFAULTS | {"quantization": quantization} | dict(saved)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:24]}...{text[-24:]}"
