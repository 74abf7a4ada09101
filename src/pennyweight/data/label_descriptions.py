"""Descriptions of the classes, a sentence each, as further texts to learn from where labelled ones are few."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from .sources import read, without_flags
from .table import listed, shown

WANTED = "one row for each class: the class as its label, and its description as the text"


def read_descriptions(path: str | Path, names: Sequence[str]) -> tuple[str, ...]:
    """The description of each class, from a labelled table with one row per class.

    Args:
        path: in any format that labelled texts may have.
        names: L class names.

    Raises:
        DataError: a class without a description, with two, or unknown; an empty one; two classes with the same one.
    """
    with without_flags("save it as CSV in UTF-8, and begin it with a row that names the columns: label,text"):
        table = read(path)
    labels = [str(label) for label in table.labels or ()]
    found = dict(zip(labels, (text.strip() for text in table.texts), strict=False))
    unknown = [label for label in labels if label not in names]
    if unknown:
        raise _refused(path, f"descriptions of unknown classes: {listed(unknown)}", f"one of {listed(names)}")
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise _refused(path, f"more than one description for {listed(twice)}", WANTED)
    without = [name for name in names if not found.get(name)]
    if without:
        raise _refused(path, f"no description of {listed(without)}", WANTED)
    same = same_descriptions([found[name] for name in names])
    if same is not None:
        one, other = same
        raise DataError(
            "two classes have the same description", where=path, expected="a different description for each class",
            received=f"{shown(names[one])} and {shown(names[other])}: {shown(found[names[one]])}",
        )  # fmt: skip
    return tuple(found[name] for name in names)


def same_descriptions(texts: Sequence[str]) -> tuple[int, int] | None:
    """The places of the first two that differ in nothing but case and spaces; None if there are none."""
    seen: dict[str, int] = {}
    for place, text in enumerate(texts):
        key = " ".join(text.casefold().split())
        if key in seen:
            return seen[key], place
        seen[key] = place
    return None


def names_as_descriptions(names: Sequence[str]) -> tuple[str, ...]:
    """The class names as words; empty if they say nothing: numbers, or names that come to the same words."""
    texts = tuple(" ".join(name.replace("_", " ").replace("-", " ").split()) for name in names)
    telling = all(any(letter.isalpha() for letter in text) for text in texts)
    return texts if telling and same_descriptions(texts) is None else ()


def _refused(path: str | Path, problem: str, expected: str) -> DataError:
    return DataError(problem, where=path, expected=expected)
