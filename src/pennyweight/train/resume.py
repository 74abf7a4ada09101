"""Going on with a run, and only with the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import RecipeError
from ..recipe import SECTIONS, Recipe
from .checkpoint import State, latest


def fingerprint(recipe: Recipe, data: str, backbone: str, versions: dict[str, str]) -> dict[str, Any]:
    """All that decides a run's result, as flat JSON; a changed entry refuses a resume.

    Args:
        data: fingerprint of every text and label.
        backbone: fingerprint of the frozen weights.
    """
    facts: dict[str, Any] = {"data": data, "backbone": backbone}
    ignored = {"train", "test", "validation", "track", "cache_dir", "save_total_limit", "backbone", "revision"}
    for section in SECTIONS:
        for key, value in getattr(recipe, section).model_dump(mode="json").items():
            if key not in ignored:
                facts[f"{section} -> {key}"] = value
    return facts | {f"version of {name}": value for name, value in versions.items()}


def find(folder: Path, fingerprint: dict[str, Any], anyway: bool) -> State | None:
    """The newest complete checkpoint in a run's folder, if it belongs to this very run.

    Raises:
        RecipeError: when something changed since, naming each difference, unless `anyway`.
    """
    state = latest(folder / "checkpoints")
    if state is None:
        return None
    changed = [
        f"{key}: was {state.fingerprint.get(key)!r}, is {fingerprint.get(key)!r}"
        for key in sorted(fingerprint.keys() | state.fingerprint.keys())
        if fingerprint.get(key) != state.fingerprint.get(key)
    ]
    if changed and not anyway:
        raise RecipeError(
            "cannot resume: the run has changed since its checkpoint: " + " | ".join(changed),
            where=folder,
            remedy="use the run's own recipe (--recipe RUN/recipe.yaml), or --resume-anyway if you know what you do",
        )
    return state
