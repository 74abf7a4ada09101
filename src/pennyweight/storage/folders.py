"""Output folders: created durably, or refused if they are not empty."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import InputError
from .durability import fsync_folder


def make_folder(folder: Path) -> None:
    """`mkdir -p`, each new name made durable in the folder above it."""
    missing = [parent for parent in (folder, *folder.parents) if not os.path.exists(parent)]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        fsync_folder(made.parent)


def refuse_nonempty_folder(
    folder: str | Path, what: str = "the folder", remedy: str = "give another folder, or empty it"
) -> None:
    """Refuse a folder that holds anything: what a command writes there would take its place.

    Raises:
        InputError: for a file, or a folder with anything but dotfiles in it.
    """
    folder = Path(folder)
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise InputError(f"{what} is a file", where=folder, remedy=remedy)
    if found := visible_names(folder):
        raise InputError(f"{what} is not empty", where=folder, received=found, remedy=remedy)


def visible_names(folder: Path) -> str:
    """The first four names in a folder, for a message, dotfiles aside; empty for no folder."""
    names = [item.name for item in folder.iterdir() if not item.name.startswith(".")] if os.path.isdir(folder) else []
    return ", ".join(sorted(names)[:4])
