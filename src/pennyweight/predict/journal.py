"""The finished blocks of a job that may be killed at any moment, next to the file that they will become.

A hidden folder `.NAME.unfinished` holds three files. `job.json` says what the job is. `blocks` holds the blocks' bytes
end to end. `journal` has a line a block: the rows so far, those of them that were answered, where the block ends, and a
checksum of these and of its bytes, which are durable before the line is written. What a killed run left behind its last
whole line is cut off, and so is everything from the first block on that is not as it was written.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

from ..errors import InputError, StorageError
from ..storage.checksums import seal, unseal
from ..storage.durability import fsync_file, fsync_folder
from ..storage.folders import make_folder
from ..storage.locks import is_locked, try_to_lock
from ..storage.system_errors import storage_errors

_JOB, _BLOCKS, _JOURNAL = "job.json", "blocks", "journal"
_ENDING = ".unfinished"


@dataclass(frozen=True)
class Finished:
    """The progress at the end of a block.

    Attributes:
        rows: rows so far.
        answered: those of them that got a label.
        end: where the blocks' bytes end.
        checksum: CRC-32 of the other three and the block's bytes.
    """

    rows: int = 0
    answered: int = 0
    end: int = 0
    checksum: int = 0

    def sealed(self, content: bytes) -> Finished:
        """The same with the checksum of a block of these bytes."""
        facts = f"{self.rows} {self.answered} {self.end} ".encode()
        return replace(self, checksum=zlib.crc32(content, zlib.crc32(facts)))


class BlockJournal:
    """The finished blocks of one job, to which more are appended.

    Args:
        folder: the hidden folder, locked by the caller.
        kept: what a former run finished, a block each.

    Attributes:
        published: whether the output is in its place.
        useful: whether the blocks are kept even if an `InputError` ends the job.
    """

    def __init__(self, folder: Path, kept: list[Finished]) -> None:
        self.folder = folder
        self.done = [Finished(), *kept]
        self.published = False
        self.useful = False
        self._blocks = _cut_to(folder / _BLOCKS, self.done[-1].end)
        self._lines = _cut_to(folder / _JOURNAL, sum(len(_line(each)) for each in kept))
        fsync_folder(folder)
        fsync_folder(folder.parent)

    @property
    def rows(self) -> int:
        """Rows that are finished."""
        return self.done[-1].rows

    @property
    def answered(self) -> int:
        """Rows that are finished and got a label."""
        return self.done[-1].answered

    def append(self, content: bytes, rows: int, answered: int) -> None:
        """Make a block's bytes durable, then say so."""
        last = self.done[-1]
        self._blocks.write(content)
        _flush(self._blocks)
        finished = Finished(last.rows + rows, last.answered + answered, last.end + len(content)).sealed(content)
        self._lines.write(_line(finished))
        _flush(self._lines)
        self.done.append(finished)

    def parts(self) -> Iterator[bytes]:
        """The blocks' bytes, one by one."""
        with (self.folder / _BLOCKS).open("rb") as held:
            for before, after in pairwise(self.done):
                yield held.read(after.end - before.end)

    def close(self) -> None:
        """Close the files; what is finished stays."""
        self._blocks.close()
        self._lines.close()

    def publish(self, out: Path, whole: Path | None = None) -> None:
        """Put the output in its place by one rename; what else is in the folder is removed with the journal's end.

        Args:
            whole: the output, made of the blocks; None if their bytes are the output.
        """
        self.close()
        content = whole or self.folder / _BLOCKS
        fsync_file(content)
        content.replace(out)
        self.published = True
        fsync_folder(out.parent)


def unfinished_folder(out: Path) -> Path:
    """Where the finished blocks of an output file lie until it is whole."""
    name = out.name if len(os.fsencode(out.name)) <= 200 else hashlib.sha256(os.fsencode(out.name)).hexdigest()
    return out.parent / f".{name}{_ENDING}"


@contextmanager
def open_journal(out: Path, job: Mapping[str, Any], *, resume: bool) -> Iterator[BlockJournal]:
    """The journal of a job, locked.

    When the block ends, nothing is left of a job that is published, or without a finished block, or of one that an
    `InputError` ended: given the same input it would end there again. That is not so where the system failed to read
    the input, or where the journal is `useful`.

    Args:
        job: all that the output depends on, as JSON has it, by the names that messages give it.
        resume: continue after an earlier run of the same job; start if there is none.

    Raises:
        InputError: if resuming another job, or starting one again whose finished blocks `resume` would keep.
        StorageError: another process is at it, or nothing can be written there.
    """
    folder = unfinished_folder(out)
    # The name of a JSON field may hold half of a surrogate pair, which no file in UTF-8 can.
    job = json.loads(json.dumps(job, ensure_ascii=False).encode("utf-8", "xmlcharrefreplace"))
    journal: BlockJournal | None = None
    useless = False
    with storage_errors(out):
        make_folder(out.parent)
        descriptor = lock_unfinished(folder, out)
    try:
        kept = _kept_blocks(folder, out, job, resume=resume)
        with storage_errors(out):
            if not kept:
                _clear(folder)
                _write_job(folder, job)
            journal = BlockJournal(folder, kept)
        yield journal
    except InputError as error:
        useless = journal is not None and not journal.useful and not _is_of_system(error)
        raise
    finally:
        if journal is not None:
            journal.close()
        if journal is not None and (journal.published or useless):
            shutil.rmtree(folder, ignore_errors=True)
        elif journal is None or not journal.rows:
            _remove_if_empty(folder)
        os.close(descriptor)


def _write_job(folder: Path, job: Mapping[str, Any]) -> None:
    """Write `job.json`. A torn one is no job, and no block is finished before it is durable."""
    path = folder / _JOB
    path.write_text(seal({"job": dict(job)}), "utf-8")
    fsync_file(path)


def _is_of_system(error: InputError) -> bool:
    """Whether the system could not read the input (a network file system that is away), not that it is wrong."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno is not None


def _kept_blocks(folder: Path, out: Path, job: Mapping[str, Any], *, resume: bool) -> list[Finished]:
    """The blocks that an earlier run of the same job finished; empty if there are none."""
    try:
        former = unseal((folder / _JOB).read_text("utf-8"))["job"]
    except (OSError, ValueError, KeyError):
        return []  # nothing was finished yet: this file is durable before the first block
    kept = list(_whole_blocks(folder))
    if not kept:
        return []
    goes_on = may_go_on(former, job, kept[-1].rows, out, folder, resume=resume)
    return kept if goes_on else []


def may_go_on(
    former: Mapping[str, Any], job: Mapping[str, Any], rows: int, out: str | Path, folder: str | Path, *, resume: bool
) -> bool:
    """Whether a run continues an earlier one; otherwise it starts again.

    Args:
        former, job: what the output of the former run and of this one depends on.
        rows: what the former one finished.
        out: the output.
        folder: where the finished rows lie.

    Raises:
        InputError: if resuming another job, or starting one again whose finished rows `resume` would keep.
    """
    here = json.loads(json.dumps(job))
    other = [name for name in here if former.get(name) != here[name]]
    if resume and other:
        raise InputError(
            "the unfinished run belongs to another job",
            expected="the same " + ", ".join(here),
            received=f"another {', '.join(other)}",
            remedy="leave out --resume to start again",
            where=out,
        )
    if not resume and not other:
        raise InputError(
            f"an interrupted run of this job has already finished {rows:,} rows",
            remedy=f"continue with --resume, or remove {folder} to start again",
            where=out,
        )
    return resume


def _whole_blocks(folder: Path) -> Iterator[Finished]:
    """The finished blocks up to the first that is not as it was written, or cannot be read."""
    end = 0
    with suppress(OSError), (folder / _BLOCKS).open("rb") as blocks, (folder / _JOURNAL).open("rb") as lines:
        for line in lines:
            try:
                finished = Finished(*map(int, json.loads(line)))
                content = blocks.read(max(finished.end - end, 0))
            except (ValueError, TypeError, OverflowError, MemoryError):
                break  # cut off, or overwritten by what a power cut left
            if line != _line(finished) or finished != finished.sealed(content):
                break
            end = finished.end
            yield finished


def _line(finished: Finished) -> bytes:
    return f"{list(astuple(finished))}\n".encode()


def _cut_to(path: Path, size: int) -> IO[bytes]:
    """A file opened to be written on at `size`, with nothing behind it."""
    handle = path.open("ab")
    handle.truncate(size)
    return handle


def _flush(handle: IO[bytes]) -> None:
    handle.flush()
    os.fsync(handle.fileno())


def lock_unfinished(folder: Path, out: Path) -> int:
    """The descriptor of the folder, made if need be, which nobody else holds.

    Raises:
        StorageError: another process holds it, or something else has its name. A link is not followed: what it leads to
            would be emptied.
    """
    while True:
        with suppress(FileExistsError):
            folder.mkdir()
        try:
            if not stat.S_ISDIR(folder.lstat().st_mode):
                raise StorageError(
                    "finished rows are kept in a folder of this name, but it is something else",
                    where=folder,
                    remedy="move it away, or choose another --out",
                )
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue  # the run that held it ended, and removed it, in between
        with suppress(OSError):
            if not try_to_lock(descriptor) and is_locked(folder):
                os.close(descriptor)
                raise StorageError(
                    "another run is writing this file", where=out, remedy="wait for it, or choose another --out"
                )
            if os.path.samestat(os.fstat(descriptor), folder.stat()):
                return descriptor
        os.close(descriptor)


def _clear(folder: Path) -> None:
    for item in folder.iterdir():
        item.unlink() if not item.is_dir() else shutil.rmtree(item)


def _remove_if_empty(folder: Path) -> None:
    """Remove a folder that holds no finished block."""
    if folder.is_dir() and next(_whole_blocks(folder), None) is None:
        shutil.rmtree(folder, ignore_errors=True)
