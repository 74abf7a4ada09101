"""How the characters of a delimited file make up its rows: the delimiter, the quotes, backslash escapes."""

from __future__ import annotations

import csv
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...storage.locks import hold_over_forks
from ..file_streams import MAX_LINE

#: Makes a fresh iterator over the file's physical lines.
Lines = Callable[[], Iterator[str]]

_limit_lock = threading.Lock()
hold_over_forks(_limit_lock)


@contextmanager
def long_fields() -> Iterator[None]:
    """The csv module's field limit (131,072) is global to the process: lift it, and put it back."""
    with _limit_lock:
        before = csv.field_size_limit(MAX_LINE)
        try:
            yield
        finally:
            csv.field_size_limit(before)


@dataclass(frozen=True)
class Dialect:
    """How the characters of a file make up its rows.

    Attributes:
        delimiter: between fields; a character that does not occur where a file has one column.
        quote: around fields that hold delimiters or line breaks; None if quotes are letters.
        escape: before a character that is taken literally.
        skip: lines before the first row.
        known: short values of each column, as far as the sample shows them.
        notes: remarks on what was decided.
    """

    delimiter: str
    quote: str | None = '"'
    escape: str | None = None
    skip: int = 0
    known: tuple[frozenset[str], ...] = ()
    notes: tuple[str, ...] = ()

    def rows(self, lines: Iterable[str]) -> Any:
        """The csv module's reader over `lines`; strict where there are quotes."""
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quote,
            quoting=csv.QUOTE_NONE if self.quote is None else csv.QUOTE_MINIMAL,
            escapechar=self.escape,
            strict=True,
        )


def is_blank(row: list[str]) -> bool:
    """Whether a row is an empty line, or one of blanks."""
    return not row or (len(row) == 1 and not row[0].strip())


class RecordedLines:
    """Lines that are kept until `take` is called, so that a record's own characters are known."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._taken: list[str] = []

    def __iter__(self) -> RecordedLines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._taken.append(line)
        return line

    def take(self) -> list[str]:
        """The lines since the last call."""
        taken, self._taken = self._taken, []
        return taken


def split_fields(dialect: Dialect, text: str, row: list[str]) -> Iterator[tuple[str, bool]]:
    """Each field of a record, and whether it is quoted."""
    if dialect.quote is None or dialect.quote not in text:
        yield from ((cell, False) for cell in row)
        return
    quote, mark = re.escape(dialect.quote), re.escape(dialect.delimiter)
    field = re.compile(rf"({quote}(?:[^{quote}]|{quote}{quote})*{quote})|[^{mark}]*")
    position = 0
    for cell in row:
        match = field.match(text, position)
        if match is None:
            return
        yield cell, match[1] is not None
        position = match.end() + 1
