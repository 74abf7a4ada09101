"""Answers on their way out: CSV, JSONL or Parquet, whole or not at all; and the lines of a stream on their way in."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

from .errors import DataError, InputError
from .files import atomic_file

# Rows of one Parquet row group: bounds memory, whatever the file's size.
CHUNK = 8192


def check_target(path: str | Path, form: str | None = None, source: str | Path | None = None) -> str:
    """The form of an output file: `form`, else by the path's ending.

    Args:
        source: what the answers are made of; they must not take its place.

    Raises:
        InputError: for an ending that names no known form, a path that is no regular file, or the source itself.
    """
    path = Path(path)
    form = form or path.suffix.removeprefix(".")
    if form not in ("csv", "jsonl", "parquet"):
        raise InputError(
            "unknown output form",
            where=path,
            expected="a name ending in .csv, .jsonl or .parquet, or --format",
            received=path.name,
        )
    special = os.path.exists(path) and not os.path.isfile(path)
    if special or path.absolute().parts[1] in ("dev", "proc", "sys"):
        # Writing aside and renaming would put a file where a device (or a link to one: /dev/stdout) is.
        raise InputError("not a regular file", where=path, remedy="leave out --out to write to standard output")
    if source is not None and os.path.exists(path) and os.path.exists(source) and path.samefile(source):
        raise InputError("the answers would take the place of the texts", where=path, remedy="give --out another name")
    return form


def write(answers: Iterable[dict[str, Any]], path: str | Path, form: str | None = None, delimiter: str = "|") -> int:
    """Write answers as CSV, JSONL or Parquet (by `form` or the path's ending); whole or not at all.

    Args:
        delimiter: what joins a list in a cell of a CSV file.

    Returns:
        The number of rows.

    Raises:
        InputError: for an ending that names no known form.
    """
    form = check_target(path, form)
    with atomic_file(path) as aside:
        if form == "parquet":
            return _write_parquet(answers, aside)
        with aside.open("w", encoding="utf-8", newline="") as handle:
            return write_lines(answers, handle, form, delimiter=delimiter)


def write_lines(
    answers: Iterable[dict[str, Any]], handle: IO[str], form: str, flush: bool = False, delimiter: str = "|"
) -> int:
    """Write answers to an open text handle as CSV (lists joined with `delimiter`) or JSONL."""
    writer: Any = None
    count = 0
    for row in answers:
        if form == "csv":
            if writer is None:
                writer = csv.DictWriter(handle, list(row), lineterminator="\n")
                writer.writeheader()
            cells = {key: delimiter.join(held) if isinstance(held, list) else held for key, held in row.items()}
            writer.writerow({key: neutral(value) for key, value in cells.items()})
        else:
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")
        if flush:
            handle.flush()
        count += 1
    return count


def neutral(value: Any) -> Any:
    """A spreadsheet runs cells that begin with = + - @: such text gets a leading apostrophe.

    Source: https://owasp.org/www-community/attacks/CSV_Injection
    """
    return "'" + value if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _write_parquet(answers: Iterable[dict[str, Any]], path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    iterator = iter(answers)
    count = 0
    writer: Any = None
    try:
        while block := list(islice(iterator, CHUNK)):
            batch = pa.Table.from_pylist(block, schema=None if writer is None else writer.schema)
            if writer is None:
                # A block without a single label would not say what its lists are of.
                strings = pa.list_(pa.string())
                kinds = [pa.field(one.name, strings) if pa.types.is_list(one.type) else one for one in batch.schema]
                batch = batch.cast(pa.schema(kinds))
                writer = pq.ParquetWriter(path, batch.schema)
            writer.write_table(batch)
            count += len(block)
    finally:
        if writer is not None:
            writer.close()
    return count


def utf8_lines(handle: IO[bytes], source: str) -> Iterator[str]:
    """The lines of a byte stream as they arrive.

    Raises:
        DataError: naming the line that is not UTF-8.
    """
    for number, line in enumerate(handle, start=1):
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"byte 0x{line[error.start]:02X} is not UTF-8", where=f"{source}:{number}", expected="UTF-8"
            ) from None
