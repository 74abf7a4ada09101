"""A pickled `datasets.Dataset`, read without running it: the Arrow buffers are taken from its description.

Pickles of datasets 2 to 5 hold the dataset's attributes, and the table as `pyarrow` reduces it: a schema and, for each
chunk of a column, its type, length, offset and buffers. Up to datasets 4 the same rows occur a second time, as record
batches with a numpy array of where each begins; these are skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..file_streams import read_bytes
from ..table import Columns, listed, shown
from .pickle_opcodes import Call, Refused, describe

#: Every name that a pickled dataset may hold. They are compared, never imported.
ALLOWED = frozenset(
    [
        *(f"datasets.{name}" for name in ("arrow_dataset.Dataset", "dataset_dict.DatasetDict", "info.DatasetInfo")),
        *(f"datasets.features.features.{name}" for name in ("Features", "Value", "ClassLabel", "List", "Sequence")),
        *(f"datasets.splits.{name}" for name in ("NamedSplit", "Split", "SplitDict", "SplitInfo")),
        *(f"datasets.table.{name}" for name in ("InMemoryTable", "MemoryMappedTable", "ConcatenationTable")),
        *("datasets.utils.version.Version", "datasets.tasks.text_classification.TextClassification"),
        *(f"pyarrow.lib.{name}" for name in ("_reconstruct_table", "chunked_array", "_restore_array", "py_buffer")),
        *(f"pyarrow.lib.{name}" for name in ("schema", "field", "type_for_alias", "list_", "struct", "dictionary")),
        *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("bytes", "bytearray", "object")),
        *("_codecs.encode", "copyreg._reconstructor", "copy_reg._reconstructor"),
        *("pyarrow.lib._reconstruct_record_batch", "numpy.ndarray", "numpy.dtype"),
        *(f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")),
        *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
    ]
)

_ALIASES = frozenset(
    [
        *("string", "large_string", "bool", "float", "double", "float32", "float64"),
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    ]
)


def read_pickle(path: Path, split: str, max_bytes: int) -> Columns:
    """The text and number columns of a pickled `Dataset`, or of the `split` of a pickled `DatasetDict`.

    Raises:
        DataError: anything else than such a pickle, or one that names anything else than a dataset needs.
    """
    data = read_bytes(path, max_bytes)
    try:
        if data[:1] not in (b"\x80", b"c", b"("):
            raise Refused("it is not a pickle")
        root = _dataset(describe(data, ALLOWED), split)
        return replace(_columns(root, limit=len(data)), source=str(path))
    except Refused as error:
        raise DataError(
            f"the pickle is refused: {shown(str(error), 300)}",
            expected="a pickled datasets.Dataset that was in memory",
            remedy="nothing in it was run; "
            + (
                'on the machine that made it, write frame.to_parquet("data.parquet") and use that'
                if "pandas." in str(error)
                else "ask for the data as CSV, JSONL or Parquet"
            ),
            where=path,
        ) from error


def _dataset(root: Any, split: str) -> dict[str, Any]:
    """The attributes of the dataset."""
    if isinstance(root, Call) and root.path == "datasets.dataset_dict.DatasetDict":
        if split not in root.items:
            raise Refused(f"it has the splits {listed(root.items)}, and not {split}")
        root = root.items[split]
    if not isinstance(root, Call) or _class(root) != "datasets.arrow_dataset.Dataset":
        raise Refused(f"it holds a {_kind(root)}")
    return _mapping(root.state, "the dataset")


def _columns(dataset: dict[str, Any], limit: int) -> Columns:
    budget = _Budget(limit)
    values, other = _table(dataset.get("_data"), budget)
    if dataset.get("_indices") is not None:
        chosen = _table(dataset["_indices"], budget)[0].get("indices")
        if chosen is None:
            raise Refused("its selection of rows has no column of indices")
        values = {name: _take(column, chosen) for name, column in values.items()}
    rows = len(next(iter(values.values()), ()))
    if not rows:
        raise Refused("it contains no rows of text or numbers")
    lines = list(range(1, rows + 1))
    return Columns(values, lines, "", "row", label_names=_class_names(dataset.get("_info")), unreadable=other)


class _Budget:
    """The bytes that may still be decoded: at most the file's size; each table and chunk counts as one byte.

    A pickle can name one buffer, or one list of lists of empty chunks, a million times; honest ones do not.
    """

    def __init__(self, limit: int) -> None:
        self.left = limit

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise Refused("it uses the same bytes over and over")


def _table(table: Any, budget: _Budget) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """Column name -> values, and name -> type for the columns that are neither text nor number."""
    budget.spend(1)
    path = _class(table) if isinstance(table, Call) else ""
    state = _mapping(table.state, "its table") if path else {}
    if path == "datasets.table.MemoryMappedTable":
        raise Refused(
            f"it contains no rows, only the path of a cache file ({shown(state.get('path'), 150)}); on the machine "
            "that has this file, write dataset.to_parquet('data.parquet') and use that"
        )
    if path == "datasets.table.ConcatenationTable":
        return _concatenated(state.get("blocks"), budget)
    if path != "datasets.table.InMemoryTable":
        raise Refused(f"its table is a {_kind(table)}")
    chunked, schema = _arguments(state.get("table"), "pyarrow.lib._reconstruct_table", 2)[:2]
    fields = _arguments(schema, "pyarrow.lib.schema", 1)[0]
    names = [_arguments(entry, "pyarrow.lib.field", 2)[:2] for entry in _sequence(fields, "its schema")]
    values: dict[str, list[Any]] = {}
    other: dict[str, str] = {}
    if len(names) != len(_sequence(chunked, "its columns")):
        raise Refused("its schema has a different number of columns from its data")
    for (name, kind), column in zip(names, chunked, strict=True):
        alias = _alias(kind)
        if alias is None:
            other[str(name)] = _kind(kind)
        else:
            chunks = _sequence(_arguments(column, "pyarrow.lib.chunked_array", 1)[0], "a column")
            values[str(name)] = [value for chunk in chunks for value in _chunk(chunk, alias, budget)]
    if len({len(column) for column in values.values()}) > 1:
        raise Refused("its columns differ in length")
    return values, other


def _concatenated(blocks: Any, budget: _Budget) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """Rows of blocks, each row's blocks side by side."""
    values: dict[str, list[Any]] = {}
    other: dict[str, str] = {}
    total = 0
    for row in _sequence(blocks, "its blocks"):
        budget.spend(1)
        part: dict[str, list[Any]] = {}
        for block in _sequence(row, "its blocks"):
            if isinstance(block, Call) and _class(block) == "datasets.table.ConcatenationTable":
                raise Refused("its blocks hold blocks")  # datasets never nests them; a cycle would never end
            columns, unread = _table(block, budget)
            part |= columns
            other |= unread
        rows = len(next(iter(part.values()), ()))
        for name in values.keys() | part.keys():
            values.setdefault(name, [None] * total).extend(part.get(name, [None] * rows))
        total += rows
    return values, other


def _chunk(chunk: Any, alias: str, budget: _Budget) -> list[Any]:
    """The values of one Arrow array, whose buffers are checked against its length before any is looked at."""
    import pyarrow as pa

    reduced = _sequence(_arguments(chunk, "pyarrow.lib._restore_array", 1)[0], "a chunk")
    if len(reduced) < 5:
        raise Refused("a chunk is not whole")
    _, length, _, offset, buffers = reduced[:5]
    if not all(type(number) is int and 0 <= number < 1 << 48 for number in (length, offset)):
        raise Refused("a chunk has an impossible length")
    parts = [None if buffer is None else _buffer(buffer) for buffer in _sequence(buffers, "a chunk")]
    budget.spend(1 + sum(len(part) for part in parts if part is not None))
    try:
        # -1: count the nulls again, because the file's own number may be wrong.
        views = [None if part is None else pa.py_buffer(part) for part in parts]
        array = pa.Array.from_buffers(pa.type_for_alias(alias), length, views, -1, offset)
        array.validate(full=True)
        return list(array.to_pylist())
    except (pa.ArrowException, ValueError) as error:
        raise Refused("the Arrow data in it are damaged") from error


def _buffer(buffer: Any) -> bytes:
    content = _arguments(buffer, "pyarrow.lib.py_buffer", 1)[0]
    if not isinstance(content, (bytes, bytearray)):
        raise Refused("an Arrow buffer in it is not made of bytes")
    return bytes(content)


def _take(column: list[Any], indices: list[Any]) -> list[Any]:
    if not all(type(index) is int and 0 <= index < len(column) for index in indices):
        raise Refused("it selects rows that it does not have")
    return [column[index] for index in indices]


def _class_names(info: Any) -> dict[str, tuple[str, ...]]:
    """The names of `ClassLabel` features; nothing where the description has another form."""
    state = info.state if isinstance(info, Call) else None
    features = state.get("features") if isinstance(state, dict) else None
    if not isinstance(features, Call) or not features.args or not isinstance(features.args[0], dict):
        return {}
    found = {}
    for name, feature in features.args[0].items():
        if isinstance(feature, Call) and isinstance(feature.state, dict):
            names = feature.state.get("names")
            if isinstance(names, list) and all(isinstance(entry, str) for entry in names):
                found[str(name)] = tuple(names)
    return found


def _alias(kind: Any) -> str | None:
    if not isinstance(kind, Call) or kind.path != "pyarrow.lib.type_for_alias" or not kind.args:
        return None
    alias = kind.args[0]
    return alias if isinstance(alias, str) and alias in _ALIASES else None


def _class(call: Call) -> str:
    """The class of an object: protocols 0 and 1 create it with `copyreg._reconstructor(class, object, None)`."""
    if call.path.endswith("._reconstructor") and call.args:
        return str(getattr(call.args[0], "path", ""))
    return call.path


def _kind(value: Any) -> str:
    if isinstance(value, Call):
        detail = value.args[0] if value.args and isinstance(value.args[0], str) else ""
        return f"{_class(value)} {shown(detail)}".strip()
    return type(value).__name__


def _arguments(value: Any, path: str, least: int) -> tuple[Any, ...]:
    if not isinstance(value, Call) or value.path != path or len(value.args) < least:
        raise Refused(f"it lacks {path}, which every pickled dataset has")
    return value.args


def _sequence(value: Any, what: str) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)):
        raise Refused(f"{what} is not a list")
    return value


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused(f"{what} has no attributes")
    return value
