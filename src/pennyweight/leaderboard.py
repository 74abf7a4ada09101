"""A submission in the contest's form, checked before it leaves: every id once, every label in range."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .data.table import Table, listed, shown
from .errors import DataError

HEADER = ["ID", "Label"]


@dataclass(frozen=True)
class Checked:
    """A submission that may leave: its rows, and how many carry each label (by class number)."""

    path: str
    rows: int
    counts: dict[int, int]

    def __str__(self) -> str:
        each = ", ".join(f"{label}: {count:,}" for label, count in self.counts.items())
        return f"{self.path}: {self.rows:,} rows, every id once, labels in range ({each})"


def ids_of(table: Table) -> list[str]:
    """A test file's own ids, else its row numbers from 0, as a submission writes them."""
    own = next((table.extras[name] for name in ("id", "ID", "Id") if name in table.extras), None)
    return [str(value) for value in own] if own is not None else [str(number) for number in range(len(table))]


def check(path: str | Path, ids: Sequence[str], labels: int) -> Checked:
    """Check `ID,Label` rows against the ids asked for.

    Args:
        ids: those of the test file.
        labels: number of classes; labels are 0 to labels - 1.

    Raises:
        DataError: everything that is wrong, with line numbers, in one message.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise DataError("no such submission", where=path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            rows = list(csv.reader(handle))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError("not a CSV file in UTF-8", where=path, received=str(error)) from error
    if not rows or rows[0] != HEADER:
        raise DataError(
            "not a submission",
            where=f"{path}:1",
            expected="ID,Label",
            received=shown(",".join(rows[0] if rows else [])),
        )
    body = [(number, row) for number, row in enumerate(rows[1:], 2) if row]
    ragged = [number for number, row in body if len(row) != len(HEADER)]
    if ragged:
        raise DataError(
            "a row does not have two cells", where=f"{path}:{ragged[0]}", received=f"{len(ragged):,} such rows"
        )
    problems = [*_ids(body, ids), *_labels(body, labels)]
    if problems:
        raise DataError("the submission would be refused: " + " | ".join(problems), where=path)
    counts = Counter(int(row[1]) for _, row in body)
    return Checked(str(path), len(body), {label: counts[label] for label in range(labels)})


def _ids(body: list[tuple[int, list[str]]], ids: Sequence[str]) -> list[str]:
    given, wanted = Counter(row[0] for _, row in body), set(ids)
    missing = [one for one in ids if one not in given]
    foreign = [f"{row[0]} (line {number})" for number, row in body if row[0] not in wanted]
    twice = [one for one, count in given.items() if count > 1]
    found = []
    for words, those in (("missing", missing), ("unknown", foreign), ("repeated", twice)):
        if those:
            found.append(f"{len(those):,} ids {words}: {listed(those, 5)}")
    return found


def _labels(body: list[tuple[int, list[str]]], labels: int) -> list[str]:
    valid = {str(number) for number in range(labels)}
    wrong = [f"{shown(row[1], 20)!r} (line {number})" for number, row in body if row[1] not in valid]
    return [f"{len(wrong):,} labels not a class number from 0 to {labels - 1}: {listed(wrong, 5)}"] if wrong else []
