"""Answers on their way out: CSV, JSONL or Parquet, whole or not at all; and the lines of a stream on their way in."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import select
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

from ..data.columns import is_id_name, is_label_name
from ..data.file_streams import MAX_LINE, is_pipe
from ..data.table import shown
from ..errors import DataError, InputError
from ..storage.atomic import atomic_file

# Rows of one Parquet row group: bounds memory, whatever the file's size.
CHUNK = 8192
# A pipe is read line by line. One that is called so holds something else.
_NOT_LINES = (".csv", ".tsv", ".json", ".parquet", ".arrow", ".pkl", ".pickle", ".gz", ".zip")
_READ = 1 << 16

_NUMBER = re.compile(r"[+-]?(\d[\d.,]*|\.\d+)([eE][+-]?\d+)?%?")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")

Guard = Callable[[str], bool]


def unguarded(name: str) -> bool:
    """The guard that lets every column out as it is."""
    return False


def guard_for(texts: Iterable[str] = (), exact: Iterable[str] = ()) -> Guard:
    """Which columns of a CSV file hold free text, whose cells a spreadsheet must not take for formulas.

    Args:
        texts: the columns that were read as the text: they are guarded whatever their names.
        exact: columns that are known to be ids or labels, beside those whose names say so.
    """
    texts, exact = frozenset(texts), frozenset(name.strip().lower() for name in exact)

    def guarded(name: str) -> bool:
        labels = is_label_name(name) or name.lower().endswith(("_label", "_labels"))
        return name in texts or not (name.strip().lower() in exact or labels or is_id_name(name))

    return guarded


def check_target(path: str | Path, form: str | None = None, source: str | Path | None = None) -> str:
    """The form of an output file: `form`, else by the path's ending.

    Args:
        source: what the answers are made of; they must not take its place.

    Raises:
        InputError: for an ending that names no known form, a path that is no regular file, or the source itself.
    """
    path = Path(path)
    form = form or path.suffix.removeprefix(".")
    if form not in ("csv", "jsonl", "parquet"):
        raise InputError(
            "unknown output form",
            where=path,
            expected="a name ending in .csv, .jsonl or .parquet, or --format",
            received=path.name,
        )
    special = os.path.exists(path) and not os.path.isfile(path)
    if special or path.absolute().parts[1] in ("dev", "proc", "sys"):
        # Writing aside and renaming would put a file where a device (or a link to one: /dev/stdout) is.
        raise InputError("not a regular file", where=path, remedy="leave out --out to write to standard output")
    if source is not None and os.path.exists(path) and os.path.exists(source) and path.samefile(source):
        raise InputError("the answers would take the place of the texts", where=path, remedy="give --out another name")
    return form


def write(
    answers: Iterable[dict[str, Any]],
    path: str | Path,
    form: str | None = None,
    *,
    delimiter: str = "|",
    guard: Guard = unguarded,
    types: dict[str, Any] | None = None,
) -> int:
    """Write answers to a file, whole or not at all.

    Args:
        form: csv, jsonl or parquet; else by the path's ending.
        delimiter, guard: as for `write_lines`.
        types: Arrow types of columns, where the source says them: Parquet keeps them.

    Returns:
        The number of rows.

    Raises:
        InputError: for an ending that names no known form.
        DataError: as `write_lines`.
    """
    form = check_target(path, form)
    with atomic_file(path) as aside:
        if form == "parquet":
            return _write_parquet(answers, aside, types or {})
        # A lone surrogate comes out as the escape that JSON has for it.
        with aside.open("w", encoding="utf-8", errors="backslashreplace", newline="") as handle:
            return write_lines(answers, handle, form, delimiter=delimiter, guard=guard)


def write_lines(
    answers: Iterable[dict[str, Any]],
    handle: IO[str],
    form: str,
    *,
    flush: bool = False,
    delimiter: str = "|",
    guard: Guard = unguarded,
) -> int:
    """Write answers to an open text handle as CSV or JSONL; NaN becomes an empty cell, or null.

    Args:
        flush: after each row.
        delimiter: joins the labels of a cell of CSV. Other lists, and objects, are written as JSON.
        guard: the columns of CSV whose cells get an apostrophe where a spreadsheet would run them as a formula.

    Returns:
        The number of rows.

    Raises:
        DataError: a row of CSV has a field that the first one lacks, so that the header has no place for it.
    """
    writer: Any = None
    names: list[str] = []
    count = 0
    for count, row in enumerate(answers, start=1):
        if form == "csv":
            if writer is None:
                # Only where it ends lines itself does the csv module put a carriage return between quotes.
                writer, names = csv.writer(_Newlines(handle), lineterminator="\r\n"), list(row)
                writer.writerow([neutral(name) if guard(name) else name for name in names])
            if not row.keys() <= set(names):
                raise DataError(
                    f"row {count:,} has fields that the first row lacks",
                    expected=", ".join(map(shown, names)),
                    received=", ".join(shown(name) for name in row if name not in names),
                    remedy="write JSONL: --format jsonl",
                )
            cells = {name: _cell(value, delimiter) for name, value in row.items()}
            writer.writerow([neutral(cells.get(name)) if guard(name) else cells.get(name) for name in names])
        else:
            handle.write(_json(row) + "\n")
        if flush:
            handle.flush()
    return count


class _Newlines:
    """Passes on the rows of a csv writer with plain line ends."""

    def __init__(self, handle: IO[str]) -> None:
        self._handle = handle

    def write(self, row: str) -> None:
        self._handle.write(row.removesuffix("\r\n") + "\n")


def neutral(value: Any) -> Any:
    """A spreadsheet runs cells that begin with = + - @: such text gets an apostrophe, unless it is a plain number.

    Source: https://owasp.org/www-community/attacks/CSV_Injection
    """
    if isinstance(value, str) and value.startswith(_FORMULA) and not _NUMBER.fullmatch(value):
        return "'" + value
    return value


def _cell(value: Any, delimiter: str) -> Any:
    """A value as CSV has it."""
    if isinstance(value, list) and all(isinstance(part, str) and delimiter not in part for part in value):
        return delimiter.join(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isnan(value):
        return None
    return _json(value) if isinstance(value, (list, tuple, dict)) else value


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:  # JSON has no NaN and no infinity
        return json.dumps(_finite(value), ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(held) for key, held in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(held) for held in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_parquet(answers: Iterable[dict[str, Any]], path: Path, types: dict[str, Any]) -> int:
    """Write blocks of rows as they come; where a later one shows a column to be of another type, write all anew."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    iterator = iter(answers)
    parts: list[Path] = []
    writer: Any = None
    schema: Any = None
    count = 0
    try:
        while block := list(islice(iterator, CHUNK)):
            table = _arrow(block, types)
            wider = table.schema if schema is None else _widened(schema, table.schema)
            if writer is None or wider != schema:
                if writer is not None:
                    writer.close()
                schema = wider
                parts.append(path.with_name(f"{len(parts)}.parquet"))
                writer = pq.ParquetWriter(parts[-1], schema)
            writer.write_table(_as(table, schema))
            count += len(block)
    finally:
        if writer is not None:
            writer.close()
    if len(parts) == 1 and pa.null() not in schema.types:
        parts[0].replace(path)
    elif parts:
        # A column without a single value is one of texts.
        final = pa.schema([pa.field(one.name, _or_string(one.type)) for one in schema])
        with pq.ParquetWriter(path, final) as whole:
            for part in parts:
                with pq.ParquetFile(part) as held:
                    for batch in held.iter_batches(CHUNK):
                        whole.write_table(_as(pa.Table.from_batches([batch]), final))
    return count


def _arrow(rows: list[dict[str, Any]], types: dict[str, Any]) -> Any:
    """Rows as an Arrow table of numbers, booleans, strings and lists of strings; anything else as JSON strings."""
    import pyarrow as pa

    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: _array([row.get(name) for row in rows], types.get(name)) for name in names})


def _array(values: list[Any], kind: Any) -> Any:
    import pyarrow as pa

    present = [value for value in values if value is not None]
    if any(isinstance(value, list) for value in present) and all(_is_strings(value) for value in present):
        return pa.array(values, pa.list_(pa.string()))
    if not any(isinstance(value, (list, tuple, dict)) for value in present):
        for wanted in ([kind] if kind is not None else []) + [None]:
            try:
                return pa.array(values, wanted)
            except (pa.ArrowException, TypeError, ValueError, OverflowError):
                continue  # of several types, too large, or with half of a surrogate pair
    return pa.array([_string(value) for value in values], pa.string())


def _is_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


def _string(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else _json(value)
    return text.encode(errors="backslashreplace").decode()


def _widened(schema: Any, other: Any) -> Any:
    """A schema that holds the columns of both: of the wider type, of strings where nothing else holds both."""
    import pyarrow as pa

    known = {one.name: one.type for one in schema}
    for one in other:
        before = known.get(one.name, one.type)
        try:
            both = pa.unify_schemas(
                [pa.schema([("x", before)]), pa.schema([("x", one.type)])], promote_options="permissive"
            )
            known[one.name] = both.field("x").type
        except pa.ArrowException:
            known[one.name] = pa.string()
    return pa.schema(list(known.items()))


def _as(table: Any, schema: Any) -> Any:
    """A table's columns in the order and of the types of a schema, null where it lacks one."""
    import pyarrow as pa

    columns = []
    for one in schema:
        if one.name not in table.schema.names:
            columns.append(pa.nulls(len(table), one.type))
        elif table.schema.field(one.name).type == one.type:
            columns.append(table.column(one.name))
        elif pa.types.is_string(one.type):
            columns.append(pa.array([_string(value) for value in table.column(one.name).to_pylist()], one.type))
        else:
            columns.append(table.column(one.name).cast(one.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _or_string(kind: Any) -> Any:
    import pyarrow as pa

    return pa.string() if pa.types.is_null(kind) else kind


def open_pipe(source: str | Path) -> IO[bytes] | None:
    """A named pipe, `<(...)` or `/dev/stdin`, opened unbuffered to be read once; None for anything else.

    Raises:
        InputError: one that is named as a file of another form than lines.
        DataError: it cannot be opened.
    """
    path = Path(source)
    if not is_pipe(path):
        return None
    if path.suffix.lower() in _NOT_LINES:
        raise InputError(
            "a pipe is read line by line, as JSON lines or plain texts",
            received=path.name,
            remedy="write it to a file first",
            where=path,
        )
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise DataError(f"cannot read the pipe ({error.strerror or error})", where=path) from error


def utf8_lines(handle: IO[bytes], source: str) -> Iterator[str]:
    """The lines of a byte stream as they arrive, line ends kept.

    Args:
        handle: unbuffered, so that a line is not held back until a buffer is full.

    Raises:
        DataError: naming the line that is not UTF-8, or too long.
    """
    for number, line in enumerate(_lines(handle), start=1):
        if len(line) > MAX_LINE:
            raise DataError("the line is too long", expected=f"at most {MAX_LINE:,} bytes", where=f"{source}:{number}")
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"byte 0x{line[error.start]:02X} is not UTF-8", where=f"{source}:{number}", expected="UTF-8"
            ) from None


def _lines(handle: IO[bytes]) -> Iterator[bytes]:
    """The lines of a byte stream; one of more than `MAX_LINE` bytes ends it, unfinished."""
    held: list[bytes] = []
    size = 0
    while True:
        block = handle.read(_READ)
        if block is None:  # a descriptor that does not block, and nothing is there yet
            select.select([handle], [], [])
            continue
        if not block:
            break
        *whole, rest = block.split(b"\n")
        for line in whole:
            yield b"".join([*held, line, b"\n"])
            held, size = [], 0
        held.append(rest)
        size += len(rest)
        if size > MAX_LINE:
            break
    if size:
        yield b"".join(held)
