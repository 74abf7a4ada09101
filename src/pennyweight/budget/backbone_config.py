"""The configuration of a backbone, without weights and without a network.

`checkpoints.json` holds, for well-known checkpoints, the fields of their published `config.json` that decide the
model's shape and behaviour, under the full hub id.
"""

from __future__ import annotations

import json
import os
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import BackboneError
from .architecture import describe

EMBEDDED = "sentence-transformers/all-MiniLM-L6-v2"


def load_config(name: str | Path) -> dict[str, Any]:
    """The `config.json` fields of a backbone, a fresh dictionary that `AutoConfig.for_model` accepts.

    Args:
        name: `embedded`, a folder with a `config.json`, or a known hub id, full (`FacebookAI/roberta-base`) or its
            last part (`roberta-base`), in any case. A folder wins over an id of the same name.

    Raises:
        BackboneError: an unknown name, an unreadable or damaged `config.json`, an unsupported architecture, or a
            config that lacks a field counting needs.
    """
    folder = Path(name)
    if os.path.isfile(folder / "config.json"):
        return _read(folder / "config.json")
    known = _ids().get(str(name).lower())
    if known is not None:
        return deepcopy(_facts()[known])
    if os.path.isdir(folder):
        raise BackboneError(
            "the folder has no config.json", where=folder, remedy="give the folder in which a backbone was saved"
        )
    raise BackboneError(
        "unknown backbone",
        expected="embedded, a folder with a config.json, or one of " + ", ".join(known_names()),
        received=repr(str(name)),
        remedy="download it once on a machine with network access and give the folder",
    )


def known_names() -> tuple[str, ...]:
    """The short names of the checkpoints whose facts ship with the package."""
    return tuple(full.rpartition("/")[2] for full in _facts())


def full_id(name: str) -> str | None:
    """The full hub id of a known checkpoint, by any of its names; None when it is not known."""
    return _ids().get(name.lower())


@cache
def _facts() -> dict[str, dict[str, Any]]:
    facts: dict[str, dict[str, Any]] = json.loads(
        Path(__file__).with_name("checkpoints.json").read_text(encoding="utf-8")
    )
    return facts


@cache
def _ids() -> dict[str, str]:
    """Every accepted spelling, in lower case, to the full id."""
    ids = {"embedded": EMBEDDED}
    for full in _facts():
        ids[full.lower()] = ids[full.rpartition("/")[2].lower()] = full
    return ids


def _read(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BackboneError(f"the config cannot be read ({error})", where=path) from error
    if not isinstance(config, dict):
        raise BackboneError(
            "the config cannot be used", where=path, expected="a JSON object", received=type(config).__name__
        )
    try:
        describe(config)
    except BackboneError as error:
        raise BackboneError(
            error.problem, where=f"{path}: {error.where}", expected=error.expected, received=error.received
        ) from error
    return config
