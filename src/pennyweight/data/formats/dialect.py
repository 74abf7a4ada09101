"""How a delimited file is written, judged by its content: the delimiter, the quotes, backslash escapes."""

from __future__ import annotations

import contextlib
import csv
import itertools
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..columns import is_column_name
from ..file_streams import MAX_LINE

#: Makes a fresh iterator over the file's physical lines.
Lines = Callable[[], Iterator[str]]

# What is looked at before the file is read: so many lines, and no more characters than that.
SAMPLE, _SAMPLE_CHARACTERS = 1_000, 8 << 20

_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
# Stand for the delimiter of a file that has none; the first that does not occur is taken.
_NONE = ("\x1f", "\x1e", "\x1d", "\x1c")
# Excel's own line about the delimiter, before the header.
_SEP = re.compile(r'"?sep=(.)"?[\r\n]*', re.IGNORECASE)
# With fewer rows than this, two delimiters that both fit are a coincidence that cannot be judged.
_FEW = 10
# Cells this short are remembered, to know them again where a quote swallows lines.
_SHORT, _KEPT = 40, 500
# What a part of a sentence has at least, in characters, on average.
_PART = 10

_limit_lock = threading.Lock()


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
    """How the rows of a file are told from its characters.

    Attributes:
        delimiter: between fields; a character that does not occur where a file has one column.
        quote: around fields that hold delimiters or line breaks; None where quotes are letters.
        escape: before a character that is meant literally.
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


@dataclass
class _Reading:
    """The sample, read in one way."""

    dialect: Dialect
    rows: list[list[str]] = field(default_factory=list)
    broken: bool = False
    quoted: bool = False

    @property
    def width(self) -> int:
        """Fields of every row; 0 where rows differ, break the quotes' rules, or are none."""
        widths = {len(row) for row in self.rows}
        return widths.pop() if len(widths) == 1 and not self.broken else 0

    @property
    def spaced(self) -> bool:
        """Whether a blank follows every delimiter, as it follows a comma in prose."""
        cells = [cell for row in self.rows for cell in row[1:]]
        return bool(cells) and not self.quoted and all(cell[:1].isspace() for cell in cells)

    @property
    def prose(self) -> bool:
        """Whether the fields look like parts of sentences."""
        below = self.rows[1:] or self.rows
        return (
            self.spaced
            and not self.names
            and all(sum(map(len, cells)) >= _PART * len(cells) for cells in zip(*below, strict=True))
        )

    @property
    def names(self) -> int:
        """Cells of the first row that are usual names of columns."""
        return sum(map(is_column_name, self.rows[0])) if self.rows else 0


def detect_dialect(lines: Lines, path: Path, *, tabs: bool) -> Dialect:
    """How a file is written.

    Args:
        lines: the file's lines, any number of times.
        path: for messages.
        tabs: whether the file's name says that tabs stand between its fields.

    Raises:
        DataError: two delimiters fit the few rows there are, or whatever `lines` raises.
    """
    sample, whole = _sample(lines())
    skip, own = 0, "\t" if tabs else ","
    if sample and (told := _SEP.fullmatch(sample[0])):
        skip, own = 1, told[1]
        del sample[0]
    order = tuple(dict.fromkeys((own, *_NAMES)))
    escaped = _escaped(sample, whole, order, path)
    if escaped is not None and _all_escapes(lines, escaped.dialect.delimiter):
        found = escaped
    else:
        plain = {mark: _read(Dialect(mark), sample, whole) for mark in order}
        found = _single_quoted(plain, sample, whole) or (plain[own] if skip else _choose(plain, own, sample, path))
    dialect = replace(found.dialect, skip=skip, known=_known(found.rows))
    if dialect.quote == '"' and dialect.delimiter == "\t" and dialect.escape is None:
        dialect = _tab_quotes(dialect, lines, path)
    return dialect


def _sample(lines: Iterator[str]) -> tuple[list[str], bool]:
    """The first lines, and whether these are all."""
    sample: list[str] = []
    characters = 0
    for line in itertools.islice(lines, SAMPLE):
        sample.append(line)
        characters += len(line)
        if characters > _SAMPLE_CHARACTERS:
            break
    whole = next(lines, None) is None
    lines.close()  # type: ignore[attr-defined]
    return sample, whole


def _read(dialect: Dialect, sample: list[str], whole: bool) -> _Reading:
    found = _Reading(dialect, quoted=any(f'{dialect.delimiter}"' in line for line in sample))
    reader = dialect.rows(sample)
    with long_fields():
        try:
            found.rows.extend(row for row in reader if not is_blank(row))
        except csv.Error:
            # A record that the sample's end cuts is no fault.
            found.broken = whole or reader.line_num < len(sample)
    if found.broken and dialect.delimiter == "\t" and dialect.quote is not None:
        # A file with tabs may do without quotes: what they mean is told later.
        return replace(_read(replace(dialect, quote=None), sample, whole), dialect=dialect)
    return found


def is_blank(row: list[str]) -> bool:
    """Whether a row is an empty line, or one of blanks."""
    return not row or (len(row) == 1 and not row[0].strip())


def _choose(plain: dict[str, _Reading], own: str, sample: list[str], path: Path) -> _Reading:
    """The reading whose rows all have the same number of fields, more than one."""
    fit = {
        mark: reading
        for mark, reading in plain.items()
        # A comma or semicolon that a blank always follows is a sentence's own, unless the file's name speaks for it.
        if reading.width > 1 and (mark == own or mark not in ",;" or reading.names or not reading.spaced)
    }
    if own in ",;" and own in fit and fit[own].prose:
        raise DataError(
            f"a {_NAMES.get(own, own)} stands in each row as in a sentence, and the first row names no columns",
            expected="a header, or texts between double quotes",
            remedy="a file whose lines are whole texts is named .txt",
            where=path,
        )
    if plain[own].width == 1:
        fit[own] = plain[own]
    if not fit:
        return _one_column(plain, own, sample) or _by_most_rows(plain, own)
    return _best(fit, own, path)


def _best(fit: dict[str, _Reading], own: str, path: Path) -> _Reading:
    """Of readings that fit, the one whose first row names columns, else the one that the file's name speaks for."""
    most = max(reading.names for reading in fit.values())
    chosen = [mark for mark, reading in fit.items() if reading.names == most]
    chosen.sort(key=lambda mark: (fit[mark].width == 1, mark != own))
    if len(chosen) > 1 and len(fit[chosen[0]].rows) < _FEW:
        raise DataError(
            "the delimiter cannot be told: each row has the same number of fields by either",
            received=" and ".join(_NAMES.get(mark, mark) for mark in chosen),
            remedy="put fields that hold a delimiter between double quotes, or a line such as sep=; before the others",
            where=path,
        )
    return fit[chosen[0]]


def _one_column(plain: dict[str, _Reading], own: str, sample: list[str]) -> _Reading | None:
    """The reading as a single column of texts with commas in them; None where it is no such file."""
    rows = plain[own].rows
    if not rows or len(rows[0]) != 1 or not is_column_name(rows[0][0]):
        return None
    if any(reading.broken or len(reading.rows[0]) != 1 for reading in plain.values() if reading.rows):
        return None
    if len(rows) > 2 and len({len(row) for row in rows[1:]}) == 1:
        return None  # every row has the same number of fields: the header lacks names
    absent = next((mark for mark in _NONE if not any(mark in line for line in sample)), _NONE[0])
    return _read(Dialect(absent), sample, whole=False)


def _by_most_rows(plain: dict[str, _Reading], own: str) -> _Reading:
    """Of readings none of which fits, the one that fits most rows: the reader will name the row that does not."""

    def fitting(mark: str) -> tuple[int, bool]:
        rows = plain[mark].rows
        return sum(len(row) == len(rows[0]) > 1 for row in rows), mark == own

    return plain[max(plain, key=fitting)]


def _single_quoted(plain: dict[str, _Reading], sample: list[str], whole: bool) -> _Reading | None:
    """The reading with single quotes, where these stand around every field of a column."""
    if not any("'" in line for line in sample):
        return None
    for mark in plain:
        found = _read(Dialect(mark, "'"), sample, whole)
        if found.width < 2 or len(found.rows) < 3:
            continue
        # The first row may be a header without quotes.
        records = list(_records(found.dialect, sample))[1:]
        columns = [column for column in range(found.width) if all(record[column][1] for record in records)]
        cells = [record[column][0] for record in records for column in columns]
        # Texts that merely happen to stand in quotes hold no delimiter: there have to be many of them.
        if columns and (len(records) >= _FEW or any(mark in cell for cell in cells)):
            return found
    return None


def _records(dialect: Dialect, sample: list[str]) -> Iterator[list[tuple[str, bool]]]:
    """The rows of a sample that reads well: each field, and whether it stands between quotes."""
    record = Recorded(iter(sample))
    with long_fields(), contextlib.suppress(csv.Error):
        for row in dialect.rows(record):
            text = "".join(record.take())
            if not is_blank(row):
                yield list(_tokens(dialect, text, row))


def _escape(mark: str) -> re.Pattern[str]:
    """Any pair of a backslash and what follows it; the group matches where that is no escape."""
    return re.compile(rf'\\(?:[{re.escape(mark)}"\\\r\n]|(.|$))')


def _escaped(sample: list[str], whole: bool, order: tuple[str, ...], path: Path) -> _Reading | None:
    """The reading in which a backslash takes a quote or delimiter literally, where every backslash does that.

    Raises:
        DataError: a line break is escaped too, in a way that the csv module does not read; or two delimiters fit.
    """
    text = "".join(sample)
    one: _Reading | None = None
    fit: dict[str, _Reading] = {}
    for mark in order:
        pairs = [match[0] for match in _escape(mark).finditer(text) if match[1] is None]
        if not any(pair[1] in (mark, '"') for pair in pairs) or not _all_escapes(lambda: iter(sample), mark):
            continue
        found = _read(Dialect(mark, '"', "\\"), sample, whole)
        if "\\\r\n" in text:
            raise DataError(
                "a line break of two characters is escaped by a backslash",
                expected="texts that hold line breaks between double quotes",
                where=path,
            )
        if found.width > 1:
            fit[mark] = found
        if found.width == 1 and one is None and (mark == order[0] or f"\\{mark}" in pairs):
            one = found
    return _best(fit, order[0], path) if fit else one


def _all_escapes(lines: Lines, mark: str) -> bool:
    pattern = _escape(mark)
    return not any(match[1] is not None for line in lines() if "\\" in line for match in pattern.finditer(line))


def _known(rows: list[list[str]]) -> tuple[frozenset[str], ...]:
    """Each column's values that are short and hold no line break: what a label column holds."""
    columns: list[set[str]] = [set() for _ in rows[0][:64]] if rows else []
    for row in rows[1:]:
        for seen, cell in zip(columns, row, strict=False):
            if 0 < len(cell) <= _SHORT and "\n" not in cell and len(seen) < _KEPT:
                seen.add(cell)
    return tuple(map(frozenset, columns))


def _tab_quotes(dialect: Dialect, lines: Lines, path: Path) -> Dialect:
    """Whether quotes in a file with tabs mean anything. Half of the world's TSV files know no quoting.

    Where every line has the right number of tabs, quotes are letters, unless they are as a program would write them:
    around every text of a column, the header's name too, or with inner quotes doubled within one line.

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
    found = _quoted_fields(dialect, lines)
    if found.broken:
        return letters
    if len(widths) > 1 or found.whole:
        return dialect
    if max(widths) == 1 and found.spanning and not found.doubled:
        raise DataError(
            f"a quote opened on this line is closed on line {found.spanning[1]}: are these one text or several?",
            remedy="put every text between double quotes if they are one; else remove the quote",
            where=f"{path}:{found.spanning[0]}",
        )
    if max(widths) == 1:
        return dialect
    if found.needless and not found.doubled and not found.spanning:
        return letters
    if found.spanning and not found.doubled:
        first, last = found.spanning
        note = f"quotes are read as letters: as quotes they would join lines {first} to {last}"
        return replace(letters, notes=(*dialect.notes, note))
    return dialect


@dataclass
class _Quoted:
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


def _quoted_fields(dialect: Dialect, lines: Lines) -> _Quoted:
    found = _Quoted()
    seen: dict[int, set[bool]] = {}
    record = Recorded(itertools.islice(lines(), dialect.skip, None))
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
                for column, (cell, quoted) in enumerate(_tokens(dialect, text, row)):
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


def _tokens(dialect: Dialect, text: str, row: list[str]) -> Iterator[tuple[str, bool]]:
    """Each field of a record, and whether it stands between quotes."""
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


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


class Recorded:
    """Lines that are kept until `take` is called, so that a record's own characters are known."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._taken: list[str] = []

    def __iter__(self) -> Recorded:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._taken.append(line)
        return line

    def take(self) -> list[str]:
        """The lines since the last call."""
        taken, self._taken = self._taken, []
        return taken


def joins_rows(dialect: Dialect, record: list[str], width: int) -> bool | None:
    """Whether a row of several lines looks like several rows that a stray quote joins.

    Args:
        record: the row's lines.
        width: fields of a row.

    Returns:
        True where each line has `width` fields, and one of those that would be swallowed has a value that other rows
        have in its column; None where the lines have `width` fields and no more is known; else False.
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
        swallowed = [row[column] for row in cells[1:-1]]
        if column > opened:
            swallowed.append(cells[0][column])
        if column < opened:
            swallowed.append(cells[-1][column])
        if any(cell in known for cell in swallowed if cell.strip()):
            return True
    return None
