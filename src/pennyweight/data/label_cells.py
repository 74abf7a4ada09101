"""Labels in the cells of a source where a text may have any number of them: lists, joined words, columns of 0 and 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

from ..errors import DataError
from .canonical_labels import parse_label, unify_labels
from .columns import is_null
from .label_format import LabelFormat
from .table import Columns, Label, Table, listed, shown

_TRUTH = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}


def is_multi_label(columns: Columns, name: str, form: LabelFormat) -> bool:
    """Whether the label column `name` is to be read as any number of labels per row."""
    if form.task != "auto":
        return form.task == "multi"
    cells = [value for value in columns.values[name] if not is_null(value)]
    return form.delimiter is not None or (bool(cells) and all(is_list(value) for value in cells))


def read_label_cells(columns: Columns, name: str, form: LabelFormat) -> list[Label]:
    """N tuples of labels out of one column of lists or of cells with a delimiter.

    Raises:
        DataError: a cell that is neither, or rows without any label where that is not allowed.
    """
    names = columns.label_names.get(name)
    cells = columns.values[name]
    found: list[tuple[str | int, ...]] = []
    for row, cell in enumerate(cells):
        where = columns.where(row)
        parts: Iterable[Any]
        if is_null(cell):
            parts = ()
        elif isinstance(cell, str):
            parts = [cell] if form.delimiter is None else cell.split(form.delimiter)
        elif is_list(cell):
            parts = cell.tolist() if hasattr(cell, "tolist") else cell  # an array's own numbers are not Python's
            parts = sorted(parts, key=str) if isinstance(parts, (set, frozenset)) else parts
        else:
            parts = [cell]
        found.append(_parse_labels(parts, where, names))
    kinds = unify_labels(label for held in found for label in held)
    found = [tuple(dict.fromkeys(kinds[label] for label in held)) for held in found]
    _check_unlabelled(columns, found, f"column {name}", form)
    return [*found]


def read_label_columns(columns: Columns, names: Sequence[str], form: LabelFormat) -> list[Label]:
    """N tuples of the names of the columns that hold 1.

    Raises:
        DataError: a value other than 0 and 1 (its line, its column and how many), or rows of zeros where that is not
            allowed.
    """
    held: list[list[str]] = [[] for _ in columns.lines]
    for name in names:
        wrong = []
        for row, value in enumerate(columns.values[name]):
            truth = _truth(value)
            if truth is None:
                wrong.append(row)
            elif truth:
                held[row].append(name)
        if wrong:
            raise DataError(
                f"column {name} contains a value other than 0 and 1",
                expected="0 or 1 in every row of --label-columns",
                received=f"{shown(columns.values[name][wrong[0]])}; {len(wrong)} of {len(held)} rows have such values",
                where=columns.where(wrong[0]),
            )
    found: list[Label] = [tuple(each) for each in held]
    _check_unlabelled(columns, found, f"columns {listed(names)}", form)
    return found


# Where most labels hold one of these, and the parts are so many times fewer than the whole; see also
# `_joins_known_labels`.
_JOINTS = (("|", 1.0), (";", 2.0), (",", 2.0))


def refuse_joined_labels(table: Table) -> None:
    """Refuse label cells that look like several labels joined.

    Raises:
        DataError: naming what joins them, and the flags that resolve it.
    """
    counts = Counter(str(label) for label in table.labels or () if not isinstance(label, tuple))
    for joint, times in _JOINTS:
        holding = sum(rows for label, rows in counts.items() if joint in label.strip(joint))
        split = {label: {part.strip() for part in label.split(joint)} - {""} for label in counts}
        parts = set().union(*split.values())
        mostly_joined = 2 * holding > len(table) and len(counts) > max(3, times * len(parts))
        if mostly_joined or _joins_known_labels(counts, split, joint):
            raise DataError(
                f"the cells look like several labels joined by {joint}",
                received=f"{holding:,} of {len(table):,} labels with {joint}: {len(counts)} different ones, "
                f"{len(parts)} once they are split, such as {shown(next(label for label in counts if joint in label))}",
                remedy=f"add --label-delimiter '{joint}', or --task single if each cell is one label",
                where=table.source,
            )


def _joins_known_labels(counts: Mapping[str, int], split: Mapping[str, set[str]], joint: str) -> bool:
    """Whether some cells hold one label and others several of the same ones, as where most texts have a single tag.

    That is: of the rows with a joined cell, three quarters hold only parts that occur in another label too, and some
    part is also a label alone. Commas and semicolons occur within names, so there it takes two such labels.

    Args:
        counts: rows by label; `split`: its parts between `joint`.
    """
    held_by = Counter(part for parts in split.values() for part in parts)
    joined = {label: parts for label, parts in split.items() if len(parts) > 1}
    known = [label for label, parts in joined.items() if all(held_by[part] > 1 for part in parts)]
    alone = {next(iter(parts)) for parts in split.values() if len(parts) == 1}
    rows = sum(counts[label] for label in joined)
    return (
        len(known) >= (1 if joint == "|" else 2)
        and 4 * sum(counts[label] for label in known) >= 3 * rows
        and any(joined[label] & alone for label in known)
    )


def refuse_delimiter_in_names(table: Table, names: Sequence[str], delimiter: str) -> None:
    """Refuse a label that holds the delimiter: joined with others it could not be split again.

    Raises:
        DataError: naming the label, its first line and how many rows carry it.
    """
    for name in names:
        if delimiter in name:
            rows = [row for row, held in enumerate(table.labels or []) if isinstance(held, tuple) and name in held]
            raise DataError(
                f"label {shown(name)} holds the delimiter {delimiter}",
                expected="labels without the delimiter",
                received=f"{len(rows)} of {len(table)} rows with this label",
                remedy="rename it, or choose another delimiter with --label-delimiter",
                where=table.where(rows[0]) if rows else table.source,
            )


def count_unlabelled(table: Table) -> int:
    """Rows without any label."""
    return sum(1 for held in table.labels or () if held == ())


def is_list(value: object) -> bool:
    """Whether a cell is a list, a tuple, a set or a one-dimensional array."""
    return isinstance(value, (list, tuple, set, frozenset)) or getattr(value, "ndim", 0) == 1


def _parse_labels(parts: Iterable[Any], where: str, names: tuple[str, ...] | None) -> tuple[str | int, ...]:
    """The distinct labels of a row, in order."""
    found: dict[str | int, None] = {}
    parts = list(parts)
    if len(parts) > 1 and all(isinstance(part, float) and 0 <= part <= 1 for part in parts) and set(parts) - {0, 1}:
        raise DataError(
            "the labels are probabilities",
            expected="label names, or zeros and ones",
            received=shown(parts),
            remedy="use the most probable label of each row, or pass a table of probabilities as teacher",
            where=where,
        )
    for part in parts:
        if isinstance(part, str) and not part.strip():
            continue
        if is_list(part):
            raise _nested_label(part, where)
        label = parse_label(part, where)
        if label is None:
            raise DataError(
                "a label in the list is missing",
                received=shown(part),
                remedy="fill it in or remove it",
                where=where,
            )
        if isinstance(label, int):
            if names is not None and 0 <= label < len(names):
                label = names[label]
            if label in found:
                raise DataError(
                    f"the row names label {label} twice",
                    remedy="if these are zeros and ones, one per label, give them as columns: --label-columns a,b",
                    where=where,
                )
        found[label] = None
    return tuple(found)


def _nested_label(part: object, where: str) -> DataError:
    return DataError(
        "the labels cannot be used", expected="a list of strings or numbers", received=shown(part), where=where
    )


def _truth(value: object) -> bool | None:
    if isinstance(value, str):
        return _TRUTH.get(value.strip().lower())
    return bool(value) if isinstance(value, (int, float, Integral)) and value in (0, 1) else None


def _check_unlabelled(columns: Columns, found: Sequence[Label], place: str, form: LabelFormat) -> None:
    empty = [row for row, held in enumerate(found) if held == ()]
    if empty and not form.allow_unlabelled:
        raise DataError(
            f"the row has no label in {place}",
            expected="at least one label per row",
            received=f"{len(empty)} of {len(found)} rows without any label",
            remedy="label or remove them, or accept them as rows without labels: --allow-unlabelled",
            where=columns.where(empty[0]),
        )


def count_labels(table: Table) -> Counter[str | int]:
    """Rows by label."""
    return Counter(label for held in table.labels or () if isinstance(held, tuple) for label in held)


def class_name_of(value: object, names: Sequence[str] | None = None) -> str | None:
    """A cell of a label column as the class's name; None if it is missing."""
    if is_null(value) or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if names is not None and isinstance(value, int):
        return names[value] if 0 <= value < len(names) else None
    return str(value).strip()
