"""The canonical form of a label: the same for one class in a CSV file, a data frame and a Parquet column."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

from ..errors import DataError
from .columns import DATES, is_null
from .table import shown

# A decimal number: sign, whole part, fraction. "007" and "1e3" are names: leading zeros and exponents occur in ids.
_NUMBER = re.compile(r"([+-]?)(0|[1-9]\d*)(?:\.(\d+))?")
# More digits are an identifier, not a number to sort by.
_MOST_DIGITS = 18
_TRUTH = {"true": "true", "True": "true", "TRUE": "true", "false": "false", "False": "false", "FALSE": "false"}

#: How pandas and NumPy write a missing value where it was turned into a word. "None" and "NA" are words people use.
MISSING_WORDS = ("nan", "NaN", "<NA>", "NaT")


def canonical_label(label: object) -> str:
    """The common form of all spellings of a label: `1.0`, `+1` and 1; `1.50` and 1.5; `True` and true.

    Letters are composed and blanks at the ends removed. "007" and "1e3" stay as they are.
    """
    if isinstance(label, bool):
        return "true" if label else "false"
    text = unicodedata.normalize("NFC", str(label)).strip()
    return _TRUTH.get(text) or _canonical_number(text)


def _canonical_number(text: str) -> str:
    """A decimal number without a plus and without zeros at the end of its fraction; another text as it is."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return text
    fraction = (match[3] or "").rstrip("0")
    digits = f"{match[2]}.{fraction}" if fraction else match[2]
    return f"-{digits}" if match[1] == "-" and digits != "0" else digits


def parse_label(value: Any, where: str) -> str | int | None:
    """A cell as one label, a string or an integer; None if it is missing.

    Raises:
        DataError: a list, an object, bytes or an infinite number.
    """
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()  # a tensor or an array of one number
    if is_null(value):
        return None
    if isinstance(value, str):
        text = unicodedata.normalize("NFC", value).strip()
        return None if not text or text in MISSING_WORDS else text
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):  # NumPy's too
        return "true" if value else "false"
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real) and math.isfinite(value):
        number = float(value)
        return int(number) if number.is_integer() else repr(number)
    raise DataError(
        "the label cannot be used", expected="one string or number per row", received=shown(value), where=where,
        remedy=DATES if hasattr(value, "isoformat") else None,
    )  # fmt: skip


def unify_labels(labels: Iterable[str | int]) -> dict[str | int, str | int]:
    """The labels of one column, each distinct one with what it becomes: integers if all are whole numbers, else words.

    "007" is no whole number, since it would come back as 7.
    """
    distinct = list(dict.fromkeys(labels))
    if all(isinstance(label, int) or _is_whole(label) for label in distinct):
        return {label: label if isinstance(label, int) else int(_canonical_number(label)) for label in distinct}
    if all(label in _TRUTH for label in distinct):
        return {label: _TRUTH[str(label)] for label in distinct}
    # Beside words only the .0 of pandas goes: +1 may be a name.
    return {label: _without_zeros(str(label)) for label in distinct}


def _without_zeros(label: str) -> str:
    match = _NUMBER.fullmatch(label)
    whole = match is not None and match[1] != "+" and not (match[3] or "").strip("0")
    return _canonical_number(label) if whole else label


def _is_whole(label: str) -> bool:
    match = _NUMBER.fullmatch(label)
    return match is not None and not (match[3] or "").strip("0") and len(match[2]) <= _MOST_DIGITS


def is_number(label: str | int) -> bool:
    """Whether a label is a plain decimal number."""
    return isinstance(label, int) or _NUMBER.fullmatch(label) is not None


def sort_labels(labels: Iterable[str | int]) -> list[str | int]:
    """Labels in the order that their classes get: numbers ascending; with a word among them, all as words."""
    each = list(labels)
    if all(is_number(label) for label in each):
        return sorted(each, key=lambda label: (label if isinstance(label, int) else float(label), str(label)))
    return sorted(each, key=lambda label: (0, label, "") if isinstance(label, int) else (1, 0, label))
