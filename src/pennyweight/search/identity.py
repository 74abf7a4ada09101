"""The identity of a search, kept in its folder: trials on other data or another backbone are not comparable."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import RecipeError, StorageError
from ..recipe.schema import SECTIONS, Recipe
from ..storage.atomic import write_text
from ..storage.folders import make_folder, visible_names
from ..storage.json_files import to_json
from ..storage.system_errors import storage_errors
from .space import Space

FACTS = "study.json"
FORMAT = 1
FORMAT_FACT = "number format"
# What may differ between processes and days without making trials incomparable.
FREE = ("test", "train", "validation", "track", "cache_dir", "cache_gb", "device", "threads", "report", "save_steps")


def search_facts(recipe: Recipe, space: Space, data: str) -> dict[str, Any]:
    """All that has to be the same for trials to be comparable, as flat JSON."""
    from ..model.backbone import resolve
    from ..model.device import choose

    facts: dict[str, Any] = {"data": data}
    # `auto` is another number format on another machine, and trials in bf16 are not measured against those in fp32.
    facts[FORMAT_FACT] = choose(recipe.train.device, recipe.train.precision, recipe.train.threads).precision
    facts["backbone"] = resolve(recipe.model.backbone, recipe.model.revision).fingerprint()
    facts |= {f"choices of {key}": value for key, value in space.to_json().items()}
    chosen = {*space.to_json(), "budget", "backbone", "revision", *FREE}
    for section in SECTIONS:
        for key, value in getattr(recipe, section).model_dump(mode="json").items():
            if key not in chosen:
                facts[f"{section} -> {key}"] = value
    if recipe.train.metric != "accuracy":
        # Older searches compared trials by accuracy, whatever the metric: theirs are not comparable.
        facts["trials are compared by"] = recipe.train.metric
    return facts


def claim_folder(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write a search's facts into its folder, or compare them with those that are there.

    Raises:
        RecipeError: the folder holds something else.
        StorageError: the folder cannot be written.
    """
    file = folder / FACTS
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise StorageError("the folder is a file", where=folder, remedy="choose another --out")
    if not os.path.isfile(file):
        if found := visible_names(folder):
            raise RecipeError(
                "the folder contains something other than a search",
                where=folder,
                received=found,
                remedy="choose another --out",
            )
        with storage_errors(folder):
            make_folder(folder)
        write_text(file, to_json({"format": FORMAT, "facts": dict(facts)}))
        return
    try:
        was = json.loads(file.read_text("utf-8"))["facts"]
        was.setdefault(FORMAT_FACT, facts.get(FORMAT_FACT))  # older searches did not note it
        changed = differing_facts(was, facts)
    except (ValueError, KeyError, TypeError) as error:
        raise RecipeError("the search's record cannot be read", where=file, remedy="choose another --out") from error
    if changed:
        raise RecipeError(
            f"the folder contains a search with other settings: {changed}",
            where=folder,
            remedy="choose another --out, or use the original settings",
        )


def differing_facts(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """In what two searches differ, in words; empty for nothing."""
    changed = [key for key in sorted({*was, *now}) if was.get(key) != now.get(key)]
    return " | ".join(f"{key}: was {_short(was.get(key))}, is {_short(now.get(key))}" for key in changed)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:16]}...{text[-16:]}"
