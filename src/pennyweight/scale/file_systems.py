"""Files by path or URI: local ones, `s3://`, `gs://`, and what else pyarrow opens (`fsspec+PROTOCOL://` included)."""

from __future__ import annotations

import fnmatch
import functools
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError, InputError, StorageError
from ..storage.durability import fsync_file, fsync_folder
from ..storage.folders import make_folder
from ..storage.system_errors import storage_errors

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_COPIED = 1 << 22  # bytes at a time


@dataclass(frozen=True)
class SourceFile:
    """A file to be read, wherever it lies.

    Attributes:
        uri: a path, or a URI with whatever options its file system needs.
        name: the same without options, as messages call it.
        size: in bytes.
        modified: when, in nanoseconds since 1970.
    """

    uri: str
    name: str
    size: int
    modified: int

    @property
    def local(self) -> bool:
        """Whether it lies in the machine's own file system."""
        return not is_uri(self.uri)

    def open(self) -> Any:
        """The file, opened by pyarrow with random access.

        Raises:
            DataError: it is gone, or has changed since it was found.
        """
        system, path = open_uri(self.uri)
        try:
            found = system.get_file_info(path)
            if (found.size, found.mtime_ns) != (self.size, self.modified):
                raise DataError("the file was changed or removed after this command started", where=self.name)
            return system.open_input_file(path)
        except OSError as error:
            raise _unreadable(self.name, error) from error

    def copy_to(self, folder: Path) -> Path:
        """A copy on this machine, under the file's own name.

        Raises:
            DataError: as `open`.
        """
        copy = folder / self.name.rpartition("/")[2]
        with storage_errors(copy), copy.open("wb") as held, self.open() as handle:
            shutil.copyfileobj(handle, held, _COPIED)
        return copy


class FileStore:
    """A folder, local or not, in which files are whole or absent.

    Args:
        uri: a path or a URI.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.name = _without_options(uri)
        self.local = not is_uri(uri)
        self._system, self._path = open_uri(uri)

    def make(self) -> None:
        """Make the folder and those above it.

        Raises:
            StorageError: it cannot be made.
        """
        with self._errors():
            if self.local:
                make_folder(Path(self._path))
            else:
                self._system.create_dir(self._path)

    def sizes(self, below: str = "") -> dict[str, int]:
        """The files directly in it, or in a folder of it, with their sizes in bytes."""
        from pyarrow import fs

        with self._errors():
            found = self._system.get_file_info(fs.FileSelector(self._at(below), allow_not_found=True))
        return {item.base_name: item.size for item in found if item.type == fs.FileType.File}

    def read(self, name: str) -> bytes:
        """A file's content.

        Raises:
            OSError: it is not there.
        """
        with self._system.open_input_file(self._at(name)) as handle:
            return bytes(handle.read())

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write a file aside and rename it. On a local disk it is durable when this returns.

        Raises:
            StorageError: the disk is full, or nothing can be written here; nothing is left.
        """
        folder, _, last = name.rpartition("/")
        aside = f"{folder}/.{last}.{secrets.token_hex(4)}.part".lstrip("/")
        with self._errors():
            try:
                if self.local:
                    self._write_local(name, aside, chunks)
                else:
                    with self._system.open_output_stream(self._at(aside)) as held:
                        for chunk in chunks:
                            held.write(chunk)
                    self._system.move(self._at(aside), self._at(name))
            except BaseException:
                self.remove([aside])
                raise

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; those that are not there are left alone."""
        for name in names:
            try:
                self._system.delete_file(self._at(name))
            except OSError:
                continue

    def remove_folder(self, name: str) -> None:
        """Remove a folder in it with all that it holds."""
        try:
            self._system.delete_dir(self._at(name))
        except OSError:
            return

    def _write_local(self, name: str, aside: str, chunks: Iterable[bytes]) -> None:
        path, final = Path(self._at(aside)), Path(self._at(name))
        make_folder(final.parent)
        with path.open("wb") as held:
            for chunk in chunks:
                held.write(chunk)
        fsync_file(path)
        path.replace(final)
        fsync_folder(final.parent)

    def _at(self, name: str) -> str:
        return f"{self._path.rstrip('/')}/{name}" if name else self._path

    def _errors(self) -> Any:
        return storage_errors(self.name) if self.local else _remote_errors(self.name)


@contextmanager
def _remote_errors(name: str) -> Iterator[None]:
    """Turn what a remote file system refuses into one-line `StorageError`s."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            "cannot be written or listed", received=_first_line(error), where=name,
            remedy="check the name, the credentials in the environment and the network",
        ) from error  # fmt: skip


def is_uri(given: str) -> bool:
    """Whether it is a URI, and no path."""
    return _SCHEME.match(given) is not None


def open_uri(given: str) -> tuple[Any, str]:
    """pyarrow's file system of a path or URI, and the path in it.

    Raises:
        InputError: an unknown scheme, a package that is missing, or a URI with a password in it.
    """
    if not is_uri(given):
        return _local(), os.path.abspath(given)
    scheme, _, rest = given.partition("://")
    if "@" in rest.partition("/")[0]:
        raise InputError("a URI must not contain credentials", where=scheme, remedy="set them in the environment")
    import pyarrow as pa

    try:
        system, path = _system(given)
        return system, str(path)
    except (pa.ArrowException, ImportError, OSError, ValueError) as error:
        raise InputError(
            "no file system opens this URI", where=_without_options(given), received=_first_line(error),
            expected="s3://BUCKET/..., gs://BUCKET/..., or fsspec+PROTOCOL://... and that protocol's package",
        ) from error  # fmt: skip


def find_files(given: str) -> list[SourceFile]:
    """The files that a path or URI means: one, those of a folder, or those that a pattern (`*`, `[`) matches, sorted.

    Hidden files and those that begin with an underscore are no data.

    Raises:
        DataError: there are none.
    """
    from pyarrow import fs

    plain, _, options = given.partition("?") if is_uri(given) else (given, "", "")
    system, path = open_uri(given)
    names = path.split("/")
    patterns = [number for number, part in enumerate(names) if "*" in part or "[" in part]
    try:
        if system.get_file_info(path).type == fs.FileType.File:
            found = [system.get_file_info(path)]
        else:
            first = patterns[0] if patterns else len(names)
            base, deep = "/".join(names[:first]) or "/", bool(patterns[:-1])
            selector = fs.FileSelector(base, recursive=deep, allow_not_found=True)
            wanted = names if patterns else [*names, "*"]
            found = [item for item in system.get_file_info(selector) if _matches(item.path.split("/"), wanted)]
    except OSError as error:
        raise _unreadable(_without_options(given), error) from error
    files = sorted((item for item in found if item.type == fs.FileType.File), key=lambda item: item.path)
    if not files:
        raise DataError(
            "no such file", where=plain, expected="a file, a folder of files or a pattern such as 'd/*.csv'"
        )
    if not is_uri(given):
        return [
            SourceFile(item.path, given if item.path == path else item.path, item.size, item.mtime_ns) for item in files
        ]
    scheme = plain.partition("://")[0]
    uris = [f"{scheme}://{item.path}" for item in files]
    suffix = f"?{options}" if options else ""
    return [SourceFile(uri + suffix, uri, item.size, item.mtime_ns) for uri, item in zip(uris, files, strict=True)]


def _matches(parts: list[str], wanted: list[str]) -> bool:
    hidden = parts[-1].startswith((".", "_"))
    return not hidden and len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


@functools.lru_cache(maxsize=64)
def _system(given: str) -> Any:
    from pyarrow import fs

    return fs.FileSystem.from_uri(given)


@functools.cache
def _local() -> Any:
    from pyarrow import fs

    return fs.LocalFileSystem()


def _without_options(given: str) -> str:
    return given.partition("?")[0] if is_uri(given) else given


def _unreadable(name: str, error: OSError) -> DataError:
    return DataError("cannot be read", where=name, received=_first_line(error))


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:200]
