"""Compressed files (gzip, bzip2, xz, and a zip archive of one file): detected by their bytes, opened as one stream."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from ...errors import DataError
from ..table import listed

#: How many bytes `detect_compression` has to see.
MAGIC = 10

#: The compression that a name's ending promises; the content decides.
ENDINGS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zip": "zip"}

#: What damaged content raises when it is decompressed; bzip2 has no error of its own.
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, zipfile.BadZipFile)
BZIP2_DAMAGED = "Invalid data stream"

# Office documents are zip archives too, but one document each.
_PACKAGES = ("[Content_Types].xml", "mimetype")


def detect_compression(head: bytes) -> str | None:
    """How a file is compressed, by its first `MAGIC` bytes: gzip, bzip2, xz or zip; None if it is not."""
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head[:3] == b"BZh" and head[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):  # a block, or the end of an empty stream
        return "bzip2"
    if head.startswith(b"\xfd7zXZ\x00"):
        return "xz"
    return "zip" if head.startswith((b"PK\x03\x04", b"PK\x05\x06")) else None


@contextmanager
def open_decompressed(file: BinaryIO, path: Path, size: int) -> Iterator[tuple[BinaryIO, str | None, int]]:
    """Open a file's content.

    Args:
        file: the open file, at its start; `size`: its bytes.

    Yields:
        A stream of the content, how it was compressed (None: it was not), and the compressed bytes.

    Raises:
        DataError: the name says another compression than the content; an archive of none or several data files, or an
            encrypted one.
    """
    head = file.peek(MAGIC)[:MAGIC]  # type: ignore[attr-defined]
    found = detect_compression(head)
    named = ENDINGS.get(path.suffix.lower())
    if named and not found and size:
        raise DataError(
            f"the suffix stands for {named}, but the content is not {named}",
            remedy=f"rename it without {path.suffix} or compress it",
            where=path,
        )
    if found == "gzip":
        with gzip.GzipFile(fileobj=file) as stream:
            yield cast(BinaryIO, stream), found, size
    elif found == "bzip2":
        yield cast(BinaryIO, _Streams(file, bz2.BZ2Decompressor)), found, size
    elif found == "xz":
        yield cast(BinaryIO, _Streams(file, lzma.LZMADecompressor)), found, size
    elif found == "zip" and not is_package(path):
        with _archive(path) as archive:
            member = _member(archive, path)
            with _opened(archive, member, path) as stream:
                yield cast(BinaryIO, stream), found, min(member.compress_size, size)
    else:
        yield file, None, size


class _Streams:
    """The content of bzip2 or xz streams that follow one another in a file, zeros between and behind them left out.

    `BZ2File` and `LZMAFile` take whatever follows a stream and is none for the end: of a file with a damaged second
    stream they would give the first alone.

    Args:
        file: the open file, at its start.
        start: makes the decompressor of a stream.
    """

    def __init__(self, file: BinaryIO, start: Callable[[], Any]) -> None:
        self._file, self._start = file, start
        self._stream = start()

    def read(self, size: int) -> bytes:
        """At most so many bytes of content; none at the end."""
        while True:
            packed = b""
            if self._stream.eof:
                packed = self._stream.unused_data.lstrip(b"\0")
                while not packed:
                    more = self._file.read(io.DEFAULT_BUFFER_SIZE)
                    if not more:
                        return b""
                    packed = more.lstrip(b"\0")
                self._stream = self._start()
            elif self._stream.needs_input:
                packed = self._file.read(io.DEFAULT_BUFFER_SIZE)
                if not packed:
                    raise EOFError("Compressed file ended before the end-of-stream marker was reached")
            content: bytes = self._stream.decompress(packed, size)
            if content:
                return content


def is_package(path: Path) -> bool:
    """Whether a zip archive is one document, such as a workbook: it is read as it is."""
    return any(name in _PACKAGES for name in list_archive(path))


def list_archive(path: Path) -> list[str]:
    """The names in a zip archive; none where it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return []


def inner_name(path: Path) -> str:
    """The name that says the format of a file's content: that of the one file in a zip archive, otherwise its own.

    Raises:
        DataError: as `open_decompressed` does.
    """
    try:
        with path.open("rb") as file:
            head = file.read(MAGIC)
    except OSError:
        return path.name
    if detect_compression(head) != "zip" or is_package(path):
        return path.name
    with _archive(path) as archive:
        return PurePosixPath(_member(archive, path).filename).name


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError) as error:
        raise DataError(
            "the zip archive is damaged or was cut off",
            received=str(error).rstrip("."),
            remedy="fetch or compress it again",
            where=path,
        ) from error
    with archive:
        yield archive


def _member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """The one data file of an archive; what macOS adds, hidden files and folders aside."""
    files = [
        info
        for info in archive.infolist()
        if not info.is_dir() and not info.filename.startswith("__MACOSX/") and not _base(info).startswith(".")
    ]
    if len(files) != 1:
        raise DataError(
            "the zip archive contains several files" if files else "the zip archive contains no file",
            expected="one data file",
            received=listed((info.filename for info in files), 6) if files else None,
            remedy="unpack it and name the file" if files else None,
            where=path,
        )
    if files[0].flag_bits & 1:
        raise DataError("the zip archive is encrypted", remedy="unpack it with the password first", where=path)
    return files[0]


def _opened(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> zipfile.ZipExtFile:
    try:
        return cast(zipfile.ZipExtFile, archive.open(member))
    except (zipfile.BadZipFile, RuntimeError) as error:  # the second: a method that zipfile does not know
        raise DataError(
            "the file in the zip archive cannot be read", received=str(error), remedy="unpack it", where=path
        ) from error


def _base(info: zipfile.ZipInfo) -> str:
    return PurePosixPath(info.filename).name
