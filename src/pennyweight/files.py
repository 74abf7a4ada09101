"""Writing files so that they are either whole or absent: aside, flushed, renamed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import StorageError


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into one-line `StorageError`s."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            problem, remedy = "the disk is full", "free some space and run again; what was saved before is intact"
        elif error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            problem, remedy = "the folder is not writable", "choose another folder with --out or change its permissions"
        elif isinstance(error, (NotADirectoryError, FileExistsError, IsADirectoryError)):
            problem, remedy = f"cannot write here ({error.strerror})", "choose another path"
        else:
            raise
        raise StorageError(problem, where=path, remedy=remedy) from error


def fsync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a path aside; when the block ends well it is flushed and renamed to `path`, else removed.

    Raises:
        StorageError: when the disk is full or the folder cannot be written.
    """
    path = Path(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(descriptor)
        aside = Path(name)
        try:
            yield aside
            # mkstemp makes private files; what we publish follows the user's umask like any other file.
            umask = os.umask(0)
            os.umask(umask)
            aside.chmod(0o666 & ~umask)
            with aside.open("rb") as handle:
                os.fsync(handle.fileno())
            aside.replace(path)
            fsync_folder(path.parent)
        finally:
            aside.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder aside that replaces `path` (a folder or nothing) when the block ends well."""
    path = Path(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        try:
            yield aside
            for file in aside.rglob("*"):
                if file.is_file():
                    with file.open("rb") as handle:
                        os.fsync(handle.fileno())
                else:
                    fsync_folder(file)
            umask = os.umask(0)
            os.umask(umask)
            aside.chmod(0o777 & ~umask)
            if path.exists():
                old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
                path.replace(old / path.name)
                aside.replace(path)
                shutil.rmtree(old)
            else:
                aside.replace(path)
            fsync_folder(path.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def lock_folder(folder: str | Path) -> Iterator[None]:
    """Hold a folder for this process; a second run that wants it is refused. The lock dies with its process.

    Raises:
        StorageError: when another process holds it, or the folder cannot be written.
    """
    folder = Path(folder)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("a")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError(
                "another run is writing to this folder", where=folder, remedy="wait for it, or choose another --out"
            ) from error
        yield


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_file(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON atomically: two-space indent, keys as given, NaN refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sha256(path: str | Path) -> str:
    """The file's SHA-256 as 64 hexadecimal digits."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
