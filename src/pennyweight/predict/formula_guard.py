"""Keeping spreadsheets from running cells of a CSV file as formulas.

Source: https://owasp.org/www-community/attacks/CSV_Injection
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from ..data.columns import is_id_name, is_label_name

_NUMBER = re.compile(r"[+-]?(\d[\d.,]*|\.\d+)([eE][+-]?\d+)?%?")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")

# Takes a column's name; whether its cells are to be escaped.
Guard = Callable[[str], bool]


def formula_guard(texts: Iterable[str] = (), exact: Iterable[str] = ()) -> Guard:
    """The guard that escapes columns of free text, and leaves ids and labels exact.

    Args:
        texts: columns that were read as the text: escaped whatever their names.
        exact: columns known to be ids or labels, in addition to those whose names say so.
    """
    texts, exact = frozenset(texts), frozenset(name.strip().lower() for name in exact)

    def guarded(name: str) -> bool:
        labels = is_label_name(name) or name.lower().endswith(("_label", "_labels"))
        return name in texts or not (name.strip().lower() in exact or labels or is_id_name(name))

    return guarded


def guard_nothing(name: str) -> bool:
    """The guard that escapes no column."""
    return False


def escape_formula(value: Any) -> Any:
    """A cell that a spreadsheet would run (it begins with = + - @), with an apostrophe in front; others unchanged.

    Plain numbers, such as -1, are not formulas.
    """
    if isinstance(value, str) and value.startswith(_FORMULA) and not _NUMBER.fullmatch(value):
        return "'" + value
    return value
