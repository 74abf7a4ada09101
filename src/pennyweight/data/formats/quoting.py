"""What quotes and backslashes mean in a delimited file where they may be ordinary characters or may join lines."""

from __future__ import annotations

import contextlib
import csv
import itertools
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from ...errors import DataError
from .dialect import Dialect, Lines, RecordedLines, is_blank, long_fields, split_fields


def refuse_escaped_breaks(dialect: Dialect, own: str, lines: Lines, path: Path) -> None:
    """Refuse a single column of unquoted texts whose line breaks seem to be escaped: each line would be a text.

    Raises:
        DataError: a backslash stands before a line break, and every other backslash escapes something, too.
    """
    ends = ("\\\n", "\\\r\n", "\\\r")
    if not any(line.endswith(ends) for line in lines()) or not all_escapes(lines, own):
        return
    record = RecordedLines(itertools.islice(lines(), dialect.skip, None))
    reader = dialect.rows(record)
    with long_fields(), contextlib.suppress(csv.Error):  # what breaks the quotes' rules is refused when it is read
        for row in reader:
            if record.take()[-1].endswith(ends) and row and row[-1].endswith("\\"):
                raise DataError(
                    "the line ends with a backslash: does the text continue on the next line?",
                    expected="texts with line breaks in double quotes",
                    remedy="write the file with quotes; if each line is one text, name the file .txt",
                    where=f"{path}:{dialect.skip + reader.line_num}",
                )


def resolve_tab_quotes(dialect: Dialect, lines: Lines, path: Path) -> Dialect:
    """Whether quotes in a file with tabs mean anything. Many TSV files do not use quoting.

    Where every line has the right number of tabs, quotes are ordinary characters, unless they are as a program would
    write them: around every text of a column, the header's name too, or with inner quotes doubled within one line.

    Raises:
        DataError: the lines of a single column may each be a text, or some of them one.
    """
    widths: Counter[int] = Counter()
    quotes = False
    for line in itertools.islice(lines(), dialect.skip, None):
        if line.strip("\r\n "):
            widths[line.count("\t") + 1] += 1
            quotes = quotes or '"' in line
    letters = replace(dialect, quote=None)
    if not quotes:
        return dialect
    found = _inspect_quotes(dialect, lines)
    if found.broken:
        return letters
    if len(widths) > 1 or found.whole:
        return dialect
    if max(widths) == 1 and found.spanning and not found.doubled:
        raise DataError(
            f"a quote opened on this line is closed on line {found.spanning[1]}: is this one text, or several?",
            remedy="if it is one, put every text in double quotes; otherwise remove the quote",
            where=f"{path}:{found.spanning[0]}",
        )
    if max(widths) == 1:
        return dialect
    if found.needless and not found.doubled and not found.spanning:
        return letters
    if found.spanning and not found.doubled:
        first, last = found.spanning
        note = f"quotes are read as ordinary characters: as quotes they would join lines {first} to {last}"
        return replace(letters, notes=(*dialect.notes, note))
    return dialect


@dataclass
class _QuoteUse:
    """The quoted fields of a file, as its quotes would have it.

    Attributes:
        spanning: the lines of the first row that has several.
        needless: a field is quoted without need.
        doubled: an inner quote is doubled, within one line.
        whole: all texts of each column that has quoted ones are quoted.
        broken: the quotes break the rules.
    """

    spanning: tuple[int, int] | None = None
    needless: bool = False
    doubled: bool = False
    whole: bool = False
    broken: bool = False


def _inspect_quotes(dialect: Dialect, lines: Lines) -> _QuoteUse:
    found = _QuoteUse()
    seen: dict[int, set[bool]] = {}
    record = RecordedLines(itertools.islice(lines(), dialect.skip, None))
    reader = dialect.rows(record)
    last = dialect.skip
    records = 0
    with long_fields():
        try:
            for row in reader:
                start, last = last + 1, dialect.skip + reader.line_num
                text = "".join(record.take())
                records += not is_blank(row)
                if last > start:
                    found.spanning = found.spanning or (start, last)
                for column, (cell, quoted) in enumerate(split_fields(dialect, text, row)):
                    if quoted:
                        found.doubled = found.doubled or (last == start and '"' in cell)
                        found.needless = found.needless or not any(mark in cell for mark in '\t\n\r"')
                    if quoted or (cell and not _is_number(cell)):
                        seen.setdefault(column, set()).add(quoted)
        except csv.Error:
            found.broken = True
            return found
    found.whole = all(len(kinds) == 1 for kinds in seen.values() if True in kinds) and (
        records > 1 or found.spanning is None
    )
    return found


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def joins_rows(dialect: Dialect, record: list[str], width: int) -> bool | None:
    """Whether a row of several lines looks like several rows that a stray quote joins.

    Args:
        record: the row's lines.
        width: fields of a row.

    Returns:
        True where each line has `width` fields, and one of those that would be joined to it has a value that other rows
        have in its column; None if the lines have `width` fields and no more is known; otherwise False.
    """
    cells = [line.rstrip("\r\n").split(dialect.delimiter) for line in record]
    if dialect.quote is None or any(len(row) != width for row in cells):
        return False
    quote = dialect.quote
    opened = next((number for number, cell in enumerate(cells[0]) if cell[:1] == quote and cell.count(quote) % 2), 0)
    for column in range(width):
        known = set(dialect.known[column]) if column < len(dialect.known) else set()
        # What stands before the opening quote and behind the closing one is the row's own.
        known.add(cells[0][column] if column < opened else cells[-1][column])
        joined = [row[column] for row in cells[1:-1]]
        if column > opened:
            joined.append(cells[0][column])
        if column < opened:
            joined.append(cells[-1][column])
        if any(cell in known for cell in joined if cell.strip()):
            return True
    return None


def all_escapes(lines: Lines, mark: str) -> bool:
    pattern = escape_pattern(mark)
    return not any(match[1] is not None for line in lines() if "\\" in line for match in pattern.finditer(line))


def escape_pattern(mark: str) -> re.Pattern[str]:
    """Any pair of a backslash and what follows it; the group matches where that is no escape."""
    return re.compile(rf'\\(?:[{re.escape(mark)}"\\\r\n]|(.|$))')
