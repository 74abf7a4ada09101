"""Writing rows one by one as CSV, JSONL or Parquet. Files are written whole or not at all."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import IO, Any

from ..artifact.layout import ITEMS, MANIFEST
from ..data.table import shown
from ..errors import DataError, InputError
from ..storage.atomic import atomic_file
from .cells import csv_cell, json_text
from .formula_guard import Guard, escape_formula, guard_nothing
from .onnx_spec import ITEMS as ONNX_ITEMS
from .onnx_spec import is_onnx_folder
from .output_blocks import Newlines, arrow_block, write_parquet

# Rows of one Parquet row group: bounds memory, whatever the file's size.
CHUNK = 8192


def output_form(path: str | Path, form: str | None = None, source: str | Path | None = None) -> str:
    """The form of an output file: `form`, otherwise by the path's ending.

    Args:
        source: the input file, which must not be overwritten.

    Raises:
        InputError: for an ending that names no known form, a path that is no regular file, a read-only file, the source
            itself, or a file of a saved or exported classifier.
    """
    path = Path(path)
    form = form or path.suffix.removeprefix(".").lower()
    if form not in ("csv", "jsonl", "parquet"):
        raise InputError(
            "unknown output form",
            where=path,
            expected="a name ending in .csv, .jsonl or .parquet, or --format",
            received=path.name,
        )
    if _is_special(path):
        raise _no_file(path)
    if source is not None and os.path.exists(path) and os.path.exists(source) and path.samefile(source):
        raise overwrites_input(path)
    if _is_in_classifier(path):
        raise InputError("the output would overwrite the classifier", where=path, remedy="give --out another name")
    if os.path.exists(path) and not os.access(path, os.W_OK):
        # Renaming would replace it all the same: that takes no permission but the folder's.
        raise InputError("the file is read-only", where=path, remedy="make it writable, or give --out another name")
    return form


def overwrites_input(path: Path) -> InputError:
    """The error for an output file that is the input."""
    return InputError("the output would overwrite the input", where=path, remedy="give --out another name")


def _is_in_classifier(path: Path) -> bool:
    """Whether a path is one of the files, or in one of the folders, of a saved or exported classifier."""
    real = Path(os.path.realpath(path))
    for folder in real.parents:
        item = real.relative_to(folder).parts[0]
        if (item in ITEMS and os.path.isfile(folder / MANIFEST)) or (item in ONNX_ITEMS and is_onnx_folder(folder)):
            return True
    return False


def follow_links(path: str | Path) -> Path:
    """The file that an output goes to: what a link leads to is written or replaced, and the link stays.

    Raises:
        InputError: links that lead to each other, or to a device; a name that says folder.
    """
    if str(path).endswith("/"):
        raise InputError("this is the name of a folder", where=path, remedy="add the name of a file in it")
    path = found = Path(path)
    if _is_special(path):  # /dev/fd/1 is a link, too
        raise _no_file(path)
    for _ in range(40):  # as many as Linux follows
        if not found.is_symlink():
            return found
        found = found.parent / os.readlink(found)
        if _is_special(found):
            raise _no_file(path)
    raise InputError("the links lead to each other", where=path, remedy="give --out another name")


def _is_special(path: Path) -> bool:
    """Whether a path is no regular file, nor one to be: a folder, a device, a link to one (/dev/stdout).

    Writing aside and renaming would put a file in its place.
    """
    first, second = [*Path(os.path.abspath(path)).parts[1:3], "", ""][:2]
    system = first in ("dev", "proc", "sys") and (first, second) != ("dev", "shm")
    return system or (os.path.exists(path) and not os.path.isfile(path))


def _no_file(path: Path) -> InputError:
    return InputError("not a regular file", where=path, remedy="to write to standard output, leave out --out")


def write_file(
    rows: Iterable[dict[str, Any]],
    path: str | Path,
    form: str | None = None,
    *,
    delimiter: str = "|",
    guard: Guard = guard_nothing,
    types: dict[str, Any] | None = None,
) -> int:
    """Write rows to a file, whole or not at all.

    Args:
        form: csv, jsonl or parquet; otherwise by the path's ending.
        delimiter, guard: as for `write_lines`.
        types: Arrow types of the input's columns, if known; Parquet keeps them.

    Returns:
        The number of rows.

    Raises:
        InputError: as `output_form`.
        DataError: as `write_lines`.
    """
    form = output_form(path, form)
    with atomic_file(path) as aside:
        if form == "parquet":
            return _write_parquet(rows, aside, types or {})
        # A lone surrogate comes out as the escape that JSON has for it.
        with aside.open("w", encoding="utf-8", errors="backslashreplace", newline="") as handle:
            return write_lines(rows, handle, form, delimiter=delimiter, guard=guard)


def write_lines(
    rows: Iterable[dict[str, Any]],
    handle: IO[str],
    form: str,
    *,
    flush: bool = False,
    delimiter: str = "|",
    guard: Guard = guard_nothing,
) -> int:
    """Write rows to an open text handle as CSV or JSONL; NaN becomes an empty cell, or null.

    Args:
        flush: after each row.
        delimiter: joins the labels in a cell of CSV. Other lists, and objects, are written as JSON.
        guard: the columns of CSV in which formulas are escaped.

    Returns:
        The number of rows.

    Raises:
        DataError: a row of CSV has a field that the first row lacks: the header is already written.
    """
    writer: Any = None
    names: list[str] = []
    count = 0
    for count, row in enumerate(rows, start=1):
        if form == "csv":
            if writer is None:
                writer, names = csv.writer(Newlines(handle), lineterminator="\r\n"), list(row)
                writer.writerow([escape_formula(name) if guard(name) else name for name in names])
            if not row.keys() <= set(names):
                raise DataError(
                    f"row {count:,} has fields that the first row lacks",
                    expected=", ".join(map(shown, names)),
                    received=", ".join(shown(name) for name in row if name not in names),
                    remedy="write JSONL: --format jsonl",
                )
            cells = {name: csv_cell(value, delimiter) for name, value in row.items()}
            writer.writerow([escape_formula(cells.get(name)) if guard(name) else cells.get(name) for name in names])
        else:
            handle.write(json_text(row) + "\n")
        if flush:
            handle.flush()
    return count


def _write_parquet(rows: Iterable[dict[str, Any]], path: Path, types: dict[str, Any]) -> int:
    """Write rows in blocks, kept as Arrow next to the file until the types of all are known."""
    iterator = iter(rows)
    ends = [0]
    count = 0
    with path.with_name(f"{path.name[:100]}.blocks").open("w+b") as held:
        while block := list(islice(iterator, CHUNK)):
            names = dict.fromkeys(name for row in block for name in row)
            held.write(arrow_block({name: [row.get(name) for row in block] for name in names}, types))
            ends.append(held.tell())
            count += len(block)
        held.flush()
        write_parquet(lambda: parts_of(held, ends), path)
    return count


def parts_of(held: IO[bytes], ends: Sequence[int]) -> Iterator[bytes]:
    """The parts of a file, read one by one.

    Args:
        ends: 0, and where each part ends, in bytes.
    """
    for start, end in pairwise(ends):
        held.seek(start)
        yield held.read(end - start)
