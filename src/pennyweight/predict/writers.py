"""Writing predictions as CSV, JSONL or Parquet. Files are written whole or not at all."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import IO, Any

from ..data.table import shown
from ..errors import DataError, InputError
from ..storage.atomic import atomic_file
from .formula_guard import Guard, escape_formula, guard_nothing

# Rows of one Parquet row group: bounds memory, whatever the file's size.
CHUNK = 8192


def output_form(path: str | Path, form: str | None = None, source: str | Path | None = None) -> str:
    """The form of an output file: `form`, else by the path's ending.

    Args:
        source: the input file, which must not be overwritten.

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
        raise InputError("the output would overwrite the input", where=path, remedy="give --out another name")
    return form


def write_file(
    rows: Iterable[dict[str, Any]],
    path: str | Path,
    form: str | None = None,
    *,
    delimiter: str = "|",
    guard: Guard = guard_nothing,
    types: dict[str, Any] | None = None,
) -> int:
    """Write rows to a file, whole or not at all.

    Args:
        form: csv, jsonl or parquet; else by the path's ending.
        delimiter, guard: as for `write_lines`.
        types: Arrow types of the input's columns, if known; Parquet keeps them.

    Returns:
        The number of rows.

    Raises:
        InputError: as `output_form`.
        DataError: as `write_lines`.
    """
    form = output_form(path, form)
    with atomic_file(path) as aside:
        if form == "parquet":
            return _write_parquet(rows, aside, types or {})
        # A lone surrogate comes out as the escape that JSON has for it.
        with aside.open("w", encoding="utf-8", errors="backslashreplace", newline="") as handle:
            return write_lines(rows, handle, form, delimiter=delimiter, guard=guard)


def write_lines(
    rows: Iterable[dict[str, Any]],
    handle: IO[str],
    form: str,
    *,
    flush: bool = False,
    delimiter: str = "|",
    guard: Guard = guard_nothing,
) -> int:
    """Write rows to an open text handle as CSV or JSONL; NaN becomes an empty cell, or null.

    Args:
        flush: after each row.
        delimiter: joins the labels in a cell of CSV. Other lists, and objects, are written as JSON.
        guard: the columns of CSV in which formulas are escaped.

    Returns:
        The number of rows.

    Raises:
        DataError: a row of CSV has a field that the first row lacks: the header is already written.
    """
    writer: Any = None
    names: list[str] = []
    count = 0
    for count, row in enumerate(rows, start=1):
        if form == "csv":
            if writer is None:
                # The csv module quotes a carriage return only if its own line ends have one.
                writer, names = csv.writer(_Newlines(handle), lineterminator="\r\n"), list(row)
                writer.writerow([escape_formula(name) if guard(name) else name for name in names])
            if not row.keys() <= set(names):
                raise DataError(
                    f"row {count:,} has fields that the first row lacks",
                    expected=", ".join(map(shown, names)),
                    received=", ".join(shown(name) for name in row if name not in names),
                    remedy="write JSONL: --format jsonl",
                )
            cells = {name: _cell(value, delimiter) for name, value in row.items()}
            writer.writerow([escape_formula(cells.get(name)) if guard(name) else cells.get(name) for name in names])
        else:
            handle.write(_json(row) + "\n")
        if flush:
            handle.flush()
    return count


class _Newlines:
    """Gives the rows of a csv writer plain line ends."""

    def __init__(self, handle: IO[str]) -> None:
        self._handle = handle

    def write(self, row: str) -> None:
        self._handle.write(row.removesuffix("\r\n") + "\n")


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


def _write_parquet(rows: Iterable[dict[str, Any]], path: Path, types: dict[str, Any]) -> int:
    """Write rows in blocks. When a later block widens a column's type, all blocks are rewritten at the end."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    iterator = iter(rows)
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
        # A column without any value becomes a column of texts.
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
