"""JSON: an object a line, or one array of objects; and the same line by line from a stream."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import DataError
from .source import read_bytes, text_lines
from .table import AS_NAMED, Columns, FileOptions, listed, shown

#: More fields than this in one file is not a table. Cells are bounded too: a field in one object is a cell in all.
MAX_COLUMNS = 1_000
MAX_CELLS = 200_000_000


def read_jsonl(path: Path, max_bytes: int, options: FileOptions = AS_NAMED) -> Columns:
    """Read one JSON object a line; blank lines are passed over.

    Raises:
        DataError: empty, or a line that is not an object (with line and column).
    """
    lines: list[int] = []

    def records() -> Iterator[dict[str, Any]]:
        for number, line in enumerate(text_lines(path, max_bytes, options.encoding), start=1):
            if not line.isspace():
                lines.append(number)
                yield parse_object(line, f"{path}:{number}")

    values = columns_of(records(), str(path))
    if not lines:
        raise DataError("the file is empty", expected="one JSON object a line", where=path)
    return Columns(values, lines, str(path))


def walk_jsonl(path: Path, max_bytes: int, size: int, options: FileOptions = AS_NAMED) -> Iterator[Columns]:
    """What `read_jsonl` reads, by blocks of `size` rows, each with the fields of its own objects."""
    numbered = (
        (number, parse_object(line, f"{path}:{number}"))
        for number, line in enumerate(text_lines(path, max_bytes, options.encoding), start=1)
        if not line.isspace()
    )
    while block := list(islice(numbered, size)):
        values = columns_of((record for _, record in block), str(path))
        yield Columns(values, [number for number, _ in block], str(path))


def is_array(path: Path, max_bytes: int) -> bool:
    """Whether a .json file holds one array rather than an object a line."""
    first = next((line.lstrip() for line in text_lines(path, max_bytes) if not line.isspace()), "")
    return first.startswith("[")


def read_json(path: Path, max_bytes: int, options: FileOptions = AS_NAMED) -> Columns:
    """Read a .json file: an array of objects, or one object a line.

    Raises:
        DataError: empty, not JSON, or not objects.
    """
    if not is_array(path, max_bytes):
        return read_jsonl(path, max_bytes, options)
    try:
        text = read_bytes(path, max_bytes).decode(options.encoding or "utf-8-sig")
    except UnicodeDecodeError:
        return read_jsonl(path, max_bytes, options)  # walks the lines, and so finds the byte and says where it is
    records = parse(text, str(path))
    if not isinstance(records, list) or not records:
        raise DataError("the array is empty", expected="an array of objects", where=path)
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise DataError(
                "the array holds something else than objects",
                expected='{"text": ..., "label": ...}',
                received=shown(record),
                where=f"{path} row {number}",
            )
    return Columns(columns_of(records, str(path)), list(range(1, len(records) + 1)), str(path), unit="row")


def columns_of(records: Iterable[dict[str, Any]], source: str) -> dict[str, list[Any]]:
    """Turn N objects into columns of N values, None where an object lacks the field. No object is kept.

    Raises:
        DataError: more than `MAX_COLUMNS` different fields, or `MAX_CELLS` cells, most of which must be empty then.
    """
    columns: dict[str, list[Any]] = {}
    cells = 0
    for row, record in enumerate(records):
        if not record.keys() <= columns.keys():
            columns.update({name: [None] * row for name in record if name not in columns})
            cells = row * len(columns)
        for name, column in columns.items():
            column.append(record.get(name))
        cells += len(columns)
        if len(columns) > MAX_COLUMNS or cells > MAX_CELLS:
            raise DataError(
                f"the objects have {len(columns):,} different fields in {row + 1:,} rows",
                expected=f"at most {MAX_COLUMNS:,} fields and {MAX_CELLS:,} cells",
                received=listed(columns, 4),
                remedy="write one field for the text and one for the label",
                where=source,
            )
    return columns


def parse(text: str, where: str) -> Any:
    """`json.loads` whose every failure is a `DataError` that names the place."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        column = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
        raise DataError(f"not valid JSON at {column} ({error.msg})", where=where) from error
    except (RecursionError, ValueError) as error:
        # Nesting without end, or a number of thousands of digits.
        raise DataError(f"JSON that cannot be read ({shown(str(error))})", where=where) from error


def parse_object(line: str, where: str) -> dict[str, Any]:
    """One line that must be a JSON object."""
    record = parse(line, where)
    if not isinstance(record, dict):
        raise DataError(
            "the line is not a JSON object",
            expected='{"text": ..., "label": ...}',
            received=shown(line.strip()),
            where=where,
        )
    return record


def stream_records(lines: Iterable[str], source: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Number and parse lines as they come: JSON objects if the first line is one, else each line is a plain text.

    A blank line is a text of its own where lines are texts, so that answers keep the order of the questions.
    """
    as_json: bool | None = None
    blank = 0  # leading blank lines, which are nothing or texts: the first other line tells
    for number, raw in enumerate(lines, start=1):
        line = raw.rstrip("\r\n")
        if number == 1:
            line = line.removeprefix("\ufeff")
        if as_json is None:
            if not line.strip():
                blank += 1
                continue
            as_json = line.lstrip().startswith("{")
            if not as_json:
                yield from ((earlier, "") for earlier in range(1, blank + 1))
        if not as_json:
            yield number, line
        elif line.strip():
            yield number, parse_object(line, f"{source}:{number}")
