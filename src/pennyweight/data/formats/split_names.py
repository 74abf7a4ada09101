"""Names of splits, with their usual variants."""

from __future__ import annotations

import re
from collections.abc import Iterable

_ALIASES = (
    ("train", "training", "trn"),
    ("validation", "valid", "val", "dev", "development"),
    ("test", "testing", "eval", "evaluation", "tst"),
)
SPLIT_NAMES = frozenset(name for names in _ALIASES for name in names)


def aliases(split: str) -> tuple[str, ...]:
    """The names that a split may have, its own first."""
    others = next((names for names in _ALIASES if split.lower() in names), ())
    return (split, *(name for name in others if name != split))


def of_split(names: Iterable[str], split: str) -> str | None:
    """The one of `names` that means `split`, None if there is none."""
    found = {name.lower(): name for name in names}
    return next((found[alias.lower()] for alias in aliases(split) if alias.lower() in found), None)


def split_of_file(name: str) -> str | None:
    """The split that a file's name begins with, as in `train-00000-of-00002.parquet`; None if with none."""
    word = re.split(r"[-_.\s]", name.lower(), maxsplit=1)[0]
    return word if word in SPLIT_NAMES else None
