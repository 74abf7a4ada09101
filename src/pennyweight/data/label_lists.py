"""Label cells that are lists: as JSON, as Python or NumPy print them, and vectors of 0 and 1."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..errors import DataError
from .columns import is_null
from .label_cells import is_list
from .label_format import LabelFormat
from .table import Columns, shown

# No list of labels is longer, in characters.
_LONGEST = 100_000
_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_ITEM = re.compile(rf"{_QUOTED}|-?\d+\.?\d*|True|False")
# str(array): items with blanks between them, which Python would read as one word.
_ARRAY = re.compile(rf"\[\s*(?:(?:{_ITEM.pattern})(?:\s+|(?=\])))+\]")


def parse_label_lists(columns: Columns, name: str, form: LabelFormat) -> tuple[Columns, tuple[str, ...], int]:
    """The columns with the label cells as lists where they are lists written as text, and as classes where they are
    vectors of 0 and 1; what was decided, in words; and the vectors' length, 0 where there are none.

    Vectors of one length with a single 1 each are one-hot: each becomes the position of its 1, from 0. With several
    ones in some they become lists of positions. Lists of other data are what those of the training were.

    Raises:
        DataError: a cell that is no list among others that are, or vectors with several ones where one label per text
            is asked for.
    """
    cells = _as_lists(columns, name, form)
    if form.vectors != 0 and name not in columns.label_names and _are_vectors(cells):
        length = next(len(cell) for cell in cells if is_list(cell))
        if form.vectors not in (None, length):
            raise DataError(
                "the label vectors differ in length from those in training",
                expected=f"{form.vectors} zeros and ones",
                received=f"{length}",
                where=columns.source,
            )
        return *_vectors(columns, name, form, cells), length
    if cells is columns.values[name] or form.task == "single":
        return columns, (), 0
    return replace(columns, values=columns.values | {name: cells}), (), 0


def parsed(cell: str) -> list[Any] | None:
    """The list that a cell holds as JSON, or as Python or NumPy print it; None if it holds none."""
    if len(cell) > _LONGEST:
        return None
    try:
        value: Any = json.loads(cell)
    except (ValueError, RecursionError):
        items = [match[0] for match in _ITEM.finditer(cell)]
        value = [_literal(item) for item in items] if _ARRAY.fullmatch(cell) else _literal(cell)
        words = value if isinstance(value, (list, tuple, set)) else ()
        # 'a' 'b' is one string to Python, though two were written.
        if sum(isinstance(word, str) for word in words) != sum(item[0] in "'\"" for item in items):
            return None
    return list(value) if isinstance(value, (list, tuple, set)) else None


def _literal(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an odd backslash inside a word
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            return None


def _as_lists(columns: Columns, name: str, form: LabelFormat) -> list[Any]:
    """The cells, those of text as lists where that is what they hold; otherwise the very list of cells."""
    cells = columns.values[name]
    strings = dict.fromkeys(cell.strip() for cell in cells if isinstance(cell, str) and cell.strip())
    # A delimiter says that cells are something else.
    if form.delimiter is not None or not strings or not all(_bracketed(cell) for cell in strings):
        return cells
    found = {cell: parsed(cell) for cell in strings}
    failed = [cell for cell, value in found.items() if value is None]
    square = all(cell[0] == "[" for cell in strings)
    if failed and (not square or (form.task != "multi" and 2 * len(failed) >= len(found))):
        return cells  # words in brackets
    made = []
    for row, cell in enumerate(cells):
        value = found[cell.strip()] if isinstance(cell, str) and cell.strip() else cell
        if value is None and isinstance(cell, str) and cell.strip():
            raise DataError(
                "the cell is not a list in JSON or Python syntax",
                expected='["sports", "politics"], or --label-delimiter',
                received=shown(cell),
                where=columns.where(row),
            )
        made.append(value)
    return made


def _bracketed(cell: str) -> bool:
    return cell[0] + cell[-1] in ("[]", "()", "{}")


def _are_vectors(cells: Sequence[Any]) -> bool:
    """Whether all cells that are not missing are lists of one length from 2 that hold only 0 and 1."""
    vectors = [cell for cell in cells if is_list(cell)]
    if not vectors or any(isinstance(cell, (set, frozenset)) for cell in vectors):
        return False
    length = len(vectors[0])
    if length < 2 or any(len(cell) != length for cell in vectors):
        return False
    numbers = all(not isinstance(value, str) and value in (0, 1) for cell in vectors for value in cell)
    return numbers and all(
        is_list(cell) or is_null(cell) or (isinstance(cell, str) and not cell.strip()) for cell in cells
    )


def _vectors(columns: Columns, name: str, form: LabelFormat, cells: list[Any]) -> tuple[Columns, tuple[str, ...]]:
    ones = [[place for place, value in enumerate(cell) if value] if is_list(cell) else None for cell in cells]
    length = next(len(cell) for cell in cells if is_list(cell))
    several = [row for row, each in enumerate(ones) if each is not None and len(each) != 1]
    if several and form.task == "single":
        raise DataError(
            "the label vector does not have exactly one 1",
            expected="exactly one 1 in each vector, since the task has one label per text",
            received=shown(str(list(cells[several[0]]))),
            remedy="leave out --task single",
            where=columns.where(several[0]),
        )
    values: list[Any] = ones
    if several or form.task == "multi":
        note = f"label vectors of {length} zeros and ones read as labels 0 to {length - 1}, any number per text"
    else:
        values = [None if each is None else each[0] for each in ones]
        note = f"one-hot label vectors of length {length} read as classes 0 to {length - 1}"
    return replace(columns, values=columns.values | {name: values}), (note,)
