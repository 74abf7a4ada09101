"""Writing files so that they are either whole or absent: aside, flushed, renamed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import InputError, StorageError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EROFS, errno.EPERM)
_HERE = (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
# Writers work in a folder `.NAME.*.part` beside what they write; this subfolder keeps what they replace.
_ENDING = ".part"
_FORMER = ".former"
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


def cache_folder() -> Path:
    """Where this user's programs keep what they can make again, and Pennyweight's part of it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pennyweight"


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into one-line `StorageError`s."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        number = _errno(error)
        if number in _FULL:
            problem, remedy = "the disk is full", "free some space and run again; what was saved before is intact"
        elif number in _FORBIDDEN:
            problem, remedy = "the folder is not writable", "choose another folder with --out or change its permissions"
        elif number in _HERE:
            problem, remedy = f"cannot write here ({os.strerror(number)})", "choose another path"
        elif number in _NO_LOCKS:
            problem, remedy = "this file system has no locks", "choose a folder on another file system"
        elif number == errno.EIO:
            problem, remedy = "the disk reports an error", "choose a folder on another disk"
        else:
            raise
        raise StorageError(problem, where=path, remedy=remedy) from error


def _errno(error: Exception) -> int:
    """The system's error number, 0 for none. Libraries written in Rust have it in the text."""
    if isinstance(error, OSError):
        return error.errno or 0
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else 0


def fsync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_file(path: Path) -> None:
    """Make a file's content durable."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def make_folder(folder: Path) -> None:
    """`mkdir -p`, each new name made durable in the folder above it."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        fsync_folder(made.parent)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield an empty file aside; when the block ends well it is flushed and renamed to `path`, else removed.

    Raises:
        StorageError: when the disk is full or the folder cannot be written.
    """
    path = Path(path)
    with storage_errors(path), scratch_folder(path) as scratch:
        file = scratch / path.name
        file.touch()
        yield file
        fsync_file(file)
        file.replace(path)
        fsync_folder(path.parent)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder aside that replaces `path` (a folder or nothing) when the block ends well.

    Replacing takes two renames. Who is killed between them leaves the former folder aside, from where `recover`, or
    the next write to the same path, puts it back.

    Raises:
        StorageError: when the disk is full or the folder cannot be written.
    """
    path = Path(path)
    with storage_errors(path), scratch_folder(path) as scratch:
        folder = scratch / path.name
        folder.mkdir()
        yield folder
        flush_tree(folder)
        if path.is_dir():
            (scratch / _FORMER).mkdir()
            path.replace(scratch / _FORMER / path.name)
        folder.replace(path)
        fsync_folder(path.parent)


def must_be_new(folder: str | Path, what: str = "the folder", remedy: str = "name another, or empty it") -> None:
    """Refuse a folder that holds anything: what a verb writes there would take its place.

    Raises:
        InputError: for a file, or a folder with anything but dotfiles in it.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{what} is a file", where=folder, remedy=remedy)
    if found := held(folder):
        raise InputError(f"{what} is not empty", where=folder, received=found, remedy=remedy)


def held(folder: Path) -> str:
    """The first few names in a folder, for a message; empty where there is nothing but dotfiles, or no folder."""
    names = [item.name for item in folder.iterdir() if not item.name.startswith(".")] if folder.is_dir() else []
    return ", ".join(sorted(names)[:4])


def flush_tree(folder: Path) -> None:
    """Make a folder durable with all that is in it, innermost first."""
    for held in sorted(folder.rglob("*"), reverse=True):
        if held.is_dir():
            fsync_folder(held)
        else:
            fsync_file(held)
    fsync_folder(folder)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` (made if missing) to write in, gone at the end.

    It is locked, which tells a writer's folder from a dead writer's: the lock dies with its process.
    """
    make_folder(path.parent)
    recover(path.parent, path.name)
    while True:
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=_ENDING, dir=path.parent))
        descriptor = os.open(scratch, os.O_RDONLY)
        with suppress(OSError):  # no locks here: then nobody cleans up either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if scratch.exists():  # else somebody's `recover` came between the two lines above
            break
        os.close(descriptor)
    try:
        yield scratch
    finally:
        _discard(scratch)
        os.close(descriptor)


def recover(folder: Path, name: str | None = None) -> None:
    """Clean up after writers that were killed in `folder`: the half-written goes, the half-replaced comes back.

    Args:
        name: only what was meant for this name; None for all.
    """
    prefix = "." if name is None else f".{name}."
    with suppress(OSError):  # a folder that may not be listed or changed has its say when it is written to
        for left in sorted(folder.iterdir()):
            if left.name.startswith(prefix) and left.name.endswith(_ENDING) and left.is_dir():
                _discard_abandoned(left)


def _discard_abandoned(scratch: Path) -> None:
    descriptor = os.open(scratch, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return  # its writer lives
    else:
        _discard(scratch)
    finally:
        os.close(descriptor)


def _discard(scratch: Path) -> None:
    """Remove a writer's folder; what it had taken away and not replaced goes back first."""
    former = scratch / _FORMER
    if former.is_dir():
        for held in former.iterdir():
            if not (scratch.parent / held.name).exists():
                held.replace(scratch.parent / held.name)
    shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def lock_folder(folder: str | Path) -> Iterator[None]:
    """Hold a folder for this process; a second run that wants it is refused. The lock dies with its process.

    Raises:
        StorageError: when another process holds it, or the folder cannot be written.
    """
    folder = Path(folder)
    made = [level for level in (folder, *folder.parents) if not level.exists()]
    with storage_errors(folder):
        make_folder(folder)
        handle = (folder / ".lock").open("a")
    with handle:
        try:
            with storage_errors(folder):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError(
                "another run is writing to this folder", where=folder, remedy="wait for it, or choose another --out"
            ) from error
        try:
            yield
        finally:
            # A run that was refused before it wrote anything leaves no folder behind.
            if made and os.listdir(folder) == [".lock"]:
                (folder / ".lock").unlink()
                with suppress(OSError):  # a level that holds something else stays
                    for level in made:
                        level.rmdir()


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_file(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON atomically: two-space indent, keys as given, NaN refused."""
    write_text(path, to_json(value))


def to_json(value: Any) -> str:
    """JSON as all our files have it: two-space indent, keys as given, NaN refused."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def sealed(value: dict[str, Any]) -> str:
    """JSON text that carries the SHA-256 of the rest of itself as its last key, `seal`."""
    return to_json(value | {"seal": hashlib.sha256(to_json(value).encode()).hexdigest()})


def unsealed(text: str) -> dict[str, Any]:
    """The value of `sealed` text. One changed byte is noticed, white space included: the text must be what
    `sealed` writes for its value.

    Raises:
        ValueError: not JSON, or not as it was sealed.
    """
    try:
        value = json.loads(text)
        rest = {key: held for key, held in value.items() if key != "seal"}
        whole = sealed(rest) == text
    except (AttributeError, RecursionError, UnicodeEncodeError) as error:
        raise ValueError("not a sealed object") from error
    if not whole:
        raise ValueError("not as it was sealed")
    return rest


def sha256(path: str | Path) -> str:
    """The file's SHA-256 as 64 hexadecimal digits."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
