"""Labelled texts from any source: a file, a saved dataset, the hub, Python objects or a stream of lines."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import DataError
from .columns import choose_text_columns
from .file_options import AS_NAMED, MAX_BYTES, FileOptions
from .file_streams import check_compressed, is_compressed, is_pipe, suggest_names
from .formats.columnar import read_arrow, read_hub, read_parquet
from .formats.delimited import read_delimited
from .formats.excel import read_excel
from .formats.folder import read_folder
from .formats.format_detection import Format, detect_format, is_file_name
from .formats.json_lines import read_json, stream_records
from .formats.pickled import read_pickle
from .formats.plain_text import read_plain
from .formats.python_objects import python_columns
from .formats.two_files import as_two_files, read_two_files
from .input_spec import InputSpec
from .pairs import join_pair, pair_columns
from .table import Columns, Table, shown
from .table_builder import build_table, check_length, check_text

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")

#: One reader a format; any of them also compressed.
_READERS: dict[Format, Callable[[Path, int, FileOptions, str], Columns]] = {
    "csv": lambda path, most, options, split: read_delimited(path, most, options),
    "tsv": lambda path, most, options, split: read_delimited(path, most, options, tabs=True),
    "json": lambda path, most, options, split: read_json(path, most, options, split=split),
    "jsonl": lambda path, most, options, split: read_json(path, most, options, split=split, by_name=True),
    "parquet": lambda path, most, options, split: read_parquet(path, most, options),
    "arrow": lambda path, most, options, split: read_arrow(path, most, options),
    "xlsx": lambda path, most, options, split: read_excel(path, most, options),
    "fasttext": lambda path, most, options, split: read_plain(path, most, "fasttext", options),
    "trec": lambda path, most, options, split: read_plain(path, most, "trec", options),
    "txt": lambda path, most, options, split: read_plain(path, most, "txt", options),
    "pickle": lambda path, most, options, split: read_pickle(path, split, most),
}


def read(
    source: str | Path,
    input_spec: InputSpec | None = None,
    *,
    labelled: bool | None = True,
    split: str = "train",
    allow_null: bool = False,
    options: FileOptions = AS_NAMED,
    max_bytes: int = MAX_BYTES,
) -> Table:
    """Read a table of texts.

    Args:
        source: a file of CSV, TSV, JSON, JSON lines, Parquet, Arrow, Excel (.xlsx), fastText, TREC or plain lines,
            detected by its bytes, its name or its lines, and compressed or not (.gz, .bz2, .xz, .zip);
            `texts.txt,labels.txt`; a .pkl of a pickled `datasets.Dataset` (never executed); a folder from
            `save_to_disk`, with a folder of texts for each class, or with data files by split; or a hub name,
            `owner/name`.
        input_spec: which columns are the text and the label, and how labels are written; None infers it.
        labelled: True, labels are needed; False, they are left alone; None, they are taken if there.
        split: which split of a hub name or a saved dictionary of datasets.
        allow_null: take a missing text as an empty one instead of refusing it.
        options: the file's format, encoding and header, where its name and content do not say.
        max_bytes: the most that is read, after decompression.

    Raises:
        DataError: whatever is wrong with the source, with file and line.
    """
    columns = read_columns(source, split, max_bytes, options)
    if labelled:
        refuse_unlabelled(columns)
    return build_table(columns, input_spec, labelled=labelled, allow_null=allow_null)


def read_python(
    data: Any,
    input_spec: InputSpec | None = None,
    *,
    labelled: bool | None = True,
    split: str = "train",
    allow_null: bool = False,
    options: FileOptions = AS_NAMED,
) -> Table:
    """Make a table of Python objects.

    Args:
        data: a list of (text, label) pairs; a tuple (texts, labels); a list of texts; a dict of columns; a list of
            dicts; a pandas DataFrame; a `datasets.Dataset` or `DatasetDict`; a path, as for `read`; or a `Table`.
        input_spec, labelled, split, allow_null, options: as for `read`.

    Raises:
        DataError: another shape, or whatever is wrong with its rows.
    """
    if isinstance(data, Table):
        return require_labels(data) if labelled else data
    columns = to_columns(data, split, options)
    if labelled:
        refuse_unlabelled(columns, is_file=isinstance(data, (str, Path)))
    return build_table(columns, input_spec, labelled=labelled, allow_null=allow_null)


def require_labels(table: Table) -> Table:
    """The table itself.

    Raises:
        DataError: it has no labels.
    """
    if table.labels is None:
        raise DataError("the table has no labels", remedy="read it with labelled=True", where=table.source)
    return table


def to_columns(data: Any, split: str, options: FileOptions = AS_NAMED) -> Columns:
    """A path or a Python object as columns, all of it; arguments and errors as for `read_python`."""
    if isinstance(data, (str, Path)):
        return read_columns(data, split, MAX_BYTES, options)
    return python_columns(data, split)


def stream(
    lines: Iterable[str], *, input_spec: InputSpec | None = None, source: str = "standard input"
) -> Iterator[tuple[dict[str, Any], tuple[str, ...], str]]:
    """Texts one by one, as their lines arrive; nothing is read ahead.

    Args:
        lines: JSON objects, when the first line is one; otherwise plain texts.
        input_spec: which fields are the text, and how they are joined; fields that it does not name are inferred
            anew for every object.
        source: how messages call the stream.

    Yields:
        The object's own fields (of a plain text: `text`), those of them that are its text, and the text (empty if
        it is null).

    Raises:
        DataError: a line that is not an object, has no text, or an over-long one (`source:line`).
    """
    input_spec = input_spec or InputSpec()
    for number, record in stream_records(lines, source):
        where = f"{source}:{number}"
        if isinstance(record, str):
            record, named = {"text": record}, False
        else:
            named = True
        row = Columns({name: [value] for name, value in record.items()}, [number], where, named=named)
        names = chosen = choose_text_columns(row, input_spec.columns_for(row)[0], None, pair=input_spec.pair)
        if input_spec.pair:
            row, names = pair_columns(row, names)
        parts = [check_text(row.values[name][0], where, allow_null=True) for name in names]
        text = join_pair(parts, where) if input_spec.pair else input_spec.separator.join(part for part in parts if part)
        yield record, chosen, check_length(text, where)


def read_columns(source: str | Path, split: str, max_bytes: int, options: FileOptions = AS_NAMED) -> Columns:
    """A source as it is, all of it; arguments and errors as for `read`."""
    two = as_two_files(source)
    if two is not None:
        return read_two_files(*two, max_bytes, options)
    path = Path(source)
    if os.path.isdir(path):
        return read_folder(path, split, max_bytes, options, lambda file: read_columns(file, split, max_bytes, options))
    if not os.path.exists(path):
        if not is_file_name(str(source)) and _HUB_NAME.fullmatch(str(source)):
            return read_hub(str(source), split, max_bytes)
        raise DataError("no such file", remedy=suggest_names(path), where=path)
    if is_pipe(path):
        raise DataError(
            "a pipe can be read only once", expected="a file", remedy="write it to a file first", where=path
        )
    if is_compressed(path):
        check_compressed(path, max_bytes)
    return _READERS[detect_format(path, max_bytes, options)](path, max_bytes, options, split)


@contextmanager
def without_flags(remedy: str) -> Iterator[None]:
    """Where no flag says how a file is read, an error that recommends one has another remedy: how to write the file.

    Args:
        remedy: such as `save it as CSV in UTF-8`; `{}` in it stands for the original remedy.

    Raises:
        DataError: as raised inside, with that remedy.
    """
    try:
        yield
    except DataError as error:
        if "--" not in (error.remedy or ""):
            raise
        raise DataError(
            error.problem, where=error.where, expected=error.expected, received=error.received,
            remedy=remedy.replace("{}", error.remedy or ""),
        ) from None  # fmt: skip


def refuse_unlabelled(columns: Columns, *, is_file: bool = True) -> None:
    """Refuse texts alone where labels are needed.

    Args:
        is_file: whether they come from a file, otherwise from Python objects.

    Raises:
        DataError: naming where labels may be.
    """
    if not columns.named and list(columns.values) == ["text"]:
        if not is_file:
            texts = isinstance(columns.values["text"][0], str)
            raise DataError(
                "the texts have no labels" if texts else "the rows are not (text, label) pairs",
                expected="(text, label) pairs, or a tuple (texts, labels)",
                received=f"{len(columns.lines):,} texts" if texts else shown(columns.values["text"][0]),
                where=columns.source,
            )
        raise DataError(
            "the file has texts but no labels",
            expected="a label for each text",
            received=f"{len(columns.lines):,} texts",
            remedy="give a file with one label per line after a comma (texts.txt,labels.txt), "
            "or name a format that has labels: --format fasttext, trec, csv or tsv",
            where=columns.source,
        )
