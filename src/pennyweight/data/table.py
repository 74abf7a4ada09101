"""The two shapes data takes: `Columns` as a source holds them, and `Table`, texts with their labels."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

#: The longest text accepted, in characters. No encoder reads more than a few thousand words of it.
MAX_TEXT = 1_000_000

#: Separates the two texts of a pair: a code point that Unicode keeps for programs' own use and out of texts.
PAIR = "\ufdd0"

# Control characters but the line break, line and paragraph separators, bidirectional controls, lone surrogates.
_ACTING = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

Unit = Literal["line", "row"]

#: A label as a source has it; a tuple where a text may carry any number of labels.
Label = str | int | tuple[str | int, ...]


@dataclass(frozen=True)
class Table:
    """N texts, and their labels when they have any.

    Attributes:
        texts: N strings; the two texts of a pair are joined by `PAIR`.
        labels: N labels as the source has them (integers or strings; tuples of them where a text may carry any
            number), or None.
        source: what was read: a path, a hub name or "data".
        lines: N positions in the source, from 1, for messages.
        text_columns: the columns the texts came from, in the order they were joined.
        label_column: the column the labels came from.
        label_names: the classes in order, when the source itself says so.
        label_base: the number of the first class, where labels are class numbers: 0, or 1 in the contest's form.
        extras: the other columns, N values each.
        unit: what `lines` counts: physical lines of a text file, or rows.
        named: whether the source itself names its columns; pairs, lists and files without a header do not.
        vectors: the length of the vectors of 0 and 1 that its labels stood in; 0 where they did not.
        notes: remarks on how the source and its labels were read, one line each, for people.
    """

    texts: list[str]
    labels: list[Label] | None
    source: str
    lines: list[int]
    text_columns: tuple[str, ...] = ("text",)
    label_column: str | None = None
    label_names: tuple[str, ...] | None = None
    label_base: int = 0
    extras: dict[str, list[Any]] = field(default_factory=dict)
    unit: Unit = "line"
    named: bool = True
    vectors: int = 0
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def multi(self) -> bool:
        """Whether a text may carry any number of labels."""
        return self.labels is not None and any(isinstance(label, tuple) for label in self.labels[:1])

    def select(self, indices: Iterable[int]) -> Table:
        """The rows at `indices`, in that order."""
        rows = [int(index) for index in indices]
        return replace(
            self,
            texts=[self.texts[row] for row in rows],
            labels=None if self.labels is None else [self.labels[row] for row in rows],
            lines=[self.lines[row] for row in rows],
            extras={name: [values[row] for row in rows] for name, values in self.extras.items()},
        )

    def where(self, index: int) -> str:
        """Row `index` as a user finds it: `train.csv:17` or `train.parquet row 17`."""
        return place(self.source, self.lines[index], self.unit)


@dataclass(frozen=True)
class Columns:
    """A source as it is, before its text and label columns are chosen.

    Attributes:
        values: column name -> N values.
        lines: N positions, counted in `unit`.
        label_names: class names of the columns whose source knows them.
        unreadable: column name -> its type, for columns that are neither text nor number.
        headerless: the contest's form, whose first column is a class number from 1 and whose other columns are text.
        named: whether the source itself names its columns; pairs, lists and files without a header do not. The
            contest's form counts as named: its columns have official names.
        notes: remarks on how the source was read, one line each, for people.
    """

    values: dict[str, list[Any]]
    lines: list[int]
    source: str
    unit: Unit = "line"
    label_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    headerless: bool = False
    named: bool = True
    notes: tuple[str, ...] = ()

    def where(self, index: int) -> str:
        """Row `index` as a user finds it."""
        return place(self.source, self.lines[index], self.unit)


def parts_of(text: str) -> tuple[str, str]:
    """The two texts of a pair; the second is empty if cleaning left only one."""
    first, _, second = text.partition(PAIR)
    return first, second


def place(source: str, line: int, unit: Unit) -> str:
    """`source:line`, the form editors jump to, or `source row n` where there are no lines."""
    return f"{source}:{line}" if unit == "line" else f"{source} row {line}"


def shown(value: object, limit: int = 60) -> str:
    """`value` fit for a message: short, and without control characters that would act on a terminal."""
    text = value if isinstance(value, str) else repr(value)
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def visible(text: str) -> str:
    r"""`text` for a terminal: what would act on it is written as an escape, `\u001b`, which JSON reads back.

    Escape sequences, controls of the direction of writing and halves of surrogate pairs do; line breaks stay.
    """
    return _ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def listed(values: Iterable[object], limit: int = 12) -> str:
    """`values` as a comma-separated list, the tail counted instead of named."""
    names = [shown(value) for value in values]
    more = len(names) - limit
    return ", ".join(names) if more <= 0 else ", ".join(names[:limit]) + f" and {more} more"
