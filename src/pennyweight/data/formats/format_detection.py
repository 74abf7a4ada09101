"""The format of a file: given by the caller, or detected from its first bytes, its name or its lines, in this order."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from pathlib import Path, PurePosixPath
from typing import Literal

from ...errors import DataError
from ..columns import is_id_name, is_label_name, is_text_name
from ..file_options import AS_NAMED, FileOptions
from ..file_streams import open_bytes
from ..table import shown
from . import compression

#: The formats a user may name; `pickle` is detected by its bytes or its name.
Format = Literal["csv", "tsv", "jsonl", "json", "parquet", "arrow", "xlsx", "fasttext", "trec", "txt", "pickle"]

ENDINGS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".pkl": "pickle",
    ".pickle": "pickle",
}
#: Endings of text files of any format: their lines say which.
TEXTS = ("", ".txt", ".text", ".label", ".labels", ".data", ".dat", ".train", ".test", ".valid", ".dev", ".ft")
#: Endings of what is not read, so that a missing one is not looked for on the hub.
OTHERS = (".xls", ".xlsb", ".ods", ".zst", ".7z", ".tar", ".tgz", ".db", ".sqlite", ".docx", ".xml", ".html", ".pdf")

_KINDS: tuple[tuple[bytes, Format], ...] = (
    (b"PAR1", "parquet"),
    (b"ARROW1\0\0", "arrow"),
    (b"\xff\xff\xff\xff", "arrow"),  # an Arrow stream: the mark, and below it a length
)
_TABLE = "save it as CSV, JSONL or Parquet"
_REFUSED: tuple[tuple[bytes, str, str], ...] = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook (.xls), or one with a password",
     "save it as .xlsx without a password, or as CSV"),
    (b"SQLite format 3\0", "an SQLite database",
     'export the table: sqlite3 -header -csv FILE "select * from TABLE" > data.csv'),
    (b"FEA1", "a Feather file of version 1", "write it again with a current pandas or pyarrow: to_parquet"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "decompress it: zstd -d FILE"),
    (b"\x1f\x8b", "compressed twice", "decompress it once"),
    (b"PK\x03\x04", "an archive in an archive", "unpack it and name the file"),
    (b"%PDF-", "a PDF document", _TABLE),
    (b"ORC", "an ORC file", _TABLE),
    (b"Obj\x01", "an Avro file", _TABLE),
    (b"\x89HDF\r\n", "an HDF5 file", _TABLE),
    (b"\x93NUMPY", "a NumPy array", _TABLE),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it and name the file"),
    (b"Rar!\x1a", "a RAR archive", "unpack it and name the file"),
    (b"{\\rtf", "an RTF document", _TABLE),
)  # fmt: skip
_PACKAGES = (
    ("xl/workbook.bin", "a binary Excel workbook (.xlsb)", "save it as .xlsx or CSV"),
    ("word/document.xml", "a Word document", _TABLE),
    ("ppt/presentation.xml", "a PowerPoint document", _TABLE),
    ("content.xml", "an OpenDocument file (.ods, .odt)", "save its table as .xlsx or CSV"),
)

#: How much of a file is looked at.
_HEAD = 1 << 20
_LINES = 200
TREC = re.compile(r"[A-Z][A-Z0-9_/&-]*:[\w/-]+ \S")
FASTTEXT = "__label__"


def ending(name: str) -> str:
    """The ending that says what a file's content is, in small letters; that of its compression aside."""
    path = PurePosixPath(name)
    return next(
        (end for end in reversed([each.lower() for each in path.suffixes]) if end not in compression.ENDINGS), ""
    )


def is_file_name(name: str) -> bool:
    """Whether a name has the ending of a data file (and so is not the name of a dataset on the hub)."""
    end = ending(name)
    return end in ENDINGS or end in OTHERS or (bool(end) and end in TEXTS) or Path(name).suffix in compression.ENDINGS


def detect_format(path: Path, max_bytes: int, options: FileOptions = AS_NAMED) -> Format:
    """The format of a file.

    Raises:
        DataError: a format that is not read (with what to do instead), or content that may be of several formats.
    """
    if options.format is not None:
        return options.format  # type: ignore[return-value]
    end = ending(compression.inner_name(path) if path.is_file() else path.name)
    by_name = ENDINGS.get(end)
    if not path.is_file():  # a pipe can be read only once
        if by_name is None:
            raise _unknown(path, "its name")
        return by_name
    with open_bytes(path, max_bytes) as stream:
        head = stream.read(_HEAD)
    known = _by_bytes(path, head)
    return known or by_name or _by_lines(path, head, end, options)


def _by_bytes(path: Path, head: bytes) -> Format | None:
    """The format that the first bytes say, None if they may be text.

    Raises:
        DataError: they say one that is not read.
    """
    if head.startswith(b"PK") and compression.is_package(path):
        held = compression.list_archive(path)
        if "xl/workbook.xml" in held:
            return "xlsx"
        for name, what, remedy in _PACKAGES:
            if name in held:
                raise _refused(path, what, remedy)
    for mark, form in _KINDS:
        if head.startswith(mark):
            return form
    if re.match(rb"\x80[\x02-\x05]", head):
        return "pickle"
    for mark, what, remedy in _REFUSED:
        # A text may begin with such letters; it holds no NUL.
        if head.startswith(mark) and (b"\0" in head or not mark.isalnum()):
            raise _refused(path, what, remedy)
    if head[257:262] == b"ustar":
        raise _refused(path, "a tar archive", "unpack it and name the file")
    return None


def _by_lines(path: Path, head: bytes, end: str, options: FileOptions) -> Format:
    """The format that the first lines say."""
    lines = [line for line in _decoded(path, head, options).splitlines() if line.strip()][:_LINES]
    first = lines[0].lstrip() if lines else ""
    if re.match(r"<(\?xml|!doctype|html|[a-z]+[ >])", first, re.IGNORECASE) and lines[-1].rstrip().endswith(">"):
        raise _refused(path, "an XML or HTML document", _TABLE)
    if first.startswith(("{", "[")) and _is_json(lines):
        return "json"
    if sum(line.startswith(FASTTEXT) for line in lines) > len(lines) / 2:
        return "fasttext"
    if sum(bool(TREC.match(line)) for line in lines) > 0.9 * len(lines):
        return "trec"
    tabs = {line.count("\t") for line in lines}
    if len(tabs) == 1 and tabs != {0}:
        return "tsv"
    table = _is_table(lines)
    if table:
        return "csv"
    if table is None:
        raise DataError(
            "the lines may be a table or plain text",
            received=shown(first),
            remedy="choose with --format csv or --format txt",
            where=path,
        )
    if end in TEXTS:
        return "txt"
    raise _unknown(path, f"its name ({path.name}) or its content")


def _decoded(path: Path, head: bytes, options: FileOptions) -> str:
    for mark in (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        if head.startswith(mark):
            encoding = options.encoding or ("utf-8" if mark == codecs.BOM_UTF8 else "utf-16")
            break
    else:
        encoding = options.encoding or "utf-8"
    try:
        text = head.decode(encoding, "replace").removeprefix("\ufeff")
    except LookupError as error:
        raise DataError("no such character encoding", received=encoding, where=path) from error
    if "\0" in text:
        raise _unknown(path, "its name, and its content is binary")
    return text


def _is_json(lines: list[str]) -> bool:
    """Whether lines that begin with a bracket are JSON, complete or cut off, and not a text such as "[sic] ..."."""
    first = lines[0].strip()
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return bool(re.match(r'\{\s*("|\}|$)|\[\s*(["{\[\]]|-?\d|$)', first))
    return True


def _is_table(lines: list[str]) -> bool | None:
    """Whether lines are a table with a delimiter: by its header's words; None if only its shape looks like one."""
    for delimiter in (",", ";", "|"):
        try:
            rows = [row for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter, strict=True) if row]
        except csv.Error:
            continue
        width = len(rows[0]) if rows else 0
        if width < 2:
            continue
        known = [cell for cell in rows[0] if is_text_name(cell) or is_label_name(cell)]
        if known and len(known) + sum(map(is_id_name, rows[0])) >= 2:
            return True
        even = all(len(row) == width for row in rows)
        if len(rows) > 3 and even and (known or any(map(_few, zip(*rows, strict=True)))):
            return None
    return False


def _few(cells: tuple[str, ...]) -> bool:
    """Whether cells look like labels: short, and few different ones. In prose a comma has a blank behind it."""
    short = all(0 < len(cell.strip()) <= 40 and not cell[0].isspace() for cell in cells)
    return short and len(set(cells)) <= len(cells) / 2


def _refused(path: Path, what: str, remedy: str) -> DataError:
    return DataError(f"the file is {what}, which is not supported", expected=known_formats(), remedy=remedy, where=path)


def _unknown(path: Path, by: str) -> DataError:
    return DataError(
        f"cannot detect the file's format from {by}",
        expected=known_formats(),
        remedy="name it with --format (predict: --input-format), or rename the file",
        where=path,
    )


def known_formats() -> str:
    """The formats, for a message."""
    return (
        "CSV, TSV, JSON, JSON lines, Parquet, Arrow, .xlsx, fastText, TREC or plain lines, "
        "or one of these compressed (.gz, .bz2, .xz, .zip)"
    )
