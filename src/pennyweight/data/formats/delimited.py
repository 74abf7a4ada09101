"""CSV, TSV and other delimited files, read strictly: with a header, without one, or in the contest's form."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..file_options import AS_NAMED, FileOptions
from ..file_streams import read_lines
from ..table import Columns, listed, shown
from .dialect import Dialect, Lines, RecordedLines, is_blank, long_fields
from .dialect_detection import detect_dialect
from .header_detection import are_ids, classify_first_row, starts_with_class
from .quoting import joins_rows

# Header detection looks at so many rows, of no more cells than that.
_HEADER_ROWS, _CELLS = 1_000, 200_000
# Rows parsed at once.
_CHUNK = 256
_INTEGER = re.compile(r"\d{1,9}")
_QUOTES = 'put fields with quotes in quotes and write each inner quote twice, as in "a ""b"" c"'
_EITHER = "choose with --header or --no-header"


@dataclass
class ReadNotes:
    """Notes from reading that are not errors.

    Attributes:
        blank: lines that were skipped.
        joined: first and last lines of rows whose lines could each be a row.
    """

    blank: list[int] = field(default_factory=list)
    joined: list[tuple[int, int]] = field(default_factory=list)

    def notes(self, until: int) -> tuple[str, ...]:
        """One line for each kind, as far as line `until`: blank lines that end a file are no loss."""
        blank = [line for line in self.blank if line <= until]
        found = []
        if blank:
            number = "1 blank line was" if len(blank) == 1 else f"{len(blank):,} blank lines were"
            found.append(f"{number} skipped: {listed(blank, 6)}")
        if self.joined:
            places = listed([f"{first}-{last}" for first, last in self.joined], 6)
            found.append(f"lines that quotes join were read as one row: {places}")
        return tuple(found)


@dataclass(frozen=True)
class DelimitedLayout:
    """How a file is to be read, as its content and its reader say.

    Attributes:
        dialect: how its rows are written.
        names: names of the columns.
        header: whether the first row holds them.
        first: the first row.
        line: the first row's line.
        official: the contest's form.
        notes: remarks on what was decided.
        twice: for columns whose name an earlier one has: their positions and the earlier ones', from 0.
    """

    dialect: Dialect
    names: tuple[str, ...]
    header: bool
    first: list[str]
    line: int
    official: bool = False
    notes: tuple[str, ...] = ()
    twice: dict[int, int] = field(default_factory=dict)


def read_delimited(path: Path, max_bytes: int, options: FileOptions = AS_NAMED, *, tabs: bool = False) -> Columns:
    """Read a file of rows with commas, semicolons, tabs or pipes between fields; its content says which.

    The first row is a header, unless it looks like the rows below it or `options` say so: then columns are called
    `column 1`, `column 2`... A file whose first column holds class numbers and whose first row holds letters besides
    has the form of the official AG News, DBpedia, Yelp and Yahoo files, `class number from 1, title, description`;
    class names are taken from a `classes.txt` next to it.

    Blank lines are skipped and counted in a note; in a file of one column they are empty texts.

    Args:
        path, max_bytes: the file, and the most that is read of it after decompression.
        options: its encoding, and whether it has a header.
        tabs: whether its name says that tabs separate fields.

    Raises:
        DataError: empty, ragged (with the line), a quote never closed, a column named twice that holds two things, an
            ambiguous first row or delimiter, or another encoding.
    """
    layout = detect_layout(path, max_bytes, options, tabs=tabs)
    found = list(read_delimited_blocks(path, max_bytes, None, options, tabs=tabs, layout=layout))
    if not found:
        raise DataError("the file has a header but no rows", received=f"columns {listed(layout.names)}", where=path)
    return found[0]


def read_delimited_blocks(
    path: Path,
    max_bytes: int,
    size: int | None,
    options: FileOptions = AS_NAMED,
    *,
    tabs: bool = False,
    layout: DelimitedLayout | None = None,
) -> Iterator[Columns]:
    """As `read_delimited`, in blocks of `size` rows; errors are raised when their row is reached.

    Args:
        path, max_bytes, options, tabs: as for `read_delimited`.
        size: rows of a block; None takes all in one.
        layout: how the file is to be read, where that is known already.

    Yields:
        Blocks that are not empty; the notes of each are those of the file up to its end.
    """
    layout = layout or detect_layout(path, max_bytes, options, tabs=tabs)
    met = ReadNotes()
    for rows, lines in _blocks(path, _lines(path, max_bytes, options)(), layout, size, met):
        if layout.official:
            _check_class_numbers(path, rows, lines)
        columns = [list(column) for column in zip(*rows, strict=True)]
        for column, earlier in layout.twice.items():
            _check_twins(path, columns[earlier], columns[column], lines, (earlier, column), layout)
        values: dict[str, list[Any]] = {
            layout.names[number]: column for number, column in enumerate(columns) if number not in layout.twice
        }
        yield Columns(
            values,
            lines,
            str(path),
            label_names=_classes(path, values[layout.names[0]]) if layout.official else {},
            headerless=layout.official,
            named=layout.header or layout.official,
            notes=(*layout.notes, *met.notes(lines[-1])),
        )


def detect_layout(
    path: Path, max_bytes: int, options: FileOptions = AS_NAMED, *, tabs: bool = False
) -> DelimitedLayout:
    """How a file is to be read; arguments and errors as for `read_delimited`."""
    lines = _lines(path, max_bytes, options)
    dialect = detect_dialect(lines, path, tabs=tabs)
    rows, line = _first_rows(path, lines(), dialect)
    width = len(rows[0])
    plain = tuple(f"column {number}" for number in range(1, width + 1))
    notes = dialect.notes
    if options.header is False:
        return DelimitedLayout(dialect, plain, header=False, first=rows[0], line=line, notes=notes)
    if options.header is None:
        if starts_with_class(rows[0]) and not are_ids([row[0] for row in rows]):
            return DelimitedLayout(
                dialect, _official_names(width), header=False, first=rows[0], line=line, official=True, notes=notes
            )
        first_row = classify_first_row(rows)
        if first_row == "data":
            notes = (*notes, "read without a header: the first row looks like data")
            return DelimitedLayout(dialect, plain, header=False, first=rows[0], line=line, notes=notes)
        if first_row == "doubt":
            raise DataError(
                "the first row may be a header or data",
                received=listed(rows[0], 6),
                remedy=_EITHER,
                where=f"{path}:{line}",
            )
        if first_row == "weak":
            notes = (*notes, f"the first row is read as the columns' names: {listed(rows[0], 6)}")
    names, twice = _header(rows[0])
    return DelimitedLayout(dialect, names, header=True, first=rows[0], line=line, notes=notes, twice=twice)


def _lines(path: Path, max_bytes: int, options: FileOptions) -> Lines:
    return lambda: read_lines(path, max_bytes, options.encoding)


def _first_rows(path: Path, lines: Iterator[str], dialect: Dialect) -> tuple[list[list[str]], int]:
    """The rows to detect by, none of them blank and all as wide as the first, and the first one's line."""
    rows: list[list[str]] = []
    line, left = 0, _CELLS
    for row, start, _ in _records(path, lines, dialect):
        if is_blank(row):
            continue
        line = line or start
        if not rows or len(row) == len(rows[0]):
            rows.append(row)
        # Long texts cost what many cells cost.
        left -= len(row) + sum(map(len, row)) // 40
        if len(rows) == _HEADER_ROWS or (len(rows) > 1 and left < 0):
            break
    if not rows:
        raise DataError("the file is empty", expected="a header and rows", where=path)
    return rows, line


def _blocks(
    path: Path, lines: Iterator[str], layout: DelimitedLayout, size: int | None, met: ReadNotes
) -> Iterator[tuple[list[list[str]], list[int]]]:
    """All rows, each as wide as the first, and the line each starts on, by blocks; no block is empty."""
    width = len(layout.names)
    rows: list[list[str]] = []
    starts: list[int] = []
    awaited = layout.header
    for row, start, record in _records(path, lines, layout.dialect):
        if is_blank(row) and (width > 1 or awaited):
            if width > 1:
                met.blank.append(start)
            continue
        row = row or [""]
        if len(row) != width:
            raise _ragged(path, start, row, layout)
        if awaited:
            awaited = False
            continue
        if len(record) > 1:
            _check_joined(path, record, start, layout, met)
        rows.append(row)
        starts.append(start)
        if len(rows) == size:
            yield rows, starts
            rows, starts = [], []
    if rows:
        yield rows, starts


def _records(path: Path, lines: Iterator[str], dialect: Dialect) -> Iterator[tuple[list[str], int, list[str]]]:
    """Each row (an empty one for a blank line) with its first line's number; all its lines, if it has several."""
    recorded = RecordedLines(itertools.islice(lines, dialect.skip, None))
    reader = dialect.rows(recorded)
    last, first_end = dialect.skip, ""
    while True:
        chunk: list[tuple[list[str], int, list[str]]] = []
        problem: DataError | None = None
        # The limit is lifted for a few rows at a time: between them somebody else may read.
        with long_fields():
            try:
                for row in itertools.islice(reader, _CHUNK):
                    start, last = last + 1, dialect.skip + reader.line_num
                    record = recorded.take()
                    end = record[-1][-1]
                    first_end = first_end or end
                    if end != first_end and end in "\r\n":
                        problem = _mixed_ends(path, last)
                        break
                    chunk.append((row, start, record if last > start else []))
            except csv.Error as error:
                problem = _bad_quotes(path, str(error), last + 1, dialect.skip + reader.line_num)
        yield from chunk
        if problem is not None:
            raise problem
        if len(chunk) < _CHUNK:
            return


def _mixed_ends(path: Path, line: int) -> DataError:
    return DataError(
        "the line ends differently from the first: one of the two ends with a single carriage return",
        expected="one kind of line break",
        remedy="put fields with line breaks in double quotes",
        where=f"{path}:{line}",
    )


def _bad_quotes(path: Path, message: str, start: int, end: int) -> DataError:
    inside = "" if start == end else f" (found on line {end})"
    return DataError(
        f"a quote inside a quoted field is not doubled{inside}"
        if "expected after" in message
        else "a quote opened in this row is never closed",
        remedy=_QUOTES,
        where=f"{path}:{start}",
    )


def _check_joined(path: Path, record: list[str], start: int, layout: DelimitedLayout, met: ReadNotes) -> None:
    """A quoted field may hold line breaks; it may not hold rows."""
    end = start + len(record) - 1
    found = joins_rows(layout.dialect, record, len(layout.names))
    if found:
        raise DataError(
            f"a quote opened in this row is closed on line {end}, but the lines between look like separate rows",
            remedy=_QUOTES,
            where=f"{path}:{start}",
        )
    if found is None:
        met.joined.append((start, end))


def _ragged(path: Path, line: int, row: list[str], layout: DelimitedLayout) -> DataError:
    remedy = "put fields with the delimiter or a line break in double quotes"
    if len(layout.names) == 1:
        remedy += "; if each line is one text, name the file .txt"
    return DataError(
        "the row is ragged",
        expected=f"{len(layout.names)} fields ({listed(layout.first, 6)})",
        received=f"{len(row)}",
        remedy=remedy,
        where=f"{path}:{line}",
    )


def _official_names(width: int) -> tuple[str, ...]:
    texts = {2: ["text"], 3: ["title", "description"]}.get(width)
    return ("class index", *(texts or [f"text {number}" for number in range(1, width)]))


def _check_class_numbers(path: Path, rows: list[list[str]], lines: list[int]) -> None:
    for row, line in zip(rows, lines, strict=True):
        if not _INTEGER.fullmatch(row[0]) or int(row[0]) < 1:
            raise DataError(
                "the file seems to have no header and this row does not start with a class number",
                expected="a number from 1",
                received=shown(row[0]) or "an empty field",
                remedy="add a header line such as: label,text",
                where=f"{path}:{line}",
            )


def _header(row: list[str]) -> tuple[tuple[str, ...], dict[int, int]]:
    """The columns' names; and for each position whose name came before, where that was."""
    names = [cell.strip() or f"column {number}" for number, cell in enumerate(row, start=1)]
    seen: dict[str, int] = {}
    twice: dict[int, int] = {}
    for number, name in enumerate(names):
        if seen.setdefault(name, number) != number:
            twice[number] = seen[name]
    return tuple(names), twice


def _check_twins(
    path: Path, first: list[str], second: list[str], lines: list[int], places: tuple[int, int], layout: DelimitedLayout
) -> None:
    """Two columns of one name may hold one thing."""
    differs = next((line for one, other, line in zip(first, second, lines, strict=True) if one != other), None)
    if differs is not None:
        raise DataError(
            f"the header names a column twice: {shown(layout.names[places[0]])}, "
            f"columns {places[0] + 1} and {places[1] + 1}, which differ on line {differs}",
            remedy="rename one of them",
            where=f"{path}:{layout.line}",
        )


def _classes(path: Path, numbers: list[str]) -> dict[str, tuple[str, ...]]:
    """The names in the `classes.txt` that the official archives put next to the data, one a line."""
    beside = path.with_name("classes.txt")
    if not beside.is_file():
        return {}
    names = tuple(line.strip() for line in read_lines(beside, 1 << 20) if line.strip())
    highest = max(map(int, numbers))
    if highest > len(names):
        raise DataError(
            f"{path.name} has class number {highest}", expected=f"at most {len(names)}, the names here", where=beside
        )
    return {"class index": names}
