"""Files and folders that are complete or absent: written under a temporary name, flushed, renamed.

Writers work in a locked folder `.NAME.*.part` next to their target. Whatever a killed writer left is put right by
`recover`, which the next writer of the same name calls first.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .durability import fsync_file, fsync_folder, fsync_tree
from .folders import make_folder
from .locks import is_locked, try_to_lock, wait_for_lock
from .system_errors import storage_errors

_ENDING = ".part"
# Inside the folder aside: what the writer replaces, and the file that says what several items together replace.
_FORMER = ".former"
_SWAP = ".swap"


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield an empty file aside; when the block ends well it is flushed and renamed to `path`, otherwise removed.

    Raises:
        StorageError: when the disk is full or the folder cannot be written.
    """
    path = Path(path)
    with storage_errors(path), scratch_folder(path) as scratch:
        file = scratch / path.name
        file.touch()
        yield file
        _set_modes([file], scratch)
        fsync_file(file)
        file.replace(path)
        fsync_folder(path.parent)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder aside that replaces `path` (a folder or nothing) when the block ends well.

    Replacing takes two renames. A writer that is killed between them leaves the former folder aside, from where
    `recover`, or the next write to the same path, puts it back.

    Raises:
        StorageError: when the disk is full or the folder cannot be written.
    """
    path = Path(path)
    with storage_errors(path), scratch_folder(path) as scratch:
        folder = scratch / path.name
        folder.mkdir()
        yield folder
        _set_modes([folder, *folder.rglob("*")], scratch)
        fsync_tree(folder)
        if path.is_dir():
            (scratch / _FORMER).mkdir()
            path.replace(scratch / _FORMER / path.name)
        folder.replace(path)
        fsync_folder(path.parent)


@contextmanager
def atomic_items(folder: str | Path, name: str, commit: str, retired: Iterable[str] = ()) -> Iterator[Path]:
    """Yield an empty folder aside whose files and folders replace those of the same names in `folder`, all or none.

    `folder` may hold other files too, so it cannot be renamed as a whole. What is replaced is kept aside until the file
    `commit` is renamed into place: that rename decides. A writer that is killed before it leaves the former items in
    `folder` or aside, from where `recover`, or the next write under the same name, puts them back. A reader that comes
    in between finds them in `former_places`. Two writers of one folder wait for each other.

    Args:
        folder: made if missing.
        name: name of this set of items; it begins the names of its writers' folders.
        commit: the file in the folder aside that is renamed last.
        retired: items in `folder` to remove unless new ones replace them.

    Raises:
        StorageError: when the disk is full or the folder cannot be written; what was there before is intact.
    """
    folder = Path(folder)
    with storage_errors(folder):
        make_folder(folder)
        with wait_for_lock(folder), scratch_folder(folder / name) as scratch:
            aside, former = scratch / name, scratch / _FORMER
            aside.mkdir()
            yield aside
            _set_modes([aside, *aside.rglob("*")], scratch)
            new = sorted(item.name for item in aside.iterdir() if item.name != commit)
            former.mkdir()
            (scratch / _SWAP).write_text(json.dumps({"new": new, "commit": commit, "aside": name}), encoding="utf-8")
            fsync_tree(scratch)
            for item in sorted({*new, *retired} - {commit}):
                if os.path.lexists(folder / item):
                    (folder / item).replace(former / item)
                if item in new:
                    (aside / item).replace(folder / item)
            fsync_folder(former)
            fsync_folder(folder)
            (aside / commit).replace(folder / commit)
            fsync_folder(folder)


def former_places(folder: Path, name: str) -> list[str]:
    """Where writers of this set, alive or killed, keep what they are replacing: paths relative to `folder`."""
    with suppress(OSError, ValueError):
        return [f"{left}/{_FORMER}" for left in sorted(os.listdir(folder)) if _is_scratch(left, name)]
    return []


def being_written(folder: Path, name: str) -> bool:
    """Whether a running process is writing `name` in a folder."""
    with suppress(OSError, ValueError):
        for left in os.listdir(folder):
            if _is_scratch(left, name) and is_locked(folder / left):
                return True
    return False


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """A folder next to `path` to write in, removed at the end; missing parents are made.

    It is locked while its writer lives, which tells it from a killed writer's.
    """
    make_folder(path.parent)
    recover(path.parent, path.name)
    while True:
        scratch = path.parent / f"{_prefix(path.name)}{secrets.token_hex(4)}{_ENDING}"
        scratch.mkdir()  # with the umask's permissions, which all that is written in it gets
        descriptor = os.open(scratch, os.O_RDONLY)
        try_to_lock(descriptor, wait=True)  # without locks nobody cleans up either
        if scratch.exists():  # else another process's `recover` came between `mkdir` and the lock
            break
        os.close(descriptor)
    try:
        yield scratch
    finally:
        _discard(scratch)
        os.close(descriptor)


def recover(folder: Path, name: str | None = None) -> None:
    """Clean up after writers that were killed in `folder`: remove what is half written, restore what was replaced.

    Args:
        name: only what was meant for this name; None for all.
    """
    with suppress(OSError):  # a folder that cannot be listed or changed is reported when it is written to
        for left in sorted(folder.iterdir()):
            if _is_scratch(left.name, name) and left.is_dir() and not left.is_symlink():
                _discard_abandoned(left)


def _discard_abandoned(scratch: Path) -> None:
    descriptor = os.open(scratch, os.O_RDONLY)
    try:
        if try_to_lock(descriptor):  # else its writer is alive
            _discard(scratch)
    finally:
        os.close(descriptor)


def _discard(scratch: Path) -> None:
    """Remove a writer's folder; what it had moved away and not replaced goes back first."""
    former = scratch / _FORMER
    _take_back(scratch)
    if former.is_dir():
        for held in former.iterdir():
            if not (scratch.parent / held.name).exists():
                held.replace(scratch.parent / held.name)
    shutil.rmtree(scratch, ignore_errors=True)


def _take_back(scratch: Path) -> None:
    """Undo an `atomic_items` that did not reach its last rename. Each step can be repeated after being killed in it."""
    try:
        swap = json.loads((scratch / _SWAP).read_text("utf-8"))
        aside, commit, new = scratch / swap["aside"], swap["commit"], swap["new"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # nothing was moved yet: this file is flushed before the first rename
    if not (aside / commit).exists():
        shutil.rmtree(scratch / _FORMER, ignore_errors=True)  # it did reach it: what it replaced goes
        return
    for item in new:
        if not os.path.lexists(aside / item) and os.path.lexists(scratch.parent / item):
            (scratch.parent / item).replace(aside / item)


def _is_scratch(left: str, name: str | None) -> bool:
    return left.startswith("." if name is None else _prefix(name)) and left.endswith(_ENDING)


def _prefix(name: str) -> str:
    """How the folders of writers of `name` begin. The longest possible file name has no room for an addition: its hash
    takes its place."""
    return f".{name}." if len(os.fsencode(name)) <= 200 else f".{hashlib.sha256(os.fsencode(name)).hexdigest()}."


def _set_modes(paths: Iterable[Path], scratch: Path) -> None:
    """Give the umask's permissions, as `scratch` has them, to what libraries wrote with permissions of their own."""
    folder = stat.S_IMODE(scratch.stat().st_mode)
    for path in paths:
        mode = folder if path.is_dir() else folder & 0o666
        if stat.S_IMODE(path.stat().st_mode) != mode:
            with suppress(PermissionError):  # a file system without permissions
                path.chmod(mode)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_file(path) as aside:
        aside.write_text(text, encoding="utf-8")
