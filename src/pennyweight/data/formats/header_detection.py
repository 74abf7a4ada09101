"""Whether the first row of a delimited file holds the columns' names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..columns import is_column_name

#: `names` and `data` are sure enough; `weak` is names for lack of other evidence; `doubt` is neither.
Verdict = Literal["names", "weak", "data", "doubt"]

_INTEGER = re.compile(r"\d{1,9}")
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?%?")
_IDENTIFIER = re.compile(r"[^\W\d]+(_\w+|\d+|[A-Z][a-z]+)\w*")
_LETTER = re.compile(r"[^\W\d]")

# A sentence: so many words, or fewer that end as one, or so many letters of a script that needs no blanks.
_WORDS, _ENDED, _WIDE, _CHARACTERS = 6, 3, 12, 60

# Classes: of so many rows, on average each so often.
_SEVERAL, _REPEATED = 10, 3


@dataclass
class _Scores:
    """Points for names and for data in the first row."""

    names: int = 0
    data: int = 0


def classify_first_row(rows: Sequence[Sequence[str]]) -> Verdict:
    """Whether the first of these rows is a header or data.

    A cell is data where it is a sentence, a value that comes again in its column, or a number over numbers; it is a
    name where it is a usual one, or words over numbers. Where no cell says anything, words over classes are a name.

    Args:
        rows: the first rows of the file, each with the same number of cells.
    """
    first = [cell.strip() for cell in rows[0]]
    columns: list[list[str]] = [[cell.strip() for cell in cells] for cells in zip(*rows[1:], strict=True)]
    columns = columns or [[] for _ in first]
    # What pandas writes for columns without names: 0, 1, 2...
    counted = first == [str(number) for number in range(len(first))] and not all(_numbers(column) for column in columns)
    scores = _Scores()
    for cell, below in zip(first, columns, strict=True):
        if counted:
            scores.names += 2
        elif cell:
            _score_cell(cell, [value for value in below if value], scores, alone=len(first) == 1)
    if not scores.names and not scores.data:  # a word over a few classes that repeat, and is none of them
        scores.names += any(cell and _are_classes(below) for cell, below in zip(first, columns, strict=True))
    lead = scores.data - scores.names
    if lead >= 2:
        return "data"
    if lead >= 0:
        return "doubt"
    return "names" if scores.names > 1 else "weak"


def _score_cell(cell: str, below: list[str], scores: _Scores, *, alone: bool) -> None:
    if is_column_name(cell):
        scores.names += 2
        scores.data += cell in below
    elif _NUMBER.fullmatch(cell):
        scores.data += 2 if _numbers(below) or not below else 0
    elif _numbers(below):
        scores.names += 2 if len(below) > 2 else 1
    elif cell in below or is_sentence(cell):
        scores.data += 2
    elif below and (_IDENTIFIER.fullmatch(cell) or (_is_short(cell, alone) and _much_longer(below, cell))):
        scores.names += 1


def _are_classes(values: Sequence[str]) -> bool:
    return len(values) >= _SEVERAL and all(values) and _REPEATED * len(set(values)) <= len(values)


def _is_short(cell: str, alone: bool) -> bool:
    """Whether a cell is a few words without marks; one word where nothing stands beside it."""
    return len(cell.split()) <= (1 if alone else _ENDED) and not re.search(r"[.,;:!?|\"']", cell)


def _much_longer(below: list[str], cell: str) -> bool:
    return sorted(map(len, below))[len(below) // 2] > 3 * len(cell)


def is_sentence(cell: str) -> bool:
    """Whether a cell reads like a text rather than a name."""
    words = len(cell.split())
    wide = not cell.isascii() and words < _ENDED and sum(letter > "\u0e00" for letter in cell) >= _WIDE
    return (
        words >= _WORDS or len(cell) >= _CHARACTERS or wide or (words >= _ENDED and cell.rstrip("\"')")[-1:] in ".!?…")
    )


def _numbers(values: Sequence[str]) -> bool:
    return bool(values) and all(_NUMBER.fullmatch(value) for value in values)


def starts_with_class(row: Sequence[str]) -> bool:
    """Whether a row is of the contest's form: a class number from 1, then texts."""
    return len(row) > 1 and bool(_INTEGER.fullmatch(row[0])) and int(row[0]) > 0 and any(map(_LETTER.search, row))


def are_ids(cells: Sequence[str]) -> bool:
    """Whether the first column counts or names rows instead of classes."""
    numbers = [int(cell) for cell in cells if _INTEGER.fullmatch(cell)]
    if len(numbers) < len(cells):
        return False
    counting = len(numbers) > 2 and all(after - before == 1 for before, after in itertools.pairwise(numbers))
    return counting or (len(numbers) >= 10 and 2 * len(set(numbers)) > len(numbers))
