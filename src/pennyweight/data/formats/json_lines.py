"""JSON: one value per line, or one document; and single lines from a stream."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..columns import is_column_name
from ..file_options import AS_NAMED, FileOptions
from ..file_streams import MAX_LINE, open_bytes, read_bytes, read_lines
from ..table import Columns, listed, shown
from .json_document import columns_of_arrays, columns_of_document, flatten, label_comes_first, refuse_exports

#: More fields than this in one file is not a table. Cells are bounded too: a field in one object is a cell in all.
MAX_COLUMNS = 1_000
MAX_CELLS = 200_000_000

# Rows that say whether pairs begin with the label: as many as the inference of columns looks at.
_SAMPLE = 1_000


def read_json(
    path: Path, max_bytes: int, options: FileOptions = AS_NAMED, *, split: str = "train", by_name: bool = False
) -> Columns:
    """Read a file of JSON: one object (or pair, or text) a line, blank lines skipped, or one document.

    Args:
        by_name: whether the file's name, or its reader, says that it holds a value a line.
        split: which one is read where a document holds several.

    Raises:
        DataError: empty, not JSON (with line and column), or of a shape that is not known.
    """
    if not is_json_lines(path, max_bytes, options, by_name=by_name):
        return _read_document(path, max_bytes, options, split)
    lines: list[int] = []
    named, rows = _rows_of_lines(path, max_bytes, options)

    def records() -> Iterator[dict[str, Any]]:
        for number, record in rows:
            lines.append(number)
            yield record

    values = columns_of(records(), str(path))
    if not lines:
        raise DataError("the file is empty", expected="one JSON object a line", where=path)
    return Columns(values, lines, str(path), named=named)


def read_jsonl_blocks(path: Path, max_bytes: int, size: int, options: FileOptions = AS_NAMED) -> Iterator[Columns]:
    """As `read_json` for one value per line, in blocks of `size` rows, each block with its own fields."""
    named, rows = _rows_of_lines(path, max_bytes, options)
    while block := list(islice(rows, size)):
        values = columns_of((record for _, record in block), str(path))
        yield Columns(values, [number for number, _ in block], str(path), named=named)


def is_json_lines(path: Path, max_bytes: int, options: FileOptions = AS_NAMED, *, by_name: bool = False) -> bool:
    """Whether a file holds a JSON value a line rather than one document: its first line is whole, and not the last.

    An only line is a row where it is an object without lists and objects in it, and where `by_name` says lines, also
    where it is an array such as `["text", "label"]`. A file in error counts as lines where its first line seems to be
    a whole object, so that the message names the line.
    """
    with open_bytes(path, max_bytes) as stream:
        handle = io.TextIOWrapper(stream, encoding=options.encoding or "utf-8-sig", errors="replace", newline="")
        lines = iter(lambda: handle.readline(MAX_LINE), "")
        first = next((line.strip() for line in lines if not line.isspace()), "")
        more = any(not line.isspace() for line in lines) if len(first) < MAX_LINE else False
    if not first:
        return True
    try:
        value, end = json.JSONDecoder().raw_decode(first)
    except json.JSONDecodeError as error:
        return error.pos < len(first) and first[0] + first[-1] in ("{}", "[]")
    except (RecursionError, ValueError):
        return True
    if first[end:].strip():
        return False  # objects one after another
    if by_name and isinstance(value, list) and not all(map(_is_nested, value)):
        return True  # a list of rows would hold lists or objects alone
    return more or (isinstance(value, dict) and bool(value) and not any(map(_is_nested, value.values())))


def _is_nested(value: Any) -> bool:
    return isinstance(value, (list, dict))


def _rows_of_lines(
    path: Path, max_bytes: int, options: FileOptions
) -> tuple[bool, Iterator[tuple[int, dict[str, Any]]]]:
    """Whether the lines name their fields, and the rows with their lines; pairs and plain strings get the names.

    Raises:
        DataError: a line of another kind than the first.
    """
    parsed = (
        (number, parse_json(line, f"{path}:{number}"))
        for number, line in enumerate(read_lines(path, max_bytes, options.encoding), start=1)
        if not line.isspace()
    )
    head = list(islice(parsed, _SAMPLE))
    if not head:
        return True, iter(())
    number, first = head[0]
    rows = chain(head, parsed)
    if isinstance(first, str):
        return False, ((at, {"text": _of_kind(row, str, "a string", f"{path}:{at}")}) for at, row in rows)
    if isinstance(first, list) and first:
        alike = [row for _, row in head if isinstance(row, list) and len(row) == len(first)]
        names = list(columns_of_arrays(alike, str))
        if len(first) == 2 and label_comes_first(alike):
            names = ["label", "text"]
        return False, ((at, _named(row, names, f"{path}:{at}")) for at, row in rows)
    if isinstance(first, dict):
        refuse_exports(first, f"{path}:{number}")
    return True, ((at, flatten(require_object(row, f"{path}:{at}"))) for at, row in rows)


def _of_kind(row: Any, kind: type, name: str, where: str) -> Any:
    if not isinstance(row, kind):
        raise DataError(
            "the lines are of different kinds",
            expected=f"{name}, as in the first line",
            received=shown(json.dumps(row, ensure_ascii=False)),
            where=where,
        )
    return row


def _named(row: Any, names: list[str], where: str) -> dict[str, Any]:
    if len(_of_kind(row, list, "an array", where)) != len(names):
        raise DataError(
            "the rows differ in length",
            expected=f"{len(names)} values, as in the first row",
            received=f"{len(row)}: {shown(row)}",
            where=where,
        )
    return dict(zip(names, row, strict=True))


def _read_document(path: Path, max_bytes: int, options: FileOptions, split: str) -> Columns:
    try:
        text = read_bytes(path, max_bytes).decode(options.encoding or "utf-8-sig")
    except UnicodeDecodeError as error:
        for _ in read_lines(path, max_bytes, options.encoding):
            pass  # finds the byte and says where it is
        raise DataError(f"the file is not {options.encoding or 'UTF-8'}", where=path) from error
    return columns_of_document(parse_json(text.removeprefix("\ufeff"), str(path)), str(path), split, columns_of)


def columns_of(records: Iterable[dict[str, Any]], source: str) -> dict[str, list[Any]]:
    """Turn N objects into columns of N values, None if an object lacks the field. No object is kept.

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


def parse_json(text: str, where: str) -> Any:
    """The JSON value of a text; a list of them where objects follow one another.

    Raises:
        DataError: not JSON, an object that names a field twice, or numbers and nesting without end; all with the place.
    """
    try:
        return _decode(text)
    except _DuplicateField as error:
        raise DataError(f"an object names the field {shown(str(error))} twice", where=where) from error
    except json.JSONDecodeError as error:
        raise _invalid(text, error, where) from error
    except (RecursionError, ValueError) as error:
        # Nesting without end, or a number of thousands of digits.
        raise DataError(f"JSON that cannot be read ({shown(str(error))})", where=where) from error


class _DuplicateField(ValueError):
    """An object names a field twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        raise _DuplicateField(next(name for name, _ in pairs if name in seen or seen.add(name)))  # type: ignore[func-returns-value]
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)
_BLANK = re.compile(r"[ \t\r\n]*")


def _decode(text: str) -> Any:
    def after(end: int) -> int:
        found = _BLANK.match(text, end)
        return end if found is None else found.end()

    value, end = _DECODER.raw_decode(text, after(0))
    end = after(end)
    if end == len(text):
        return value
    values = [value]
    while end < len(text) and isinstance(values[-1], dict) and text[end] == "{":
        value, end = _DECODER.raw_decode(text, end)
        values.append(value)
        end = after(end)
    if end < len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    return values


def _invalid(text: str, error: json.JSONDecodeError, where: str) -> DataError:
    """The error in a text that is not JSON, with its position, in the decoder's words or clearer ones."""
    at, problem, remedy = error.pos, error.msg, None
    before, rest = text[:at].rstrip(), text[at:].lstrip()
    if rest[:1] == "," and rest[1:].lstrip()[:1] in ("]", "}"):
        before, rest = text[: at + 1], rest[1:].lstrip()
    if before.endswith(",") and rest[:1] in ("]", "}"):
        at, problem, remedy = len(before) - 1, "a comma before the closing bracket", "remove the comma"
    elif not rest:
        at, problem, remedy = at, "it ends in the middle of a value", "the file was cut off: fetch or write it again"
    elif rest.startswith("'"):
        problem, remedy = "a single quote", "JSON needs double quotes: write it with a JSON library, such as json.dumps"
    elif rest.startswith(("None", "True", "False", "nan")):
        problem, remedy = "a value of Python", "JSON says null, true, false: write it with json.dumps"
    line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
    place = f"column {column}" if line == 1 else f"line {line}, column {column}"
    return DataError(f"not valid JSON at {place} ({problem})", remedy=remedy, where=where)


def require_object(record: Any, where: str) -> dict[str, Any]:
    """A line's value, which must be an object.

    Raises:
        DataError: it is something else.
    """
    if not isinstance(record, dict):
        raise DataError(
            "the line is not a JSON object",
            expected='{"text": ..., "label": ...}',
            received=shown(json.dumps(record, ensure_ascii=False)),
            where=where,
        )
    return record


def _refuse_document(line: str, where: str) -> None:
    found = ""
    cells = [cell.strip().strip("\"'") for cell in re.split(r"[,;\t|]", line)]
    if line.lstrip()[:1] == "[" and (line.strip() == "[" or line.strip()[1:].lstrip()[:1] in ('"', "{", "[")):
        found = "begins a JSON array"
    elif len(cells) > 1 and all(cells) and all(is_column_name(cell) for cell in cells):
        found = "is the header of a table"
    if found:
        raise DataError(
            f"the first line {found}",
            expected="one text or JSON object per line",
            received=shown(line),
            remedy="write it to a file and name the file",
            where=where,
        )


def stream_records(lines: Iterable[str], source: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Number and parse lines as they come: JSON objects if the first line is one, otherwise each line is a plain text.

    A blank line is a text of its own where lines are texts, so that predictions keep the order of the texts.

    Raises:
        DataError: a line that is no object among others that are; a first line that begins a JSON array, or that is the
            header of a table: their lines are no texts.
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
                _refuse_document(line, f"{source}:{number}")
                yield from ((earlier, "") for earlier in range(1, blank + 1))
        if not as_json:
            yield number, line
        elif line.strip():
            yield number, flatten(require_object(parse_json(line, f"{source}:{number}"), f"{source}:{number}"))
