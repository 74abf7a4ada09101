"""Units of a prediction: rows that one worker reads, computes and writes as one part."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ..data.formats.columnar import ParquetRows
from ..errors import DataError
from .file_systems import SourceFile

_READERS = 16  # footers read at a time: on object storage each takes a round trip or two


@dataclass(frozen=True)
class Unit:
    """Rows of one file.

    Attributes:
        number: its place among all units, from 0: that of its rows in the output.
        file: the number of its file.
        start: the first of its rows, from 0.
        rows: how many; None for all of a file that is read from its beginning.
    """

    number: int
    file: int
    start: int = 0
    rows: int | None = None

    def named(self, files: Sequence[SourceFile]) -> str:
        """As messages call it."""
        name = files[self.file].name
        return name if self.rows is None else f"{name} rows {self.start + 1:,} to {self.start + self.rows:,}"


def has_row_ranges(file: SourceFile, format: str | None) -> bool:
    """Whether rows in the middle of a file can be read without those before them: Parquet, by name or as asked for."""
    return format == "parquet" if format else file.name.lower().endswith(".parquet")


def plan_units(files: Sequence[SourceFile], block: int, format: str | None = None) -> tuple[Unit, ...]:
    """All units in the order of the files' rows: `block` rows of Parquet each, any other file whole.

    Args:
        format: format of the files, as asked for; None, by their names.

    Raises:
        DataError: a damaged Parquet file; no rows at all.
    """

    def rows_of(file: SourceFile) -> int | None:
        if not has_row_ranges(file, format):
            return None
        with file.open() as handle:
            return int(ParquetRows(handle, file.name).rows)

    with ThreadPoolExecutor(_READERS) as readers:
        counts = list(readers.map(rows_of, files))
    ranges: list[tuple[int, int, int | None]] = []
    for number, count in enumerate(counts):
        if count is None:
            ranges.append((number, 0, None))
        else:
            ranges += [(number, start, min(block, count - start)) for start in range(0, count, block)]
    if not ranges:
        raise DataError("there are no rows", where=files[0].name)
    return tuple(Unit(number, *each) for number, each in enumerate(ranges))
