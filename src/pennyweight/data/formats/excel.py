"""Excel workbooks (.xlsx): the first sheet with cells, its first row as the header."""

from __future__ import annotations

import datetime
import io
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..file_options import AS_NAMED, FileOptions
from ..file_streams import BOMB_FLOOR, BOMB_RATIO, read_bytes
from ..table import Columns, listed, shown
from .compression import DAMAGED

_CHUNK = 1 << 20
# XML bombs need a document type. No workbook has one.
_DOCTYPES = tuple(mark.encode(encoding) for mark in ("<!DOCTYPE", "<!ENTITY") for encoding in ("utf-8", "utf-16-le",
                                                                                            "utf-16-be"))  # fmt: skip

Row = tuple[int, list[Any]]


def read_excel(path: Path, max_bytes: int, options: FileOptions = AS_NAMED) -> Columns:
    """Read the first sheet of a workbook that holds anything; formulas by the values they were saved with.

    Empty rows and columns are skipped. Rows are numbered as the sheet numbers them. Numbers in a column that
    holds strings too become strings, dates become ISO 8601; errors such as #N/A are missing. A first row with
    anything but words in it is data: then the columns are `column 1`, `column 2`...

    Raises:
        DataError: not a workbook, damaged, empty, too large, or a column named twice.
    """
    content = read_bytes(path, max_bytes)
    _check_archive(content, path, max_bytes)
    import openpyxl

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and extensions, which are not read
            with closing(openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True,
                                                keep_links=False)) as book:  # fmt: skip
                sheets = [(sheet.title, rows) for sheet in book.worksheets if (rows := list(_rows(sheet)))]
    except Exception as error:  # XML, zip, keys, styles: a damaged workbook fails in many ways
        raise DataError(
            "cannot be read as an Excel workbook: damaged",
            received=f"{type(error).__name__}: {shown(str(error), 160)}",
            remedy="save it again in Excel, or save it as CSV",
            where=path,
        ) from error
    if not sheets:
        raise DataError("the workbook is empty", expected="a header and rows", where=path)
    title, rows = sheets[0]
    others = listed(name for name, _ in sheets[1:])
    notes = (f"read sheet {shown(title)}, and not {others}",) if len(sheets) > 1 else ()
    return _columns(rows, path, options, notes)


def _check_archive(content: bytes, path: Path, max_bytes: int) -> None:
    """Refuse a workbook that expands to far more than its size, or that defines entities."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(info.file_size for info in archive.infolist())
            if size > min(max_bytes, max(BOMB_FLOOR, BOMB_RATIO * len(content))):
                raise DataError(
                    "the workbook looks like a decompression bomb",
                    expected=f"at most {BOMB_RATIO} times its {len(content):,} bytes",
                    remedy="if you trust the file, save them as CSV",
                    where=path,
                )
            for name in archive.namelist():
                if name.endswith((".xml", ".rels")):
                    with archive.open(name) as part:
                        _check_part(part, name, path)
    except (*DAMAGED, RuntimeError, ValueError, OSError) as error:
        raise DataError(
            "cannot be read as an Excel workbook: damaged, or another format",
            received=f"{type(error).__name__}: {shown(str(error), 160)}",
            remedy="save it again in Excel, or save it as CSV",
            where=path,
        ) from error


def _check_part(part: Any, name: str, path: Path) -> None:
    end = b""
    while block := part.read(_CHUNK):
        if any(mark in end + block for mark in _DOCTYPES):
            raise DataError("the workbook defines XML entities", received=name, remedy="save it as CSV", where=path)
        end = block[-32:]


def _rows(sheet: Any) -> Iterator[Row]:
    """The rows with any value, each with its number in the sheet."""
    sheet.reset_dimensions()  # what the file says of its own size is often wrong
    for number, cells in enumerate(sheet.iter_rows(), start=1):
        row = [None if cell.value is None or cell.data_type == "e" else _value(cell.value) for cell in cells]
        if any(value is not None and value != "" for value in row):
            yield number, row


def _value(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat()
    return value if isinstance(value, (str, int, float)) else str(value)


def _columns(rows: list[Row], path: Path, options: FileOptions, notes: tuple[str, ...]) -> Columns:
    line, first = rows[0]
    named = (
        all(value is None or isinstance(value, str) for value in first) if options.header is None else options.header
    )
    width = max(len(row) for _, row in rows)
    rows = [(number, row + [None] * (width - len(row))) for number, row in rows]
    header = rows.pop(0)[1] if named else [None] * width
    columns = [[row[place] for _, row in rows] for place in range(width)]
    used = [place for place in range(width) if header[place] is not None or any(map(_given, columns[place]))]
    names = [str(header[place]).strip() if header[place] is not None else f"column {place + 1}" for place in used]
    if not rows:
        raise DataError("the sheet has a header but no rows", received=f"columns {listed(names)}", where=path)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"the header names a column twice: {listed(twice)}", remedy="rename one of them",
            where=f"{path} row {line}",
        )  # fmt: skip
    values = {name: _of_one_kind(columns[place]) for name, place in zip(names, used, strict=True)}
    return Columns(values, [number for number, _ in rows], str(path), unit="row", named=named, notes=notes)


def _given(value: Any) -> bool:
    return value is not None and value != ""


def _of_one_kind(column: list[Any]) -> list[Any]:
    """A spreadsheet turns the text 911 into a number; beside strings it becomes one again."""
    if not any(isinstance(value, str) for value in column):
        return column
    return [value if value is None or isinstance(value, str) else _written(value) for value in column]


def _written(value: Any) -> str:
    """A number or truth value as the sheet shows it."""
    if isinstance(value, bool):
        return str(value).upper()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
