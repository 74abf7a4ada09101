"""Going on with a run, and only with the same run.

From `begin` to `end` a run's folder holds a note beside the checkpoints, `unfinished`: a classifier that lies there
meanwhile is a former run's. It stays in place, whole, until the new one takes its place."""

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
from ..model.device import Runtime
from ..recipe.loading import SECTIONS, Recipe
from ..storage.atomic import write_text
from ..storage.json_files import to_json
from ..storage.system_errors import storage_errors
from .checkpoint import State, keep_up_to, latest

logger = logging.getLogger(__name__)

UNFINISHED = Path("checkpoints") / "unfinished"
# Fields whose default was once another: what a run did whose version did not know the field yet.
STOOD: dict[str, Any] = {
    "train -> learning_rate": 7e-4,
    "train -> lp_ft": False,
    "plan -> lora_dropout": 0.0,
    "plan -> head_dropout": 0.0,
}

# What a recipe may change without changing the result: names of things whose content is compared, and conveniences.
FREE = {
    *("train", "test", "validation", "mix", "ood", "backbone", "revision", "cache_dir", "cache_gb"),
    *("track", "save_total_limit", "save_steps", "report", "audit", "shift"),
    *("device", "precision", "threads"),  # what they came to on this machine is compared
}


def fingerprint(
    recipe: Recipe, data: str, backbone: str, config: Mapping[str, Any], runtime: Runtime, versions: Mapping[str, str]
) -> dict[str, Any]:
    """All that decides a run's result, as flat JSON; a changed entry refuses a resume.

    Args:
        data: fingerprint of every text and label.
        backbone: fingerprint of the frozen weights.
        config: the backbone's config.json.
    """
    facts: dict[str, Any] = {
        "data": data,
        "backbone": backbone,
        "config of the backbone": sha256(to_json(dict(config)).encode()).hexdigest(),
        "device": runtime.device.type,
        "precision": runtime.precision,
        "threads": torch.get_num_threads(),
    }
    for section in SECTIONS:
        for key, value in getattr(recipe, section).model_dump(mode="json").items():
            if key not in FREE:
                facts[f"{section} -> {key}"] = value
    return facts | {f"version of {name}": value for name, value in versions.items()}


@dataclass
class Resumption:
    """The place a run goes on from; without a state, the beginning.

    Attributes:
        folder: the run's.
        state: its newest complete checkpoint.
        made: fingerprint of the run that made the finished classifier there; empty if there is none.
    """

    folder: Path | None = None
    state: State | None = None
    made: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def find(cls, folder: Path, made: Mapping[str, Any]) -> Resumption:
        """The newest complete checkpoint in a run's folder.

        Args:
            made: fingerprint of the run that made the classifier there, if one lies there.
        """
        if begun(folder):
            made = {}  # what lies there is what the unfinished run is about to replace
        state = latest(folder / "checkpoints")
        if state is not None:
            logger.info(f"checkpoint: step {state.step}")
        elif not made:
            logger.info("no complete checkpoint yet: from the beginning")
        return cls(folder, state, made)

    def is_finished(self, now: Mapping[str, Any]) -> bool:
        """Whether the classifier in the folder is what this very run makes."""
        was = _defaults() | dict(self.made)
        return bool(self.made) and all(was.get(key) == value for key, value in now.items())

    def precision(self, wanted: str) -> str:
        """Where the recipe says auto, the number format the run was started in: the choice rests on a timing."""
        saved = self._was().get("precision")
        return saved if wanted == "auto" and saved in ("fp32", "bf16", "fp16") else wanted

    def check(self, now: Mapping[str, Any], anyway: bool = False) -> None:
        """Hold the run to the fingerprint it was started with, as far as `now` goes.

        Raises:
            RecipeError: naming each difference, unless `anyway`.
        """
        was = self._was()
        if not was:
            return
        changed = [
            f"{key}: was {_short(was.get(key))}, is {_short(now[key])}"
            for key in sorted(now)
            if was.get(key) != now[key]
        ]
        if changed and not anyway:
            raise RecipeError(
                "cannot resume: the run has changed since its checkpoint: " + " | ".join(changed),
                where=self.folder,
                remedy="use the run's own recipe and data, or --resume-anyway if you know what you do",
            )
        for change in changed:
            logger.info(f"going on although {change}")

    def _was(self) -> Mapping[str, Any]:
        """What the run was; a field that its version did not know stood where its default stands."""
        held = self.made if self.state is None else self.state.fingerprint
        return held and _defaults() | dict(held)


def begin(folder: Path, state: State | None) -> None:
    """Make the checkpoints in a run's folder those of the run that goes on from `state`, and note that it began.

    Raises:
        StorageError: when the folder cannot be written.
    """
    keep_up_to(folder / UNFINISHED.parent, state)  # first: with the note in place no former run's may be there
    write_text(folder / UNFINISHED, f"{uuid.uuid4().hex}\n")


def begun(folder: Path) -> str:
    """A name for the run that began in a folder and has not ended, the same until another begins; empty for none."""
    try:
        return (folder / UNFINISHED).read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError:
        return "unknown"


def end(folder: Path) -> None:
    """Take the note away: the classifier in the folder is this run's."""
    with storage_errors(folder):
        (folder / UNFINISHED).unlink(missing_ok=True)


def _defaults() -> dict[str, Any]:
    values = Recipe().model_dump(mode="json")
    now = {f"{section} -> {key}": value for section in SECTIONS for key, value in values[section].items()}
    return now | STOOD


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:24]}...{text[-24:]}"
