"""The classes: their names, their order, and the way from a label in a file to a class number."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from .canonical_labels import canonical_label, is_number, sort_labels
from .label_cells import count_labels, refuse_delimiter_in_names
from .label_format import DELIMITER
from .table import Label, Table, listed, shown

#: More different numbers than these, where no source names them, may be measurements.
MOST_NUMBERS = 20
RANGES = "group them into a few ranges, such as 0-10"


@dataclass(frozen=True)
class LabelSet:
    """L class names in the order of their numbers, 0..L-1.

    Attributes:
        names: as the training data or the user spelled them.
        multi: whether a text may carry any number of them.
        aliases: other labels of a class in a source, as pairs of a canonical label and a class name: what the user
            said in label_map, and the numbers that label_names gave names to.

    Raises:
        DataError: fewer than two names, an empty one, one twice, or one that cannot be encoded.
    """

    names: tuple[str, ...]
    multi: bool = False
    aliases: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if len(self.names) < 2 or twice or not all(self.names):
            raise DataError(
                "the class names cannot be used", expected="two or more, all different", received=listed(self.names)
            )
        halves = [name for name in self.names if any("\ud800" <= letter <= "\udfff" for letter in name)]
        if halves:
            raise DataError(
                f"the class name {shown(halves[0])} contains half of a surrogate pair",
                remedy="export the data again as UTF-8",
            )

    def __len__(self) -> int:
        return len(self.names)

    def encode(self, table: Table) -> npt.NDArray[np.int64]:
        """The class numbers of `table`'s labels.

        Labels are compared in their canonical form, so that 1, 1.0 and "1" are one class. A number that is no class's
        name is a position only where the table's source names its classes, whose names are then looked up, or where it
        has the contest's form, which counts the classes from 1.

        Returns:
            (N,) int64, each in 0..L-1; (N, L) int64 of 0 and 1 where a text may carry any number of labels.

        Raises:
            DataError: no labels, or labels that are not among the classes (the first one's line, and how many).
        """
        held = self._held(table)
        known = self._numbers(table, held)
        if None in known.values():
            raise self._unknown(table, held, {label for label, number in known.items() if number is None})
        if not self.multi:
            return np.array([known[each[0]] for each in held], dtype=np.int64)
        matrix = np.zeros((len(held), len(self.names)), dtype=np.int64)  # (N, L)
        for row, each in enumerate(held):
            for label in each:
                matrix[row, known[label]] = 1
        return matrix

    def known(self, table: Table) -> npt.NDArray[np.bool_]:
        """(N,) whether all labels of a row are among the classes.

        Raises:
            DataError: there are no labels.
        """
        held = self._held(table)
        numbers = self._numbers(table, held)
        return np.array([all(numbers[label] is not None for label in each) for each in held], dtype=bool)

    def mapping(self, table: Table) -> str | None:
        """The classes that numbers in a table stand for, such as `0 = World, 1 = Sports`; None for names."""
        held = self._held(table)
        numbers = self._numbers(table, held)
        found = {str(label): number for label, number in numbers.items() if isinstance(label, int)}
        if table.label_names is not None and (found or (table.multi and table.label_column is not None)):
            # All that the source names, and not only what occurs.
            every = replace(table, labels=[place + table.label_base for place in range(len(table.label_names))])
            found = {str(label): number for label, number in self._numbers(every, self._held(every)).items()}
        pairs = {label: self.names[number] for label, number in found.items() if number is not None}
        if all(canonical_label(name) == label for label, name in pairs.items()):
            return None
        return listed(f"{label} = {pairs[label]}" for label in sorted(pairs, key=int))

    def _held(self, table: Table) -> list[tuple[str | int, ...]]:
        if table.labels is None:
            raise DataError(
                "there are no labels", remedy="name their column with --label-column NAME", where=table.source
            )
        if table.multi and not self.multi:
            raise DataError(
                "the rows have lists of labels, but the classifier gives one label per text", where=table.source
            )
        return [label if isinstance(label, tuple) else (label,) for label in table.labels]

    def _numbers(self, table: Table, held: Sequence[tuple[str | int, ...]]) -> dict[str | int, int | None]:
        """The class number of each label that occurs; None if it is no class."""
        exact = {name: number for number, name in enumerate(self.names)}
        alike = {canonical_label(name): number for name, number in reversed(exact.items())}
        others = {canonical_label(label): exact[name] for label, name in self.aliases if name in exact}

        def named(label: str) -> int | None:
            key = canonical_label(label)
            return exact.get(label, alike.get(key, others.get(key)))

        source = table.label_names or ()
        by_position = any(named(name) is not None for name in source)
        counted = self.names == tuple(map(str, range(len(self.names))))
        words = not any(is_number(canonical_label(name)) for name in self.names)

        def number(label: str | int) -> int | None:
            if isinstance(label, str):
                return named(label)
            place = label - table.label_base
            if by_position:
                return named(source[place]) if 0 <= place < len(source) else None
            if table.label_base and (counted or (words and str(label) not in others)):
                return place if 0 <= place < len(self.names) else None
            return named(str(label))

        return {label: number(label) for each in held for label in each}

    def _unknown(self, table: Table, held: Sequence[tuple[str | int, ...]], unknown: set[str | int]) -> DataError:
        first = next(row for row, each in enumerate(held) if not unknown.isdisjoint(each))
        counts = Counter(label for each in held for label in each if label in unknown)
        rows = sum(not unknown.isdisjoint(each) for each in held)
        if set(counts) == {-1} and rows == len(held):
            return DataError(
                "the rows seem to be unlabelled: every label is -1",
                expected=f"one of {listed(self.names)}",
                received=f"{rows} rows",
                remedy="hub test sets often withhold their labels: name a labelled file or split, such as validation",
                where=table.source,
            )
        label = next(label for label in held[first] if label in unknown)
        source = table.label_names or ()
        place = label - table.label_base if isinstance(label, int) else -1
        called = f" ({shown(source[place])})" if 0 <= place < len(source) else ""
        return DataError(
            f"label {shown(str(label))}{called} is not one of the classes",
            expected=f"one of {listed(self.names)}",
            received=f"{rows} of {len(held)} rows with unknown labels "
            f"({listed(f'{label} {count}' for label, count in counts.most_common(6))})",
            remedy=self._possible(table, unknown)
            or "correct or remove these rows, train with their class, or say --unknown-labels drop or wrong",
            where=table.where(first),
        )

    def _possible(self, table: Table, unknown: set[str | int]) -> str | None:
        """A possible mapping from the unknown labels to class names, and the flag that sets it."""
        folded = {name.casefold(): name for name in self.names}
        words = sorted(label for label in unknown if isinstance(label, str))
        if len(words) == len(unknown) and all(label.casefold() in folded for label in words):
            said = ",".join(f"{label}={folded[label.casefold()]}" for label in words[:3])
            said += ",..." if len(words) > 3 else ""
            return f"upper and lower case count; if these are the same classes, use --label-map {shlex.quote(said)}"
        numbers = sorted(label for label in unknown if isinstance(label, int))
        if (
            table.label_names
            or len(numbers) < len(unknown)
            or any(is_number(canonical_label(name)) for name in self.names)
        ):
            return None
        if not 0 <= numbers[0] <= numbers[-1] <= len(self.names):
            return None
        first = int(numbers[0] > 0)
        if first == 0 and numbers[-1] == len(self.names):
            return None
        pairs = [f"{number}={name}" for number, name in enumerate(self.names, start=first)]
        said = ",".join(pairs) if len(pairs) <= 12 else ",".join(pairs[:3]) + ",..."
        return f"numbers are not read as positions; if they are class numbers, use --label-map {shlex.quote(said)}"

    def to_json(self) -> dict[str, Any]:
        """A value for `json.dumps`."""
        found: dict[str, Any] = {"names": list(self.names)}
        found |= {"multi": True} if self.multi else {}
        return found | ({"aliases": dict(self.aliases)} if self.aliases else {})

    @classmethod
    def from_json(cls, value: Any) -> LabelSet:
        """The inverse of `to_json`.

        Raises:
            DataError: the value is something else.
        """
        names = value.get("names") if isinstance(value, dict) else None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError("not a list of class names", expected='{"names": [...]}', received=shown(value))
        aliases = value.get("aliases", {})
        if not isinstance(aliases, dict) or not all(isinstance(name, str) for name in aliases.values()):
            raise DataError("not a mapping of labels to class names", received=shown(aliases))
        return cls(tuple(names), value.get("multi") is True, tuple(aliases.items()))


def fit_labels(
    table: Table,
    *,
    names: Sequence[str] | None = None,
    delimiter: str = DELIMITER,
    aliases: Mapping[str, str] | None = None,
) -> LabelSet:
    """Fix the classes of a training table and their order.

    The order is that of `names`, else of the names the source knows, else numbers ascending or words sorted. Where
    `names` are given and the labels are other numbers, these are named: class numbers from 0 (or from 1 in the
    contest's form) by their position, and others in ascending order if there are as many as names.

    Args:
        delimiter: between joined labels of multi-label data; no name may hold it.
        aliases: other labels of a class, as label to class name.

    Raises:
        DataError: no labels, one class only, two names of one canonical form, or a label that is not in `names`.
    """
    if table.labels is None:
        raise DataError("there are no labels", remedy="name their column with --label-column NAME", where=table.source)
    counts = _each(table)
    if len(counts) < 2 and table.multi:
        raise DataError(
            f"{len(table)} rows carry {len(counts)} different labels", expected="at least two", where=table.source
        )
    if len(counts) < 2:
        raise DataError(
            f"all {len(table)} rows have the label {listed(counts)}",
            expected="at least two classes",
            remedy="check the label column, or name another with --label-column NAME",
            where=table.source,
        )
    said = tuple((canonical_label(label), name) for label, name in (aliases or {}).items())
    if names is None:
        names = table.label_names or [str(label) for label in sort_labels(counts)]
        if table.label_names is None:
            _refuse_spellings(table, names)
    else:
        alike = [name for name, count in Counter(map(canonical_label, names)).items() if count > 1]
        if alike and len(set(names)) == len(names):
            raise DataError(
                "two class names mean the same label",
                expected="names that differ when 1 equals 1.0, True equals true, and surrounding blanks are ignored",
                received=listed(name for name in names if canonical_label(name) == alike[0]),
            )
        said = (*said, *_numbered(table, counts, names))
    classes = LabelSet(tuple(names), table.multi, said)
    if table.multi:
        refuse_delimiter_in_names(table, classes.names, delimiter)
    classes.encode(table)
    return classes


def extended_names(known: Sequence[str], table: Table, aliases: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Known class names, and behind them the labels of a table that are none of these, in their usual order."""
    table = with_class_names(table)
    said = tuple((canonical_label(label), name) for label, name in (aliases or {}).items())
    classes = LabelSet(tuple(known), table.multi, said)
    others = table.select(np.flatnonzero(~classes.known(table)))
    held = {canonical_label(name) for name in known}  # a text with a new label may have known ones, too
    new = [label for label in sort_labels(_each(others)) if canonical_label(str(label)) not in held]
    return (*known, *map(str, new))


def _refuse_spellings(table: Table, names: Sequence[str]) -> None:
    """Refuse two spellings of one label as two classes."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(canonical_label(name), []).append(name)
    spellings = next((same for same in alike.values() if len(same) > 1), None)
    if spellings is not None:
        raise DataError(
            f"{listed(spellings)} are spellings of one label",
            expected="one spelling for each class",
            remedy="spell them the same; if they are different names, such as versions, put a letter first: v3.10",
            where=table.source,
        )


def find_order_source(classes: Sequence[str], names: Sequence[str] | None, table: Table) -> str:
    """Where the order of the classes comes from: `given` names, the `source`'s own, `numbers`, or it was `sorted`."""
    if names is not None or table.label_names is not None:
        return "given" if names is not None else "source"
    return "numbers" if _are_numbers(classes) else "sorted"


def is_ordered(noted: object, classes: Sequence[str], names: Sequence[str] | None) -> bool:
    """Whether the order of the classes means something: anything but the alphabet.

    Args:
        noted: what `find_order_source` returned in training; None for classifiers saved before it was recorded.
        names: the recipe's.
    """
    return noted in ("given", "source", "numbers") or names is not None or _are_numbers(classes)


def _are_numbers(classes: Sequence[str]) -> bool:
    """Integers, or false and true, which every language counts as 0 and 1."""
    return all(re.fullmatch(r"0|-?[1-9]\d*", name) for name in classes) or list(classes) == ["false", "true"]


def _numbered(table: Table, counts: Mapping[str | int, int], names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of a number and a name, where the labels are numbers and `names` says what they are."""
    keys = {canonical_label(name) for name in names}
    if not all(isinstance(label, int) and str(label) not in keys for label in counts):
        return []
    numbers = sorted(label for label in counts if isinstance(label, int))
    base, most = table.label_base, len(names)
    fits = base <= numbers[0] and numbers[-1] < base + most
    # 1, 2, 3 of four names is ambiguous: counted from 1 without the last, or from 0 without the first.
    if fits and (numbers[0] == base or base or table.label_names is not None):
        return [(str(number), name) for number, name in zip(range(base, base + most), names, strict=True)]
    if len(numbers) == most:
        return [(str(number), name) for number, name in zip(numbers, names, strict=True)]
    return []


def with_class_names(table: Table) -> Table:
    """A table whose labels are names where its source names its class numbers."""
    names, base = table.label_names, table.label_base
    if names is None or table.labels is None or table.multi:
        return table
    labels: list[Label] = [
        names[label - base] if isinstance(label, int) and 0 <= label - base < len(names) else str(label)
        for label in table.labels
    ]
    note = f"labels of {table.source}: {listed(f'{number} = {name}' for number, name in enumerate(names, start=base))}"
    return replace(table, labels=labels, label_base=0, notes=(*table.notes, note))


def rename_labels(table: Table, label_map: Mapping[str, str] | None) -> tuple[Table, set[str]]:
    """A table whose labels are called as `label_map` says (label to class name), others staying as they are.

    Labels are looked up by the names that the source gives them, if it does.

    Returns:
        The table, and the canonical labels of `label_map` that occurred.
    """
    if not label_map or table.labels is None:
        return table, set()
    table = with_class_names(table)
    wanted = {canonical_label(label): name.strip() for label, name in label_map.items()}
    spelled = {label.strip(): name.strip() for label, name in label_map.items()}
    # 3.1 and 3.10 of one table are names, such as versions, of which the map means the one it spells.
    found = Counter(canonical_label(label) for label in _each(table))
    made: dict[str | int, str | int] = {}
    for label in _each(table):
        alike = canonical_label(label)
        made[label] = spelled.get(str(label), label) if found[alike] > 1 and "." in alike else wanted.get(alike, label)
    if any(isinstance(name, str) for name in made.values()):
        made = {label: str(name) for label, name in made.items()}
    labels: list[Label] = [
        tuple(dict.fromkeys(made[part] for part in label)) if isinstance(label, tuple) else made[label]
        for label in table.labels or ()
    ]
    pairs = [f"{label} = {made[label]}" for label in sort_labels(made) if canonical_label(label) in wanted]
    note = (f"labels of {table.source}: {listed(pairs)}",) if pairs else ()
    known = tuple(dict.fromkeys(wanted.get(canonical_label(name), name) for name in table.label_names or ()))
    table = replace(table, labels=labels, label_names=known or None, notes=(*table.notes, *note))
    return table, {canonical_label(label) for label in made} & set(wanted)


def drop_labels(table: Table, gone: Iterable[str | int]) -> Table:
    """A table, its labels `with_class_names`, without some labels; rows that have no other go too."""
    away = set(gone)
    labels: list[Label] = [
        tuple(part for part in label if part not in away) if isinstance(label, tuple) else label
        for label in table.labels or ()
    ]
    held = zip(labels, table.labels or (), strict=True)
    kept = [row for row, (label, before) in enumerate(held) if label not in away and (label != () or before == ())]
    names = tuple(name for name in table.label_names or () if name not in away)
    return replace(table, labels=labels, label_names=names or None).select(kept)


def find_rare(table: Table, least: int = 2) -> dict[str | int, int]:
    """The classes of a table with fewer than `least` rows, with their rows' number, in the order of their rows."""
    return {label: count for label, count in _each(table).items() if count < least}


def refuse_rare(table: Table) -> None:
    """Refuse classes with one row: a stratified split puts a row of each class on both sides.

    Raises:
        DataError: naming the classes with one row, and the flags that say what to do with them.
    """
    few = list(find_rare(table))
    if not few:
        return
    labels = table.labels or []
    first = next(row for row, label in enumerate(labels) if label == few[0] or _among(few[0], label))
    total = len(_each(table))
    ways = "add rows, merge the class with --label-map, or use --rare-classes drop (leave it out) or keep (train on it "
    ways += "without validation)"
    if _may_be_measured(table):
        ways = f"the labels are {total:,} different numbers: if they are measurements, {RANGES}; otherwise {ways}"
    elif 2 * len(few) >= total and 4 * len(few) > len(table):
        ways = "is this the label column? if not, name another with --label-column NAME; if so, use --rare-classes drop"
        ways += " or keep"
    if len(few) == total:
        ways += "; to train on one text per class, use --validation-size 0"
    raise DataError(
        f"class {shown(str(few[0]))} has one row" if len(few) == 1 else f"{len(few)} classes have one row each",
        expected="at least 2 rows per class, one for training and one for validation",
        received=None if len(few) == 1 else listed(few, 4),
        remedy=ways,
        where=table.where(first),
    )


def describe_measurements(table: Table) -> tuple[str, ...]:
    """A remark on labels that are many different numbers with fractions, as measurements are; empty for others."""
    if not _may_be_measured(table) or all(isinstance(label, int) for label in table.labels or ()):
        return ()
    count = len(_each(table))
    return (f"labels: {count:,} different numbers, each a class of its own: if they are measurements, {RANGES}",)


def _may_be_measured(table: Table) -> bool:
    """Whether the labels, one per text, are many different numbers that no source names."""
    counts = _each(table)
    return not table.multi and table.label_names is None and len(counts) > MOST_NUMBERS and all(map(is_number, counts))


def check_ordered(table: Table, names: Sequence[str] | None) -> None:
    """Refuse ordinal labels whose order is unknown: the alphabet is none.

    Raises:
        DataError: several labels per text, or words without `names`, by the recipe or the source.
    """
    if table.multi:
        raise DataError("multi-label classes have no order", remedy="leave out --ordinal", where=table.source)
    words = not all(is_number(label) for label in _single(table.labels or ()))
    if words and names is None and table.label_names is None:
        raise DataError(
            "the order of the classes is unknown",
            expected="--label-names with --ordinal, lowest first",
            received=listed(sorted({str(label) for label in table.labels or ()})),
            where=table.source,
        )


def _each(table: Table) -> Counter[str | int]:
    """Rows by label."""
    return count_labels(table) if table.multi else Counter(_single(table.labels or ()))


def _single(labels: Sequence[Label]) -> list[str | int]:
    return [label for label in labels if not isinstance(label, tuple)]


def _among(one: str | int, label: Label) -> bool:
    return isinstance(label, tuple) and one in label
