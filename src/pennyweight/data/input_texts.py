"""Texts for prediction as Python callers give them, brought to one list of strings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import DataError, InputError
from .formats.python_objects import as_list, has_columns, python_columns
from .input_spec import InputSpec
from .pairs import join_pair
from .table import PAIR, Table, shown
from .table_builder import build_table, check_text

_EXPECTED = "a text, or a list, array, Series, frame, dataset or dict of texts"


def is_single_text(data: Any, pair: bool = False) -> bool:
    """Whether `data` is a single text (of pairs: one tuple of two strings) rather than a collection of them."""
    if pair and isinstance(data, tuple) and len(data) == 2:
        return all(isinstance(part, str) for part in data)
    return isinstance(data, str) or (getattr(data, "ndim", None) == 0 and isinstance(data.item(), str))


def to_texts(data: Any, input_spec: InputSpec) -> list[str]:
    """N strings from whatever holds N texts; the two texts of a pair are joined by `PAIR`.

    Args:
        data: one text; a list, tuple, array of shape (N,) or (N, 1), Series or generator of texts; a frame, a dataset,
            a dict of columns or a list of dicts, whose text columns are found as training finds them; a `Table`.
        input_spec: which columns are the text and how they are joined, for data with columns. Pairs are tuples or lists
            of two, an array of shape (N, 2), or two columns.

    Raises:
        DataError: something that is no text, with its position from 1.
        InputError: single texts where pairs belong, or the other way round.
    """
    pair = input_spec.pair
    if is_single_text(data, pair):
        return [to_text(data if isinstance(data, (str, tuple)) else data.item(), pair, "text 1")]
    if _is_sparse(data) or not (isinstance(data, Table) or has_columns(data)):
        return [to_text(value, pair, f"text {number}") for number, value in enumerate(_members(data), start=1)]
    if _is_empty(data):
        return []
    if isinstance(data, Table):
        return [to_text(text, pair, data.source) for text in data.texts]
    columns = python_columns(data, "test")
    return build_table(columns, input_spec, labelled=False).texts


def to_text(value: Any, pair: bool, where: str = "text") -> str:
    """A text, or the two texts of a pair, as one string.

    Raises:
        DataError: no string, a missing one, or one that cannot be encoded; `where` says which.
        InputError: one text where two belong, or two where one belongs.
    """
    several = isinstance(value, (tuple, list))
    if several and pair and len(value) == 2:
        return join_pair([_string(part, where) for part in value], where)
    if several or (pair and isinstance(value, str) and value and PAIR not in value):
        raise InputError(
            "this classifier reads pairs of texts" if pair else "this classifier reads single texts, not pairs",
            expected='predict([("...", "..."), ...])' if pair else 'predict(["...", ...])',
            received=shown(value),
            where=where,
        )
    return _string(value, where)


def _string(value: Any, where: str) -> str:
    if isinstance(value, (bytes, bytearray)):
        raise DataError(
            "the text is bytes", expected="a string", received=shown(value), remedy="decode it first", where=where
        )
    missing = type(value).__name__ in ("NAType", "NaTType")  # what pandas writes for a missing value
    return check_text(None if missing else value, where)


def _members(data: Any) -> list[Any]:
    """The items of a collection without columns.

    Raises:
        DataError: no collection, one without an order, or an array of more than one column.
    """
    problem = "neither a text nor a collection of texts"
    if isinstance(data, (set, frozenset)):
        problem = "a set has no order"
    elif _is_sparse(data):
        problem = "sparse input: a matrix holds numbers, not texts"
    elif data is not None and not isinstance(data, (bytes, bytearray, os.PathLike)) and _iterable(data):
        problem = ""
    if problem:
        raise DataError(
            problem,
            expected=_EXPECTED,
            received=shown(data),
            remedy="a file is read by `pennyweight predict RUN FILE`" if isinstance(data, os.PathLike) else None,
            where="data",
        )
    return as_list(data)


def _is_sparse(data: Any) -> bool:
    """Whether it is a sparse matrix of scipy, one of which is a mapping too."""
    return hasattr(data, "tocsr")


def _iterable(data: Any) -> bool:
    return isinstance(data, Iterable) or any(hasattr(data, name) for name in ("tolist", "__array__"))


def _is_empty(data: Any) -> bool:
    if isinstance(data, Mapping):
        return all(hasattr(values, "__len__") and len(values) == 0 for values in data.values())
    return hasattr(data, "__len__") and len(data) == 0
