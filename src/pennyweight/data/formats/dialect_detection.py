"""How a delimited file is written, detected from its content: the delimiter, the quotes, backslash escapes."""

from __future__ import annotations

import contextlib
import csv
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...errors import DataError
from ..columns import is_column_name
from .dialect import Dialect, Lines, RecordedLines, is_blank, long_fields, split_fields
from .quoting import all_escapes, escape_pattern, refuse_escaped_breaks, resolve_tab_quotes

# What is looked at before the file is read: so many lines, and no more characters than that.
SAMPLE, _SAMPLE_CHARACTERS = 1_000, 8 << 20

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
# Delimiters for a file that has none; the first that does not occur is taken.
_ABSENT = ("\x1f", "\x1e", "\x1d", "\x1c")
# Excel's own line about the delimiter, before the header.
_SEP = re.compile(r'"?sep=(.)"?[\r\n]*', re.IGNORECASE)
# With fewer rows than this, two delimiters may both fit by coincidence.
_FEW = 10
# Cells this short are kept, to recognise them where a stray quote joins lines.
_SHORT, _KEPT = 40, 500
# What a part of a sentence has at least, in characters, on average.
_PART = 10


@dataclass
class _Candidate:
    """The sample, read in one way."""

    dialect: Dialect
    rows: list[list[str]] = field(default_factory=list)
    broken: bool = False
    quoted: bool = False
    unquoted: bool = False  # read again without quotes, since with them it was broken

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
        tabs: whether the file's name says that tabs separate its fields.

    Raises:
        DataError: two delimiters fit the few rows there are, or whatever `lines` raises.
    """
    sample, whole = _take_sample(lines())
    skip, own = 0, "\t" if tabs else ","
    if sample and (match := _SEP.fullmatch(sample[0])):
        skip, own = 1, match[1]
        del sample[0]
    order = tuple(dict.fromkeys((own, *_DELIMITERS)))
    escaped = _read_escaped(sample, whole, order, path)
    if escaped is not None and all_escapes(lines, escaped.dialect.delimiter):
        found = escaped
    else:
        plain = {mark: _read_sample(Dialect(mark), sample, whole) for mark in order}
        found = _read_single_quoted(plain, sample, whole) or (plain[own] if skip else _choose(plain, own, sample, path))
    dialect = replace(found.dialect, skip=skip, known=_short_values(found.rows))
    if found.rows and len(found.rows[0]) == 1 and dialect.escape is None:
        refuse_escaped_breaks(dialect, own, lines, path)
    if dialect.quote == '"' and dialect.delimiter == "\t" and dialect.escape is None:
        dialect = resolve_tab_quotes(dialect, lines, path)
    return dialect


def _take_sample(lines: Iterator[str]) -> tuple[list[str], bool]:
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


def _read_sample(dialect: Dialect, sample: list[str], whole: bool) -> _Candidate:
    found = _Candidate(dialect, quoted=any(f'{dialect.delimiter}"' in line for line in sample))
    reader = dialect.rows(sample)
    with long_fields():
        try:
            found.rows.extend(row for row in reader if not is_blank(row))
        except csv.Error:
            # A record that the sample's end cuts is no fault.
            found.broken = whole or reader.line_num < len(sample)
    if found.broken and dialect.delimiter == "\t" and dialect.quote is not None:
        # A file with tabs may do without quotes: what they mean is resolved later.
        return replace(_read_sample(replace(dialect, quote=None), sample, whole), dialect=dialect, unquoted=True)
    return found


def _choose(plain: dict[str, _Candidate], own: str, sample: list[str], path: Path) -> _Candidate:
    """The candidate whose rows all have the same number of fields, more than one."""
    fit = {
        mark: candidate
        for mark, candidate in plain.items()
        # A comma or semicolon that a blank always follows belongs to a sentence, unless the file's name promises it.
        if candidate.width > 1 and (mark == own or mark not in ",;" or candidate.names or not candidate.spaced)
    }
    if own in ",;" and own in fit and fit[own].prose:
        raise DataError(
            f"a {_DELIMITERS.get(own, own)} occurs in every row but may be part of the text, and the first "
            "row has no column names",
            expected="a header, or texts in double quotes",
            remedy="if each line is one text, name the file .txt",
            where=path,
        )
    if plain[own].width == 1:
        fit[own] = plain[own]
    if not fit:
        return _read_one_column(plain, own, sample) or _fits_most_rows(plain, own)
    return _best(fit, own, path)


def _best(fit: dict[str, _Candidate], own: str, path: Path) -> _Candidate:
    """Of candidates that fit, the one whose first row names columns, else the one that the file's name promises."""
    most = max(candidate.names for candidate in fit.values())
    chosen = [mark for mark, candidate in fit.items() if candidate.names == most]
    chosen.sort(key=lambda mark: (fit[mark].width == 1, mark != own))
    if len(chosen) > 1 and len(fit[chosen[0]].rows) < _FEW:
        raise DataError(
            "the delimiter is ambiguous: each row has the same number of fields with either",
            received=" and ".join(_DELIMITERS.get(mark, mark) for mark in chosen),
            remedy="put fields that contain a delimiter in double quotes, or add a first line such as sep=;",
            where=path,
        )
    return fit[chosen[0]]


def _read_one_column(plain: dict[str, _Candidate], own: str, sample: list[str]) -> _Candidate | None:
    """The sample as a single column of texts with commas in them; None if it is no such file."""
    rows = plain[own].rows
    if not rows or len(rows[0]) != 1 or not is_column_name(rows[0][0]):
        return None
    if any(candidate.broken or len(candidate.rows[0]) != 1 for candidate in plain.values() if candidate.rows):
        return None
    if len(rows) > 2 and len({len(row) for row in rows[1:]}) == 1:
        return None  # every row has the same number of fields: the header lacks names
    absent = next((mark for mark in _ABSENT if not any(mark in line for line in sample)), _ABSENT[0])
    return _read_sample(Dialect(absent), sample, whole=False)


def _fits_most_rows(plain: dict[str, _Candidate], own: str) -> _Candidate:
    """Of candidates none of which fits, the one that fits most rows: the reader will name the row that does not."""

    def fitting(mark: str) -> tuple[int, bool]:
        rows = plain[mark].rows
        return sum(len(row) == len(rows[0]) > 1 for row in rows), mark == own

    return plain[max(plain, key=fitting)]


def _read_single_quoted(plain: dict[str, _Candidate], sample: list[str], whole: bool) -> _Candidate | None:
    """The sample read with single quotes, where every field of a column is in them."""
    if not any("'" in line for line in sample):
        return None
    for mark in plain:
        found = _read_sample(Dialect(mark, "'"), sample, whole)
        if found.width < 2 or len(found.rows) < 3:
            continue
        # The first row may be a header without quotes.
        records = list(_quoted_records(found.dialect, sample))[1:]
        columns = [column for column in range(found.width) if all(record[column][1] for record in records)]
        cells = [record[column][0] for record in records for column in columns]
        # Texts that merely happen to be quoted hold no delimiter: there have to be many of them.
        if columns and (len(records) >= _FEW or any(mark in cell for cell in cells)):
            return found
    return None


def _quoted_records(dialect: Dialect, sample: list[str]) -> Iterator[list[tuple[str, bool]]]:
    """The rows of a sample that reads well: each field, and whether it is quoted."""
    record = RecordedLines(iter(sample))
    with long_fields(), contextlib.suppress(csv.Error):
        for row in dialect.rows(record):
            text = "".join(record.take())
            if not is_blank(row):
                yield list(split_fields(dialect, text, row))


def _read_escaped(sample: list[str], whole: bool, order: tuple[str, ...], path: Path) -> _Candidate | None:
    """The sample read so that a backslash takes a quote or delimiter literally, where every backslash does that.

    Raises:
        DataError: a line break is escaped too, in a way that the csv module does not read; or two delimiters fit.
    """
    text = "".join(sample)
    one: _Candidate | None = None
    fit: dict[str, _Candidate] = {}
    for mark in order:
        pairs = [match[0] for match in escape_pattern(mark).finditer(text) if match[1] is None]
        if not any(pair[1] in (mark, '"') for pair in pairs) or not all_escapes(lambda: iter(sample), mark):
            continue
        found = _read_sample(Dialect(mark, '"', "\\"), sample, whole)
        if found.unquoted:  # a backslash before a closing quote may be the field's last character
            plain = _read_sample(Dialect(mark), sample, whole)
            if plain.width == found.width and not plain.unquoted:
                continue
        if "\\\r\n" in text:
            raise DataError(
                "a backslash escapes a line break of two characters (CR LF)",
                expected="texts with line breaks in double quotes",
                where=path,
            )
        if found.width > 1:
            fit[mark] = found
        if found.width == 1 and one is None and (mark == order[0] or f"\\{mark}" in pairs):
            one = found
    return _best(fit, order[0], path) if fit else one


def _short_values(rows: list[list[str]]) -> tuple[frozenset[str], ...]:
    """Each column's values that are short and hold no line break: what a label column holds."""
    columns: list[set[str]] = [set() for _ in rows[0][:64]] if rows else []
    for row in rows[1:]:
        for seen, cell in zip(columns, row, strict=False):
            if 0 < len(cell) <= _SHORT and "\n" not in cell and len(seen) < _KEPT:
                seen.add(cell)
    return tuple(map(frozenset, columns))
