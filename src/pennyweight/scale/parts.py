"""The parts of a prediction that several processes write, and their records and manifest.

A folder holds a file a unit, `part-0000000.ENDING`, and in `.units` a record of each, written after it: a part with a
record is done. `.units/job.json` says what the job is. When all are done, either the parts become one file, or
`manifest.json` names them with their checksums and `.units` goes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import InputError, StorageError
from ..predict.journal import may_go_on
from ..predict.output_blocks import write_parquet
from ..storage.checksums import seal, sha256, unseal
from ..storage.durability import fsync_file
from .file_systems import FileStore

MANIFEST = "manifest.json"
_UNITS = ".units"
_JOB = f"{_UNITS}/job.json"
_READERS = 16


@dataclass(frozen=True)
class FinishedUnit:
    """The record of a part.

    Attributes:
        number: its unit.
        rows: its rows.
        answered: those of them that got a label.
        ends: where each of its blocks ends, in bytes.
        sha256: of its bytes.
        empty: rows without a text.
        empty_lines: where the first few of them are.
        cut: its texts, and their tokens that were read and cut, as `data.cut_tokens.CutTally` counts them.
    """

    number: int
    rows: int
    answered: int
    ends: tuple[int, ...]
    sha256: str
    empty: int = 0
    empty_lines: tuple[int, ...] = ()
    cut: tuple[int, int, int] = (0, 0, 0)

    @property
    def size(self) -> int:
        """Bytes of the part."""
        return self.ends[-1]


class PartStore:
    """The folder of parts, as the driver and the workers see it.

    Args:
        uri: the folder, a path or a URI.
        ending: ending of the parts' names.
    """

    def __init__(self, uri: str, ending: str) -> None:
        self.files = FileStore(uri)
        self.ending = ending

    def part(self, number: int) -> str:
        """The name of a unit's part."""
        return f"part-{number:07d}.{self.ending}"

    def refuse_foreign(self) -> None:
        """Refuse a folder with anything that is not an unfinished job's.

        Raises:
            InputError: a finished job, or other files.
        """
        names = self.files.sizes()
        if MANIFEST in names:
            raise InputError(
                "the folder contains a finished prediction", where=self.files.name, remedy="choose another --out"
            )
        others = [name for name in names if not name.startswith((".", "part-"))]
        if others:
            raise InputError(
                "the folder is not empty", where=self.files.name, received=", ".join(sorted(others)[:4]),
                remedy="choose another --out, or empty it",
            )  # fmt: skip

    def begin(self, job: Mapping[str, Any], out: str, *, resume: bool) -> dict[int, FinishedUnit]:
        """The units that an earlier run of the same job finished; otherwise start again.

        Raises:
            InputError: if resuming another job, or starting one again whose parts `resume` would keep.
            StorageError: nothing can be written here.
        """
        done = self._finished()
        former = self._former() if done else None
        if former is None or not may_go_on(former, job, _rows(done), out, self.files.name, resume=resume):
            self.clear()
            done = {}
        self.files.make()
        self.files.write(_JOB, [seal({"job": dict(job)}).encode()])
        return done

    def holds(self, job: Mapping[str, Any]) -> bool:
        """Whether the job in the folder, as seen from here, is this one."""
        return bool(self._former() == json.loads(json.dumps(job)))

    def add(self, unit: FinishedUnit, chunks: Iterator[bytes]) -> None:
        """Write a part, then say so.

        Raises:
            StorageError: the disk is full, or nothing can be written here.
        """
        self.files.write(self.part(unit.number), chunks)
        self.files.write(f"{_UNITS}/{unit.number:07d}.json", [seal(asdict(unit)).encode()])

    def merge(self, units: Sequence[FinishedUnit], whole: Path) -> None:
        """Put the parts of a local folder together as one file.

        Raises:
            StorageError: a part is not as it was written; it is removed, so that it is computed again.
        """
        folder = Path(self.files.uri)
        for unit in units:
            part = folder / self.part(unit.number)
            if sha256(part) != unit.sha256:
                part.unlink()
                raise StorageError(
                    "a finished part is damaged", where=part,
                    remedy="continue with the same command and --resume: it is computed again",
                )  # fmt: skip

        def blocks() -> Iterator[bytes]:
            for unit in units:
                with (folder / self.part(unit.number)).open("rb") as held:
                    for start, end in pairwise((0, *unit.ends)):
                        yield held.read(end - start)

        if self.ending == "arrows":
            write_parquet(blocks, whole)
        else:
            with whole.open("wb") as held:
                held.writelines(blocks())
        fsync_file(whole)

    def seal(self, job: Mapping[str, Any], units: Sequence[FinishedUnit], sources: Sequence[str]) -> None:
        """Name all parts, with their checksums, in a manifest that carries its own; nothing else stays.

        Args:
            sources: each unit's rows, in words.
        """
        parts = [
            {"name": self.part(unit.number), "source": source, "rows": unit.rows, "answered": unit.answered,
             "bytes": unit.size, "sha256": unit.sha256}
            for unit, source in zip(units, sources, strict=True)
        ]  # fmt: skip
        whole = {"pennyweight": __version__, "rows": sum(unit.rows for unit in units), "job": dict(job), "parts": parts}
        self.files.remove(name for name in self.files.sizes() if name.startswith(".part-"))
        self.files.write(MANIFEST, [seal(whole).encode()])
        self.files.remove_folder(_UNITS)

    def clear(self) -> None:
        """Remove all that an unfinished job left."""
        self.files.remove(name for name in self.files.sizes() if name.lstrip(".").startswith("part-"))
        self.files.remove_folder(_UNITS)

    def _former(self) -> dict[str, Any] | None:
        try:
            job = unseal(self.files.read(_JOB).decode())["job"]
            return job if isinstance(job, dict) else None
        except (OSError, ValueError, KeyError):
            return None

    def _finished(self) -> dict[int, FinishedUnit]:
        """The units whose record is whole and whose part is as long as it says."""
        sizes = self.files.sizes()
        records = [name for name in self.files.sizes(_UNITS) if name[:-5].isdigit()]
        with ThreadPoolExecutor(_READERS) as readers:
            found = [unit for unit in readers.map(self._record, records) if unit is not None]
        return {unit.number: unit for unit in found if sizes.get(self.part(unit.number)) == unit.size}

    def _record(self, name: str) -> FinishedUnit | None:
        try:
            value = unseal(self.files.read(f"{_UNITS}/{name}").decode())
            return unit_of(value)
        except (OSError, ValueError, TypeError, KeyError):
            return None


def unit_of(value: Mapping[str, Any]) -> FinishedUnit:
    """A finished unit from JSON's values."""
    lists = {name: tuple(value[name]) for name in ("ends", "empty_lines", "cut")}
    return FinishedUnit(**(dict(value) | lists))


def _rows(done: Mapping[int, FinishedUnit]) -> int:
    return sum(unit.rows for unit in done.values())
