"""Making written files survive a power cut."""

from __future__ import annotations

import os
from pathlib import Path


def fsync_file(path: Path) -> None:
    """Make a file's content durable."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def fsync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(folder: Path) -> None:
    """Make a folder and everything in it durable, innermost first."""
    for item in sorted(folder.rglob("*"), reverse=True):
        if item.is_dir():
            fsync_folder(item)
        else:
            fsync_file(item)
    fsync_folder(folder)
