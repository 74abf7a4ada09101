"""Texts and labels in two files, a line each."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ...errors import DataError
from ..file_options import AS_NAMED, FileOptions
from ..file_streams import suggest_names
from ..table import Columns
from .plain_text import read_plain


def as_two_files(source: str | Path) -> tuple[Path, Path] | None:
    """The files of `texts.txt,labels.txt`; None if that is one file's name, or no files' at all."""
    first, comma, second = str(source).partition(",")
    if not comma or os.path.exists(source) or not os.path.isfile(first.strip()):
        return None
    return Path(first.strip()), Path(second.strip())


def read_two_files(texts: Path, labels: Path, max_bytes: int, options: FileOptions = AS_NAMED) -> Columns:
    """Read line n of one file as the text and line n of the other as its label; blank lines at the ends do not count.

    Raises:
        DataError: either file is missing or empty, or they differ in length.
    """
    if not os.path.isfile(labels):
        raise DataError("no such file", remedy=suggest_names(labels), where=labels)
    found, held = (read_plain(path, max_bytes, "txt", options) for path in (texts, labels))
    words = [cell.strip() for cell in held.values["text"]]
    while words and not words[-1]:
        words.pop()
    rows = len(found.lines)
    while rows > len(words) and not found.values["text"][rows - 1].strip():
        rows -= 1
    if rows != len(words):
        raise DataError(
            "the files differ in length",
            expected=f"a label for each of the {rows:,} lines of {texts}",
            received=f"{len(words):,} labels",
            where=labels,
        )
    if "" in words:
        raise DataError("the line has no label", where=f"{labels}:{words.index('') + 1}")
    return replace(found, values={"text": found.values["text"][:rows], "label": words}, lines=found.lines[:rows])
