"""Blocks of rows, as columns, in the form of an output file: lines of CSV or JSON, Arrow until they become Parquet.

Whole columns are brought to text at once; what is written is what `writers.write_lines` writes row by row.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from .cells import csv_cell, json_text
from .formula_guard import Guard, escape_formula, guard_nothing

Block = Mapping[str, list[Any]]


class Newlines:
    """Plain line ends for a csv writer, which quotes a carriage return only if its own line ends have one."""

    def __init__(self, handle: IO[str]) -> None:
        self._handle = handle

    def write(self, row: str) -> None:
        """Write one row."""
        self._handle.write(row.removesuffix("\r\n") + "\n")


def csv_lines(block: Block, *, header: bool, delimiter: str = "|", guard: Guard = guard_nothing) -> str:
    """Rows of CSV.

    Args:
        header: whether their names come first.
        delimiter: joins the labels in a cell. Other lists, and objects, are written as JSON.
        guard: the columns in which formulas are escaped.
    """
    held = io.StringIO(newline="")
    writer: Any = csv.writer(Newlines(held), lineterminator="\r\n")
    if header:
        writer.writerow([escape_formula(name) if guard(name) else name for name in block])
    writer.writerows(zip(*(_csv_cells(block[name], delimiter, guard(name)) for name in block), strict=True))
    return held.getvalue()


def _csv_cells(values: list[Any], delimiter: str, guarded: bool) -> Sequence[Any]:
    kinds = set(map(type, values))
    numbers = kinds <= {int, float, type(None)}
    missing = float in kinds and any(value != value for value in values)
    if missing or not (numbers or kinds <= {str, type(None)}):
        values = [csv_cell(value, delimiter) for value in values]
    return values if numbers or not guarded else [escape_formula(value) for value in values]


def json_lines(block: Block) -> str:
    """Rows as JSON objects, one a line; null for NaN and infinity."""
    names = [json_text(name).replace("%", "%%") for name in block]
    line = "{" + ", ".join(f"{name}: %s" for name in names) + "}\n"
    return "".join([line % row for row in zip(*map(_json_cells, block.values()), strict=True)])


def _json_cells(values: list[Any]) -> Iterator[str]:
    kinds = set(map(type, values))
    if kinds == {float} and all(map(math.isfinite, values)):
        return map(float.__repr__, values)
    return map(int.__repr__ if kinds == {int} else json_text, values)


def arrow_block(block: Block, types: Mapping[str, Any]) -> bytes:
    """Rows as an Arrow stream of its own: numbers, booleans, strings and lists of strings; otherwise JSON as strings.

    Args:
        types: Arrow types of columns, which they keep if their values allow it.
    """
    import pyarrow as pa

    table = pa.table({_string(name): _array(values, types.get(name)) for name, values in block.items()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def write_parquet(parts: Callable[[], Iterator[bytes]], path: Path) -> None:
    """Put Arrow streams together as one Parquet file, a row group each; its columns have types that hold those of all.

    Args:
        parts: gives the streams, from `arrow_block`, twice.
        path: the file, created again. Without a part it has neither rows nor columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema: Any = None
    for part in parts():
        own = pa.ipc.open_stream(pa.py_buffer(part)).schema
        schema = own if schema is None or own == schema else _widened(schema, own)
    if schema is None:
        schema = pa.schema([])
    # A column without any value becomes a column of texts.
    final = pa.schema([pa.field(one.name, pa.string() if pa.types.is_null(one.type) else one.type) for one in schema])
    # Opened here: a name need not be UTF-8.
    with pa.OSFile(os.fsencode(path), "wb") as file, pq.ParquetWriter(file, final) as writer:
        for part in parts():
            writer.write_table(_as(pa.ipc.open_stream(pa.py_buffer(part)).read_all(), final))


def _array(values: list[Any], kind: Any) -> Any:
    import pyarrow as pa

    kinds = set(map(type, values))
    if list in kinds and all(value is None or _is_strings(value) for value in values):
        return pa.array(values, pa.list_(pa.string()))
    if not any(issubclass(each, (list, tuple, dict)) for each in kinds):
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
    text = value if isinstance(value, str) else json_text(value)
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
