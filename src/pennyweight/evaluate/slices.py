"""Slices: the accuracy on rows that share a length or a column's value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np

from ..data.columns import is_id_name
from ..errors import DataError
from .labelled_rows import LabelledRows
from .metrics.intervals import Interval, wilson

# A column with more values than this, or with fewer rows per value on average, is sliced by only if it is asked for:
# ids and dates make slices of a text or two.
MOST_VALUES = 20
LEAST_ROWS = 4
# Past so many values the rarest are taken together; numbers are cut into so many buckets.
MOST_SLICES = 20
BUCKETS = 5


@dataclass(frozen=True)
class Slice:
    """Accuracy on the `n` test rows that share something, with its 95% interval."""

    name: str
    n: int
    accuracy: float
    interval: Interval


def slice_rows(
    rows: LabelledRows, correct: np.ndarray, columns: Sequence[str] | None = None
) -> dict[str, tuple[Slice, ...]]:
    """Accuracy by length, and by further columns.

    Args:
        correct: (N,) whether each row is right.
        columns: which to slice by; None takes every column with 2 to 20 different values of at least four rows on
            average, ids aside.

    Raises:
        DataError: for a column the rows do not have.
    """
    found = {"length in tokens": by_number(correct, rows.lengths, "tokens")}
    for name in columns if columns is not None else rows.columns:
        if name not in rows.columns:
            raise DataError(
                f"there is no column {name!r} for slices",
                where=rows.source,
                expected=", ".join(rows.columns) or "a file with further columns",
            )
        values = len({str(value) for value in rows.columns[name]})
        suitable = 2 <= values <= MOST_VALUES and values * LEAST_ROWS <= len(correct) and not is_id_name(name)
        if columns is not None or suitable:
            found[name] = by_column(correct, rows.columns[name])
    return found


def by_column(correct: np.ndarray, values: Sequence[object], unit: str = "") -> tuple[Slice, ...]:
    """Accuracy for each value of a column, commonest first, or by fifths where it holds many different numbers.

    Past 20 values the rarest are taken together.

    Args:
        correct: (N,) whether each row is right; values: N.
        unit: follows the numbers in the names of fifths, such as "tokens".
    """
    counts = Counter(str(value) for value in values)
    numbers = [float(value) for value in values if isinstance(value, Real)]
    if len(counts) > 2 * BUCKETS and len(numbers) == len(values) and np.isfinite(numbers).all():
        return by_number(correct, np.array(numbers), unit)
    common = [name for name, _ in counts.most_common(MOST_SLICES if len(counts) > MOST_SLICES + 1 else None)]
    column = np.array([str(value) for value in values], dtype=object)
    parts = [_slice(name, correct[column == name]) for name in common]
    rest = ~np.isin(column, np.array(common, dtype=object))
    if rest.any():
        parts.append(_slice(f"{len(counts) - len(common):,} other values", correct[rest]))
    return tuple(parts)


def by_number(correct: np.ndarray, values: np.ndarray, unit: str = "") -> tuple[Slice, ...]:
    """Accuracy by fifths of a number such as the texts' length, smallest first; equal numbers stay together.

    Args:
        correct: (N,) whether each row is right; values: (N,) finite numbers.
        unit: follows the numbers in the slices' names, such as "tokens".
    """
    edges = np.quantile(values, np.arange(1, BUCKETS) / BUCKETS, method="inverted_cdf")  # (4,)
    place = np.searchsorted(edges, values, side="left")
    parts = []
    for index in np.unique(place).tolist():
        inside = values[place == index]
        low, high = f"{inside.min():g}", f"{inside.max():g}"
        name = low if low == high else f"{low} to {high}"
        parts.append(_slice(f"{name} {unit}".rstrip(), correct[place == index]))
    return tuple(parts)


def _slice(name: str, correct: np.ndarray) -> Slice:
    right = int(correct.sum())
    return Slice(name, len(correct), right / len(correct), wilson(right, len(correct)))
