"""CSV and TSV, read strictly: with a header, or in the contest's headerless form."""

from __future__ import annotations

import csv
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import DataError
from .source import MAX_LINE, text_lines
from .table import AS_NAMED, Columns, FileOptions, listed, shown

_INTEGER = re.compile(r"\d{1,9}")
_limit_lock = threading.Lock()


@contextmanager
def _long_fields() -> Iterator[None]:
    """The csv module's field limit (131,072) is global to the process: lift it, and put it back."""
    with _limit_lock:
        before = csv.field_size_limit(MAX_LINE)
        try:
            yield
        finally:
            csv.field_size_limit(before)


def read_delimited(path: Path, max_bytes: int, options: FileOptions = AS_NAMED, *, tabs: bool = False) -> Columns:
    """Read a CSV (commas, or semicolons where the header has no comma) or TSV file.

    A file whose first field is a number and whose first row holds letters besides has no header: it is the form of
    the official AG News, DBpedia, Yelp and Yahoo files, `class number from 1, title, description`; class names are
    taken from a `classes.txt` beside it.

    Raises:
        DataError: empty, ragged (with the line), a quote never closed, a column named twice, not UTF-8.
    """
    rows, lines = _rows(path, max_bytes, tabs=tabs)
    if not rows:
        raise DataError("the file is empty", expected="a header and rows", where=path)
    headerless = _is_headerless(rows[0])
    if headerless:
        names = _official_names(len(rows[0]))
        _check_class_numbers(path, rows, lines)
    else:
        names = _header(path, rows.pop(0), lines.pop(0))
        if not rows:
            raise DataError("the file has a header and no rows", received=f"columns {listed(names)}", where=path)
    values: dict[str, list[Any]] = {
        name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }
    classes = _classes(path, values[names[0]]) if headerless else {}
    return Columns(values, lines, str(path), label_names=classes, headerless=headerless)


def walk_delimited(
    path: Path, max_bytes: int, size: int, options: FileOptions = AS_NAMED, *, tabs: bool = False
) -> Iterator[Columns]:
    """What `read_delimited` reads, by blocks of `size` rows; the same errors, when the walk comes to them."""
    quoting: int = csv.QUOTE_MINIMAL
    if tabs:
        try:
            for _ in _blocks(path, max_bytes, "\t", quoting, size):
                pass
        except _BadQuotes:
            quoting = csv.QUOTE_NONE
    names: list[str] = []
    headerless = False
    for rows, lines in _blocks(path, max_bytes, "\t" if tabs else _delimiter(path, max_bytes), quoting, size):
        if not names:
            headerless = _is_headerless(rows[0])
            names = _official_names(len(rows[0])) if headerless else _header(path, rows.pop(0), lines.pop(0))
        if headerless:
            _check_class_numbers(path, rows, lines)
        columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in names]
        values = dict(zip(names, columns, strict=True))
        classes = _classes(path, values[names[0]]) if headerless else {}
        yield Columns(values, lines, str(path), label_names=classes, headerless=headerless)


def _rows(path: Path, max_bytes: int, *, tabs: bool) -> tuple[list[list[str]], list[int]]:
    """All rows that are not blank lines, each as wide as the first, and the line each starts on."""
    if not tabs:
        return _parse(path, max_bytes, _delimiter(path, max_bytes), csv.QUOTE_MINIMAL)
    try:
        return _parse(path, max_bytes, "\t", csv.QUOTE_MINIMAL)
    except _BadQuotes:
        # Half of the world's TSV files know no quoting. One that breaks its rules is read as one of those.
        return _parse(path, max_bytes, "\t", csv.QUOTE_NONE)


class _BadQuotes(DataError):
    """The quotes of a row do not pair."""


def _parse(path: Path, max_bytes: int, delimiter: str, quoting: Any) -> tuple[list[list[str]], list[int]]:
    return next(_blocks(path, max_bytes, delimiter, quoting, None), ([], []))


def _blocks(
    path: Path, max_bytes: int, delimiter: str, quoting: Any, size: int | None
) -> Iterator[tuple[list[list[str]], list[int]]]:
    """As `_rows`, by blocks of `size` rows; None takes all in one. No block is empty."""
    reader = csv.reader(text_lines(path, max_bytes), delimiter=delimiter, quoting=quoting, strict=True)
    last, first = 0, None
    while True:
        rows: list[list[str]] = []
        lines: list[int] = []
        # The limit is lifted for a block at a time: between blocks somebody else may read.
        with _long_fields():
            try:
                for row in reader:
                    start, last = last + 1, reader.line_num
                    if not row:
                        continue
                    first = row if first is None else first
                    if len(row) != len(first):
                        raise _ragged(path, start, row, first)
                    rows.append(row)
                    lines.append(start)
                    if len(rows) == size:
                        break
            except csv.Error as error:
                raise _BadQuotes(
                    _quote_problem(str(error), last + 1, reader.line_num),
                    remedy="put fields that hold quotes between quotes and write each inner quote twice, "
                    'as in "a ""b"" c"',
                    where=f"{path}:{last + 1}",
                ) from error
        if not rows:
            return
        yield rows, lines


def _quote_problem(message: str, start: int, end: int) -> str:
    if "expected after" in message:
        inside = "" if start == end else f" (found on line {end})"
        return f"a quote inside a quoted field is not doubled{inside}"
    return "a quote opened in this row is never closed"


def _ragged(path: Path, line: int, row: list[str], header: list[str]) -> DataError:
    return DataError(
        "the row is ragged",
        expected=f"{len(header)} fields ({listed(header, 6)})",
        received=f"{len(row)}",
        remedy="put fields that hold the delimiter between double quotes",
        where=f"{path}:{line}",
    )


def _delimiter(path: Path, max_bytes: int) -> str:
    """A comma, or the semicolon that spreadsheets write where the comma is the decimal mark."""
    lines = text_lines(path, max_bytes)
    first = next((line for line in lines if line.strip()), "")
    lines.close()  # type: ignore[attr-defined]
    return ";" if ";" in first and "," not in first else ","


def _is_headerless(first: list[str]) -> bool:
    return len(first) > 1 and bool(_INTEGER.fullmatch(first[0])) and any(re.search(r"[^\W\d]", cell) for cell in first)


def _official_names(width: int) -> list[str]:
    texts = {2: ["text"], 3: ["title", "description"]}.get(width)
    return ["class index", *(texts or [f"text {number}" for number in range(1, width)])]


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


def _header(path: Path, row: list[str], line: int) -> list[str]:
    names = [cell.strip() or f"column {number}" for number, cell in enumerate(row, start=1)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"the header names a column twice: {listed(twice)}", remedy="rename one of them", where=f"{path}:{line}"
        )
    return names


def _classes(path: Path, numbers: list[str]) -> dict[str, tuple[str, ...]]:
    """The names in the `classes.txt` that the official archives put beside the data, one a line."""
    beside = path.with_name("classes.txt")
    if not beside.is_file():
        return {}
    names = tuple(line.strip() for line in text_lines(beside, 1 << 20) if line.strip())
    highest = max(map(int, numbers))
    if highest > len(names):
        raise DataError(
            f"{path.name} has class number {highest}", expected=f"at most {len(names)}, the names here", where=beside
        )
    return {"class index": names}
