"""Two texts as one input: from two columns, or from Python's pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..errors import DataError
from .table import PAIR, Columns, listed


def pair_columns(columns: Columns, names: Sequence[str]) -> tuple[Columns, tuple[str, ...]]:
    """Two text columns, made of one where its cells are pairs, and their names.

    Raises:
        DataError: there is one text column or more than two.
    """
    cells = columns.values[names[0]]
    if len(names) == 1 and all(isinstance(cell, (tuple, list)) and len(cell) == 2 for cell in cells):
        split = {f"{names[0]} {number + 1}": [cell[number] for cell in cells] for number in range(2)}
        others = {name: values for name, values in columns.values.items() if name != names[0]}
        return replace(columns, values=split | others), tuple(split)
    if len(names) != 2:
        raise DataError(
            "a pair needs exactly two text columns",
            expected="--text-columns a,b",
            received=f"{listed(names)}, of the columns {listed(columns.values)}",
            where=columns.source,
        )
    return columns, tuple(names)


def join_pair(parts: Sequence[str], where: str) -> str:
    """The two texts of a pair as one string; empty if both are.

    Raises:
        DataError: a text holds the code point that separates them.
    """
    if any(PAIR in part for part in parts):
        raise DataError("a text of the pair contains the code point U+FDD0", remedy="remove it", where=where)
    return PAIR.join(parts) if any(parts) else ""
