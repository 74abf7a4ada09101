"""Locks on folders. A lock dies with its process, so that none is ever left behind."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import StorageError
from .folders import make_folder
from .system_errors import NO_LOCKS, storage_errors


@contextmanager
def lock_folder(folder: str | Path) -> Iterator[None]:
    """Hold a folder for this process; a second run that wants it is refused.

    Raises:
        StorageError: when another process holds it, or the folder cannot be written.
    """
    folder = Path(folder)
    made = [level for level in (folder, *folder.parents) if not os.path.exists(level)]
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


def is_locked(folder: Path) -> bool:
    """Whether a running process holds a folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in NO_LOCKS
    else:
        return False
    finally:
        os.close(descriptor)


@contextmanager
def wait_for_lock(folder: Path) -> Iterator[None]:
    """Hold a folder, waiting for others that do; on a file system without locks nobody waits."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try_to_lock(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)


def try_to_lock(descriptor: int, *, wait: bool = False) -> bool:
    """Lock an opened folder until its descriptor is closed; whether that succeeded.

    Args:
        wait: for another process that holds it, instead of giving up.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


# What a second process does: 0 where it is refused the lock, 1 where it gets it.
_SECOND = """
import fcntl, sys
try:
    fcntl.flock(open(sys.argv[1], "a"), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(0)
sys.exit(1)
"""


def hold_over_forks(lock: Any) -> None:
    """Make every fork wait for a lock of this process: a child never gets it back from a thread that it does not have.

    Args:
        lock: one whose holder takes no other such lock.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)


def check_locks(folder: Path) -> None:
    """See that a second process is refused what this one has locked: some network file systems grant it to both.

    Raises:
        StorageError: it is not refused.
    """
    descriptor, name = tempfile.mkstemp(prefix=".lock-probe-", dir=folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        second = subprocess.run([sys.executable, "-I", "-S", "-c", _SECOND, name], capture_output=True, check=False)
    finally:
        os.close(descriptor)
        os.unlink(name)
    if second.returncode == 1 and not second.stderr:
        raise StorageError(
            "file locks do not work on this file system: two processes got the same lock",
            where=folder,
            remedy="choose a folder on another file system",
        )
