"""Files as streams of bytes or lines with limits: opened, decompressed and decoded; errors say where."""

from __future__ import annotations

import codecs
import difflib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..errors import ChangedFileError, DataError
from .formats import compression

#: The longest line read, in characters: far above the longest text, far below what a decompression bomb expands to.
MAX_LINE = 16 << 20

# Deflate cannot exceed 1032:1. Prose shrinks 3 to 10 times; what shrinks 200 times and is over 64 MiB is no data set.
BOMB_RATIO = 200
BOMB_FLOOR = 64 << 20

_CHUNK = 1 << 20
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def suggest_names(path: Path) -> str | None:
    """A remedy naming the files next to a missing `path` that are spelled like it, if there are any."""
    if not os.path.isdir(path.parent):
        return f"the folder {path.parent} does not exist either"
    close = difflib.get_close_matches(path.name, list_folder(path.parent), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(str(path.parent / name) for name in close)}?" if close else None


def list_folder(folder: Path) -> list[str]:
    """The entries of a folder, sorted; empty if it may not be listed."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


@dataclass(frozen=True)
class FileState:
    """Tells a file from what it becomes when it is written to, or replaced by another."""

    path: str
    inode: int
    content: tuple[int, int]  # bytes, and nanoseconds at the last change

    @classmethod
    def of(cls, path: str | Path) -> FileState | None:
        """The present state of a regular file; None for anything else."""
        try:
            facts = os.stat(path)
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(facts.st_mode):
            return None
        return cls(str(path), facts.st_ino, (facts.st_size, facts.st_mtime_ns))

    def refuse_changes(self, *, opened: bool = False) -> None:
        """Refuse a file that is no longer as it was.

        Args:
            opened: it is still open, so that one that was removed or replaced goes on being read as it was.

        Raises:
            ChangedFileError: it changed.
        """
        now = FileState.of(self.path)
        if now == self or (opened and (now is None or now.inode != self.inode)):
            return
        raise ChangedFileError(
            "the file changed while it was read",
            remedy="run again when nothing writes to it, or give a copy",
            where=self.path,
        )


def is_pipe(path: Path) -> bool:
    """Whether a path can be read only once and in order: a named pipe, `<(...)`, `/dev/stdin`."""
    if os.path.abspath(path).startswith(("/dev/fd/", "/dev/std", "/proc/self/fd/")):
        return os.path.exists(path)
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False  # its reader will say so
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


class _Bounded(io.RawIOBase):
    """A reader that ends in `DataError` instead of running past `limit` bytes, or into damage."""

    def __init__(self, stream: BinaryIO, path: Path, limit: int, kind: str | None, stored: int) -> None:
        super().__init__()
        self._stream, self._path, self._limit = stream, path, limit
        self._kind, self._stored = kind, stored
        self._seen = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        try:
            block = self._stream.read(len(view))
        except compression.DAMAGED as error:
            raise self._damaged(error) from error
        except OSError as error:
            if self._kind != "bzip2" or str(error) != compression.BZIP2_DAMAGED:
                raise
            raise self._damaged(error) from error
        view[: len(block)] = block
        self._seen += len(block)
        self._check()
        return len(block)

    def _damaged(self, error: Exception) -> DataError:
        return DataError(
            f"the {self._kind} file is damaged or was cut off",
            received=str(error).rstrip("."),
            remedy="fetch or compress it again",
            where=self._path,
        )

    def _check(self) -> None:
        if self._seen > self._limit:
            raise DataError(
                "the file is too large" if self._kind is None else "the file is too large once decompressed",
                expected=f"at most {self._limit:,} bytes",
                remedy="split it, or read it with a higher max_bytes",
                where=self._path,
            )
        if self._kind and self._seen > max(BOMB_FLOOR, BOMB_RATIO * self._stored):
            raise DataError(
                f"the {self._kind} file looks like a decompression bomb",
                expected=f"at most {BOMB_RATIO} times its {self._stored:,} bytes",
                remedy="if you trust the file, decompress it and give the decompressed file",
                where=self._path,
            )


@contextmanager
def open_bytes(path: Path, max_bytes: int) -> Iterator[io.BufferedReader]:
    """Open a file, compressed or not (detected by its first bytes), for reading at most `max_bytes` of content.

    Raises:
        DataError: no permission, not compressed as it is called, damaged, too large, or an archive of several files.
    """
    try:
        with (
            path.open("rb") as file,
            compression.open_decompressed(file, path, os.fstat(file.fileno()).st_size) as (
                stream,
                kind,
                stored,
            ),
        ):
            yield io.BufferedReader(_Bounded(stream, path, max_bytes, kind, stored), _CHUNK)
    except OSError as error:
        raise DataError(f"cannot read the file ({error.strerror or error})", where=path) from error


def is_compressed(path: Path) -> bool:
    """Whether a file is compressed, by its first bytes.

    Also false for a file that cannot be read (its reader will say so) and for a pipe, which can be read only once.
    """
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            kind = compression.detect_compression(file.read(compression.MAGIC))
    except OSError:
        return False
    return kind is not None and not (kind == "zip" and compression.is_package(path))


def check_compressed(path: Path, max_bytes: int) -> None:
    """Decompress a file once without keeping anything, so that a bomb or damage is found before a row is kept.

    Raises:
        DataError: damaged, or larger than it may be.
    """
    with open_bytes(path, max_bytes) as stream:
        while stream.read(_CHUNK):
            pass


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """The whole content of a file, decompressed."""
    with open_bytes(path, max_bytes) as stream:
        return stream.read()


def read_lines(path: Path, max_bytes: int, encoding: str | None = None) -> Iterator[str]:
    """The physical lines of a UTF-8 file (a byte order mark is dropped), line ends kept as they are.

    Args:
        encoding: instead of UTF-8, as Python names it.

    Raises:
        DataError: another encoding (with the byte, its offset and line), a NUL byte, a line of more than `MAX_LINE`.
    """
    with open_bytes(path, max_bytes) as stream:
        codec = _codec(stream.peek(4)[:4], encoding, path)
        handle = io.TextIOWrapper(stream, encoding=codec, newline="")
        number = 0
        try:
            while line := handle.readline(MAX_LINE):
                number += 1
                if number == 1 and line[0] == "\ufeff":  # where the encoding's name says the order of bytes too
                    line = line[1:]
                if "\0" in line:
                    raise DataError(
                        "the line contains a NUL byte",
                        expected="UTF-8 text" if encoding is None else f"{encoding} text",
                        remedy="the file is damaged, binary or UTF-16: export it again as UTF-8",
                        where=f"{path}:{number}",
                    )
                if len(line) == MAX_LINE:
                    raise DataError(
                        "the line is too long",
                        expected=f"at most {MAX_LINE:,} characters",
                        remedy="cut it or leave it out",
                        where=f"{path}:{number}",
                    )
                yield line
        except UnicodeDecodeError:
            raise _bad_encoding(path, max_bytes, codec, encoding) from None
        except UnicodeError as error:  # a codec's own complaint, such as UTF-16 without a byte order mark
            raise DataError(f"the file is not {encoding} ({error})", where=path) from error


def _codec(head: bytes, encoding: str | None, path: Path) -> str:
    """The decoder of a file that starts with `head`, given what the caller said.

    Raises:
        DataError: no such encoding, or a byte order mark that says something else.
    """
    mark = next((name for bom, name in _MARKS if head.startswith(bom)), None)
    if encoding is None:
        if mark:
            raise DataError(
                f"the file is {mark}",
                expected="UTF-8",
                remedy=f"name it with --encoding {mark.lower()}, or convert it: iconv -f {mark} -t UTF-8",
                where=path,
            )
        return "utf-8-sig"
    try:
        name = codecs.lookup(encoding).name
        io.TextIOWrapper(io.BytesIO(), encoding=encoding)  # some codecs are not for texts
    except (LookupError, ValueError):
        raise DataError(
            "no such character encoding", expected="one such as utf-8, cp1252, latin-1 or utf-16", received=encoding
        ) from None
    mark = "UTF-8" if head.startswith(codecs.BOM_UTF8) else mark
    if mark and not name.startswith(mark.lower()):
        raise DataError(
            f"the first bytes show that the file is {mark}", expected=f"what --encoding says, {encoding}", where=path
        )
    return "utf-8-sig" if name == "utf-8" else name


def _bad_encoding(path: Path, max_bytes: int, codec: str, said: str | None) -> DataError:
    """Find the first byte of `path` that `codec` cannot read. The stream decoder has no offsets, so read again.

    Args:
        said: the encoding that the caller named, if any.
    """
    decoder = codecs.getincrementaldecoder("utf-8" if codec == "utf-8-sig" else codec)()
    wanted = said or "UTF-8"
    offset, line = 0, 1
    with open_bytes(path, max_bytes) as stream:
        while True:
            block = stream.read(_CHUNK)
            waiting = len(decoder.getstate()[0])
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                line += error.object[: error.start].decode(codec, "replace").count("\n")
                place = offset - waiting + error.start
                return DataError(
                    f"byte 0x{error.object[error.start]:02X} at offset {place:,} is not {wanted}",
                    expected=wanted,
                    remedy="name another with --encoding, such as --encoding cp1252"
                    if said
                    else "name it, such as --encoding cp1252, or convert it: iconv -f WINDOWS-1252 -t UTF-8",
                    where=f"{path}:{line}",
                )
            if not block:
                return DataError("the file changed while it was read", where=path)
            offset += len(block)
            line += text.count("\n")
