"""The classes: their names, their order, and the way from a label in a file to a class number."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from . import multi
from .table import Label, Table, listed, shown

#: A stratified split puts a row of each class on both sides, so a class needs two.
MIN_ROWS = 2


@dataclass(frozen=True)
class LabelSet:
    """L class names in the order of their numbers, 0..L-1; `multi` where a text may carry any number of them.

    Raises:
        DataError: fewer than two names, an empty one, one twice, or one that cannot be encoded.
    """

    names: tuple[str, ...]
    multi: bool = False

    def __post_init__(self) -> None:
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if len(self.names) < 2 or twice or not all(self.names):
            raise DataError(
                "the class names cannot be used", expected="two or more, all different", received=listed(self.names)
            )
        halves = [name for name in self.names if any("\ud800" <= letter <= "\udfff" for letter in name)]
        if halves:
            raise DataError(
                f"the class name {shown(halves[0])} holds half of a surrogate pair",
                remedy="export the data again as UTF-8",
            )

    def __len__(self) -> int:
        return len(self.names)

    def encode(self, table: Table) -> npt.NDArray[np.int64]:
        """The class numbers of `table`'s labels.

        A string is looked up by name. So is an integer where it is a name; else it counts the classes from the table's
        `label_base`. A string of digits that is no name is taken as that integer.

        Returns:
            (N,) int64, each in 0..L-1; (N, L) int64 of 0 and 1 where a text may carry any number of labels.

        Raises:
            DataError: no labels, or labels that are not among the classes (the first one's line, and how many).
        """
        if table.labels is None:
            raise DataError("there are no labels", remedy="name their column with --label-column c", where=table.source)
        if table.multi and not self.multi:
            raise DataError(
                "the rows carry lists of labels, and the classifier gives one label a text", where=table.source
            )
        held = [label if isinstance(label, tuple) else (label,) for label in table.labels]
        known = {label: self._number(label, table.label_base) for each in held for label in each}
        if None in known.values():
            raise self._unknown(table, held, {label for label, number in known.items() if number is None})
        if not self.multi:
            return np.array([known[each[0]] for each in held], dtype=np.int64)
        matrix = np.zeros((len(held), len(self.names)), dtype=np.int64)  # (N, L)
        for row, each in enumerate(held):
            for label in each:
                matrix[row, known[label]] = 1
        return matrix

    def _number(self, label: str | int, base: int) -> int | None:
        name = str(label)
        counted = tuple(map(str, range(len(self.names))))
        if isinstance(label, int) and base and self.names == counted:
            return label - base if 0 <= label - base < len(self.names) else None
        if name in self.names:
            return self.names.index(name)
        if not name.lstrip("-").isdecimal() or any(known.isdecimal() for known in self.names):
            return None
        position = int(name) - base
        return position if 0 <= position < len(self.names) else None

    def _unknown(self, table: Table, held: Sequence[tuple[str | int, ...]], unknown: set[str | int]) -> DataError:
        first = next(row for row, each in enumerate(held) if not unknown.isdisjoint(each))
        counts = Counter(label for each in held for label in each if label in unknown)
        rows = sum(not unknown.isdisjoint(each) for each in held)
        from_one = unknown == {len(self.names)} and not any(0 in each for each in held)
        return DataError(
            f"label {shown(str(next(label for label in held[first] if label in unknown)))} is not one of the classes",
            expected=f"one of {listed(self.names)}",
            received=f"{rows} of {len(held)} rows with unknown labels "
            f"({listed(f'{label} {count}' for label, count in counts.most_common(6))})",
            remedy="the labels look like class numbers from 1: write names, or numbers from 0"
            if from_one
            else "correct or remove these rows, or train with their class",
            where=table.where(first),
        )

    def to_json(self) -> dict[str, Any]:
        """A value for `json.dumps`."""
        return {"names": list(self.names)} | ({"multi": True} if self.multi else {})

    @classmethod
    def from_json(cls, value: Any) -> LabelSet:
        """The inverse of `to_json`.

        Raises:
            DataError: the value is something else.
        """
        names = value.get("names") if isinstance(value, dict) else None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError("not a list of class names", expected='{"names": [...]}', received=shown(value))
        return cls(tuple(names), value.get("multi") is True)


def fit(table: Table, *, names: Sequence[str] | None = None, delimiter: str = multi.DELIMITER) -> LabelSet:
    """Fix the classes of a training table and their order.

    Args:
        delimiter: what labels are joined with where a text may carry several; no name may hold it.

    The order is that of `names`, else of the names the source knows, else integers ascending or strings sorted.

    Raises:
        DataError: no labels, one class only, a class with fewer than two rows, or a label that is not in `names`.
    """
    if table.labels is None:
        raise DataError("there are no labels", remedy="name their column with --label-column c", where=table.source)
    counts: Counter[str | int] = multi.count(table) if table.multi else Counter(_single(table.labels))
    if len(counts) < 2 and table.multi:
        raise DataError(
            f"{len(table)} rows carry {len(counts)} different labels", expected="at least two", where=table.source
        )
    if len(counts) < 2:
        raise DataError(
            f"all {len(table)} rows have the label {listed(counts)}",
            expected="at least two classes",
            remedy="check the label column, or name another with --label-column c",
            where=table.source,
        )
    rare = [label for label, count in counts.items() if count < MIN_ROWS]
    if rare:
        first = next(row for row, label in enumerate(table.labels) if label == rare[0] or _among(rare[0], label))
        raise DataError(
            f"class {shown(str(rare[0]))} has one row" if len(rare) == 1 else f"{len(rare)} classes have one row each",
            expected=f"at least {MIN_ROWS} rows a class, one to train on and one to validate on",
            received=None if len(rare) == 1 else listed(rare, 4),
            remedy="add rows, or remove or merge the class"
            if len(rare) < len(counts) / 2
            else "is this the label column? name another with --label-column c",
            where=table.where(first),
        )
    if names is None:
        names = table.label_names or [str(label) for label in sorted(counts, key=_order)]
    classes = LabelSet(tuple(names), table.multi)
    if table.multi:
        multi.check_names(table, classes.names, delimiter)
    classes.encode(table)
    return classes


def order_of(classes: Sequence[str], names: Sequence[str] | None, table: Table) -> str:
    """Where the order of the classes comes from: `given` names, the `source`'s own, `numbers`, or it was `sorted`."""
    if names is not None or table.label_names is not None:
        return "given" if names is not None else "source"
    return "numbers" if _are_numbers(classes) else "sorted"


def is_ordered(noted: object, classes: Sequence[str], names: Sequence[str] | None) -> bool:
    """Whether the order of the classes means something: anything but the alphabet.

    Args:
        noted: what `order_of` said when the classifier was trained; None for one that was saved before it was noted.
        names: the recipe's.
    """
    return noted in ("given", "source", "numbers") or names is not None or _are_numbers(classes)


def _are_numbers(classes: Sequence[str]) -> bool:
    """Integers, or false and true, which every language counts as 0 and 1."""
    return all(re.fullmatch(r"0|-?[1-9]\d*", name) for name in classes) or list(classes) == ["false", "true"]


def check_ordered(table: Table, names: Sequence[str] | None) -> None:
    """Refuse ranks where nothing says the order: words sorted by the alphabet are in none.

    Raises:
        DataError: several labels a text, or words without `names`, by the recipe or the source.
    """
    if table.multi:
        raise DataError(
            "labels that do not exclude each other have no ranks", remedy="leave out --ordinal", where=table.source
        )
    words = any(isinstance(label, str) for label in table.labels or ())
    if words and names is None and table.label_names is None:
        raise DataError(
            "the order of the classes is not known",
            expected="--label-names with --ordinal, lowest first",
            received=listed(sorted({str(label) for label in table.labels or ()})),
            where=table.source,
        )


def _single(labels: Sequence[Label]) -> list[str | int]:
    return [label for label in labels if not isinstance(label, tuple)]


def _among(one: str | int, label: Label) -> bool:
    return isinstance(label, tuple) and one in label


def _order(label: str | int) -> tuple[int, int, str]:
    return (0, label, "") if isinstance(label, int) else (1, 0, label)
