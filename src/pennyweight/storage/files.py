"""Writing files so that they are either whole or absent: aside, flushed, renamed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import InputError, StorageError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EROFS, errno.EPERM)
_HERE = (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
# Writers work in a folder `.NAME.*.part` beside what they write; this subfolder keeps what they replace, and this file
# says what several items together replace.
_ENDING = ".part"
_FORMER = ".former"
_SWAP = ".swap"
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
    missing = [parent for parent in (folder, *folder.parents) if not os.path.exists(parent)]
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
        _set_modes([file], scratch)
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
        _set_modes([folder, *folder.rglob("*")], scratch)
        flush_tree(folder)
        if path.is_dir():
            (scratch / _FORMER).mkdir()
            path.replace(scratch / _FORMER / path.name)
        folder.replace(path)
        fsync_folder(path.parent)


@contextmanager
def atomic_items(folder: str | Path, name: str, commit: str, retired: Iterable[str] = ()) -> Iterator[Path]:
    """Yield an empty folder aside whose files and folders replace those of the same names in `folder`, all or none.

    `folder` may hold other things, so that it cannot be renamed as a whole. What is replaced is kept aside until the
    file `commit` is renamed into its place, which decides: who is killed before leaves the former items, in `folder`
    or aside, from where `recover`, or the next write under the same name, puts them back. `formers` finds them for a
    reader that comes in between. Two writers of one folder wait for each other.

    Args:
        folder: made if missing.
        name: tells these writers' folders from others'.
        commit: the file in the folder aside that is renamed last.
        retired: items in `folder` that go if the new ones do not replace them.

    Raises:
        StorageError: when the disk is full or the folder cannot be written; what was there before is there.
    """
    folder = Path(folder)
    with storage_errors(folder):
        make_folder(folder)
        with _alone(folder), scratch_folder(folder / name) as scratch:
            aside, former = scratch / name, scratch / _FORMER
            aside.mkdir()
            yield aside
            _set_modes([aside, *aside.rglob("*")], scratch)
            new = sorted(item.name for item in aside.iterdir() if item.name != commit)
            former.mkdir()
            (scratch / _SWAP).write_text(to_json({"new": new, "commit": commit, "aside": name}), encoding="utf-8")
            flush_tree(scratch)
            for item in sorted({*new, *retired} - {commit}):
                if os.path.lexists(folder / item):
                    (folder / item).replace(former / item)
                if item in new:
                    (aside / item).replace(folder / item)
            fsync_folder(former)
            fsync_folder(folder)
            (aside / commit).replace(folder / commit)
            fsync_folder(folder)


def formers(folder: Path, name: str) -> list[str]:
    """Where `atomic_items` under this name, alive or killed, keeps what it is replacing: paths relative to `folder`."""
    with suppress(OSError, ValueError):
        return [f"{left}/{_FORMER}" for left in sorted(os.listdir(folder)) if _is_scratch(left, name)]
    return []


def being_written(folder: Path, name: str) -> bool:
    """Whether a living writer is at work on `name` in a folder."""
    with suppress(OSError, ValueError):
        for left in os.listdir(folder):
            if _is_scratch(left, name) and _is_locked(folder / left):
                return True
    return False


def _is_locked(scratch: Path) -> bool:
    descriptor = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _NO_LOCKS
    else:
        return False
    finally:
        os.close(descriptor)


def _is_scratch(left: str, name: str | None) -> bool:
    return left.startswith("." if name is None else _prefix(name)) and left.endswith(_ENDING)


def _prefix(name: str) -> str:
    """How the folders of writers of `name` begin: a name as long as names may be has no room for more."""
    return f".{name}." if len(os.fsencode(name)) <= 200 else f".{hashlib.sha256(os.fsencode(name)).hexdigest()}."


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for other writers of whole sets of items; without locks nobody waits."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def must_be_new(folder: str | Path, what: str = "the folder", remedy: str = "name another, or empty it") -> None:
    """Refuse a folder that holds anything: what a verb writes there would take its place.

    Raises:
        InputError: for a file, or a folder with anything but dotfiles in it.
    """
    folder = Path(folder)
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise InputError(f"{what} is a file", where=folder, remedy=remedy)
    if found := held(folder):
        raise InputError(f"{what} is not empty", where=folder, received=found, remedy=remedy)


def held(folder: Path) -> str:
    """The first few names in a folder, for a message; empty where there is nothing but dotfiles, or no folder."""
    names = [item.name for item in folder.iterdir() if not item.name.startswith(".")] if os.path.isdir(folder) else []
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
        scratch = path.parent / f"{_prefix(path.name)}{secrets.token_hex(4)}{_ENDING}"
        scratch.mkdir()  # with the umask's permissions, which are those of all that is written in it
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
    with suppress(OSError):  # a folder that may not be listed or changed has its say when it is written to
        for left in sorted(folder.iterdir()):
            if _is_scratch(left.name, name) and left.is_dir() and not left.is_symlink():
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
    _take_back(scratch)
    if former.is_dir():
        for held in former.iterdir():
            if not (scratch.parent / held.name).exists():
                held.replace(scratch.parent / held.name)
    shutil.rmtree(scratch, ignore_errors=True)


def _take_back(scratch: Path) -> None:
    """Undo `atomic_items` that did not come to its last rename. Each step can be repeated, whoever is killed in it."""
    try:
        swap = json.loads((scratch / _SWAP).read_text("utf-8"))
        aside, commit, new = scratch / swap["aside"], swap["commit"], swap["new"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # nothing was moved yet: this file is flushed before the first rename
    if not (aside / commit).exists():
        shutil.rmtree(scratch / _FORMER, ignore_errors=True)  # it did: what it replaced goes
        return
    for item in new:
        if not os.path.lexists(aside / item) and os.path.lexists(scratch.parent / item):
            (scratch.parent / item).replace(aside / item)


def _set_modes(paths: Iterable[Path], scratch: Path) -> None:
    """Give what libraries wrote with permissions of their own those that the umask gives, as `scratch` has them."""
    folder = stat.S_IMODE(scratch.stat().st_mode)
    for path in paths:
        mode = folder if path.is_dir() else folder & 0o666
        if stat.S_IMODE(path.stat().st_mode) != mode:
            with suppress(PermissionError):  # a file system without permissions
                path.chmod(mode)


@contextmanager
def lock_folder(folder: str | Path) -> Iterator[None]:
    """Hold a folder for this process; a second run that wants it is refused. The lock dies with its process.

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


@contextmanager
def opened_folder(folder: str | Path) -> Iterator[int]:
    """A folder's descriptor, for `read_inside`: the same folder to the end, whatever takes its name meanwhile.

    Raises:
        OSError: as `os.open`.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_inside(root: int, name: str, largest: int) -> bytes:
    """A regular file in an opened folder, whole. No link is followed, and nothing waits for a writer of a pipe.

    Args:
        name: relative, its parts separated by `/`, none of them `..`.
        largest: bytes that it may have.

    Raises:
        OSError: as `os.open`: ELOOP or ENOTDIR for a link, EINVAL for what is no regular file, EFBIG for a larger one.
    """
    *folders, last = name.split("/")
    held = [root]
    try:
        for part in folders:
            held.append(os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=held[-1]))
        descriptor = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=held[-1])
    finally:
        for one in held[1:]:
            os.close(one)
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)
        if facts.st_size > largest:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), name)
        with open(descriptor, "rb", closefd=False) as handle:
            return handle.read(facts.st_size)  # what is written to it meanwhile is not in it
    finally:
        os.close(descriptor)


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
