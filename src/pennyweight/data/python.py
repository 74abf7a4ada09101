"""Python objects as columns: pairs, lists, dicts, DataFrames, datasets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import DataError
from .columnar import from_dataset, pick_split
from .jsonl import columns_of
from .table import MAX_BYTES, Columns, shown

_SOURCE = "data"
_SHAPES = (
    "(text, label) pairs, a tuple (texts, labels), a list of texts, a dict of columns, a list of dicts, "
    "a DataFrame, a Dataset or a path"
)


def columns_of_python(data: Any, split: str) -> Columns:
    """Bring `data` (see `from_python`) to columns.

    Raises:
        DataError: it is of no known shape, empty, or its columns differ in length.
    """
    library = type(data).__module__.partition(".")[0]
    if library == "datasets":
        return from_dataset(pick_split(data, split, _SOURCE), _SOURCE, MAX_BYTES)
    if library == "pandas" and hasattr(data, "columns"):
        # Whatever pandas writes for "missing" becomes None.
        frame = data.astype(object).where(data.notna(), None)
        return _columns(_columns_once((str(name), frame.iloc[:, place].tolist()) for place, name in enumerate(frame)))
    if isinstance(data, Mapping):
        return _columns({str(name): _list(values) for name, values in data.items()})
    if isinstance(data, tuple) and len(data) == 2 and not isinstance(data[0], str):
        return _columns({"text": _list(data[0]), "label": _list(data[1])}, named=False)
    rows = _list(data)
    return _columns(_from_rows(rows), named=isinstance(rows[0], Mapping))


def _columns_once(columns: Iterable[tuple[str, list[Any]]]) -> dict[str, list[Any]]:
    """Columns by name; two of one name are one if they hold the same."""
    values: dict[str, list[Any]] = {}
    places: dict[str, int] = {}
    for place, (name, column) in enumerate(columns, start=1):
        if values.setdefault(name, column) != column:
            raise DataError(
                f"two columns are named {shown(name)}, columns {places[name]} and {place}, and they differ",
                remedy="rename one of them",
                where=_SOURCE,
            )
        places.setdefault(name, place)
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
                raise DataError(
                    "the row is not a (text, label) pair", received=shown(row), where=f"{_SOURCE} row {number}"
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
    if hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        raise DataError("data of this kind cannot be read", expected=_SHAPES, received=shown(values), where=_SOURCE)
    return list(values)


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
