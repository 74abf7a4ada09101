"""Python objects as columns: pairs, lists, dicts, DataFrames, datasets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import DataError
from ..file_options import MAX_BYTES
from ..table import Columns, listed, shown
from .columnar import class_names, collect_batches, damaged_file, from_dataset, pick_split
from .json_lines import columns_of

_SOURCE = "data"
_SHAPES = (
    "(text, label) pairs, a tuple (texts, labels), a list of texts, a dict of columns, a list of dicts, "
    "a DataFrame, a Dataset or a path"
)

# How arrays and Series, Arrow's columns and those of polars give their values.
_TO_LIST = ("tolist", "to_pylist", "to_list")


def python_columns(data: Any, split: str) -> Columns:
    """Bring `data` (see `read_python`) to columns.

    Raises:
        DataError: it is of no known shape, empty, or its columns differ in length.
    """
    if _is_dataset(data):
        return _from_dataset(pick_split(data, split, _SOURCE))
    if _is_frame(data):
        return _from_frame(data)
    if isinstance(data, Mapping):
        return _columns(_named([(name, _list(values)) for name, values in data.items()]))
    if _is_arrow(data):
        return _from_arrow(data)
    if isinstance(data, tuple) and len(data) == 2 and not isinstance(data[0], str) and not _are_rows(*data):
        return _columns({"text": _list(data[0]), "label": _list(data[1])}, named=False)
    rows = _list(data)
    return _columns(_from_rows(rows), named=isinstance(rows[0], Mapping))


def _are_rows(first: Any, second: Any) -> bool:
    """Whether the two members of a tuple are (text, label) rows, not the texts and the labels.

    Raises:
        DataError: they may be either, as in `(("good", "pos"), ("bad", "neg"))`.
    """
    if not all(isinstance(row, tuple) and len(row) == 2 for row in (first, second)):
        return False
    rows = _are_texts((first[0], second[0]))
    columns = _are_texts(first)
    if rows and columns:
        raise DataError(
            "a tuple of two pairs is ambiguous: two (text, label) pairs, or two texts and their two labels",
            expected="a list of pairs [(text, label), ...], or lists ([texts], [labels])",
            received=shown((first, second)),
            where=_SOURCE,
        )
    return rows


def _are_texts(values: tuple[Any, Any]) -> bool:
    return all(isinstance(value, str) for value in values) or all(isinstance(value, tuple) for value in values)


def has_columns(data: Any) -> bool:
    """Whether `data` has columns with names: a frame, a dataset, a dict of columns, a list of dicts."""
    if isinstance(data, (list, tuple)):
        return bool(data) and isinstance(data[0], Mapping)
    return isinstance(data, Mapping) or _is_dataset(data) or _is_frame(data) or _is_arrow(data)


def as_list(values: Any) -> list[Any]:
    """The items of an iterable, as Python values where it is an array, a Series or an Arrow column.

    Raises:
        DataError: an array of more than two dimensions. One of shape (N, 1) counts as N items.
    """
    if hasattr(values, "__array__") and not isinstance(values, Iterable):
        values = np.asarray(values)
    shape = getattr(values, "shape", None)
    if isinstance(shape, tuple) and len(shape) > 2:
        raise DataError(
            f"an array of {len(shape)} dimensions", expected="one dimension", received=str(shape), where=_SOURCE
        )
    if isinstance(shape, tuple) and len(shape) == 2 and shape[1] == 1 and hasattr(values, "ravel"):
        values = values.ravel()
    for method in _TO_LIST:
        if hasattr(values, method):
            return list(getattr(values, method)())
    return list(values)


def _is_frame(data: Any) -> bool:
    kinds = [(kind.__module__.partition(".")[0], kind.__name__) for kind in type(data).__mro__]
    return ("pandas", "DataFrame") in kinds


def _is_dataset(data: Any) -> bool:
    """Whether `datasets` made it. One column of a dataset is a sequence like any other."""
    return type(data).__module__.partition(".")[0] == "datasets" and type(data).__name__ != "Column"


def _from_dataset(dataset: Any) -> Columns:
    if hasattr(dataset, "num_rows") and dataset.format["type"] != "custom":
        return from_dataset(dataset, _SOURCE, MAX_BYTES)
    # A stream, or a dataset whose rows a function makes as they are read: both give them one by one only.
    schema = None if dataset.features is None else dataset.features.arrow_schema
    return replace(_columns(_from_rows(list(dataset))), label_names=class_names(schema) if schema is not None else {})


def _is_arrow(data: Any) -> bool:
    """Whether it hands over a table by Arrow's protocol, as frames of polars and tables of pyarrow do.

    Source: https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html
    """
    return hasattr(data, "__arrow_c_stream__") and any(hasattr(data, name) for name in ("columns", "schema"))


def _from_frame(frame: Any) -> Columns:
    if getattr(frame.columns, "nlevels", 1) > 1:
        raise DataError(
            "the data frame has a multi-level column index",
            expected="one name a column",
            received=listed(frame.columns, 4),
            remedy="join them: frame.columns = ['_'.join(name) for name in frame.columns]",
            where=_SOURCE,
        )
    # Whatever pandas writes for "missing" becomes None.
    plain = frame.astype(object).where(frame.notna(), None)
    return _columns(_named([(name, plain.iloc[:, place].tolist()) for place, name in enumerate(frame.columns)]))


def _from_arrow(data: Any) -> Columns:
    import pyarrow as pa

    try:
        table = pa.table(data)
        return collect_batches(table.to_batches(), table.schema, _SOURCE, MAX_BYTES)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise damaged_file(_SOURCE, "an Arrow table", error) from error


def _named(columns: Iterable[tuple[Any, list[Any]]]) -> dict[str, list[Any]]:
    """Columns by name; two of one name are one if they hold the same.

    Raises:
        DataError: two have one name, and differ.
    """
    values: dict[str, list[Any]] = {}
    places: dict[str, int] = {}
    for place, (name, column) in enumerate(columns, start=1):
        if values.setdefault(str(name), column) != column:
            raise DataError(
                f"two columns are named {shown(str(name))}, columns {places[str(name)]} and {place}, and they differ",
                remedy="rename one of them",
                where=_SOURCE,
            )
        places.setdefault(str(name), place)
    return values


def _from_rows(rows: list[Any]) -> dict[str, list[Any]]:
    if not rows:
        raise DataError("there are no rows", expected=_SHAPES, where=_SOURCE)
    kind = type(rows[0])
    if issubclass(kind, Mapping):
        _same(rows, Mapping, "a dict")
        return columns_of([{str(name): value for name, value in row.items()} for row in rows], _SOURCE)
    if issubclass(kind, (tuple, list)):
        _same(rows, (tuple, list), "a (text, label) pair")
        for number, row in enumerate(rows, start=1):
            if len(row) != 2:
                are_lists = number == 1 and 0 < len(rows) <= 2 and len(row) > 2
                raise DataError(
                    "the row is not a (text, label) pair",
                    received=shown(row),
                    remedy="two lists belong into a tuple: (texts, labels)" if are_lists else None,
                    where=f"{_SOURCE} row {number}",
                )
        return {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
    return {"text": rows}


def _same(rows: list[Any], kind: type | tuple[type, ...], name: str) -> None:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, kind):
            raise DataError(
                "the rows are of different kinds", expected=name, received=shown(row), where=f"{_SOURCE} row {number}"
            )


def _list(values: Any) -> list[Any]:
    """A list of `values`: of an array or a Series, its Python values."""
    if isinstance(values, (str, bytes, Mapping, set, frozenset)) or getattr(values, "ndim", 1) == 0:
        listable = False
    else:
        listable = isinstance(values, Iterable) or any(hasattr(values, name) for name in _TO_LIST)
        if not listable and hasattr(values, "__len__") and hasattr(values, "__getitem__"):  # PyTorch's datasets
            return [values[row] for row in range(len(values))]
    if not listable:
        raise DataError(
            "data of this kind cannot be read",
            expected=_SHAPES,
            received=shown(values),
            remedy="collect it first: data.collect()" if hasattr(values, "collect") else None,
            where=_SOURCE,
        )
    return as_list(values)


def _columns(values: dict[str, list[Any]], *, named: bool = True) -> Columns:
    lengths = {name: len(column) for name, column in values.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(
            "the columns differ in length",
            received=", ".join(f"{shown(name)} {length:,}" for name, length in lengths.items()),
            where=_SOURCE,
        )
    rows = next(iter(lengths.values()), 0)
    if not rows:
        raise DataError("there are no rows", expected=_SHAPES, where=_SOURCE)
    return Columns(values, list(range(1, rows + 1)), _SOURCE, unit="row", named=named)
