"""Labelled texts from any source: a file, a saved dataset, the hub, Python objects or a stream of lines."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from .assemble import assemble, check_length, check_text
from .columnar import read_arrow, read_hub, read_parquet, read_saved
from .delimited import read_delimited
from .infer import choose_texts
from .jsonl import read_json, read_jsonl, stream_records
from .multi import LabelForm
from .pairs import as_pair, join_pair
from .pickled import read_pickle
from .python import columns_of_python
from .reading import Reading
from .source import check_zipped, is_zipped, near_names
from .table import AS_NAMED, MAX_BYTES, Columns, FileOptions, Table

__all__ = ["Table", "from_python", "read", "stream"]

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")


def _tabs(path: Path, max_bytes: int, options: FileOptions) -> Columns:
    return read_delimited(path, max_bytes, options, tabs=True)


#: One reader a form. Each may be gzipped too, with .gz behind.
_FORMS: dict[str, Callable[[Path, int, FileOptions], Columns]] = {
    ".csv": read_delimited,
    ".tsv": _tabs,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
}
_PICKLES = (".pkl", ".pickle")


def read(
    source: str | Path,
    *,
    text_columns: Sequence[str] | None = None,
    label_column: str | None = None,
    labelled: bool | None = True,
    split: str = "train",
    separator: str = " ",
    allow_null: bool = False,
    form: LabelForm | None = None,
    pair: bool = False,
    options: FileOptions = AS_NAMED,
    max_bytes: int = MAX_BYTES,
) -> Table:
    """Read a table of texts.

    Args:
        source: a .csv, .tsv, .jsonl, .json, .parquet or .arrow file, each also with .gz behind; a .pkl of a pickled
            `datasets.Dataset` (never executed); a folder from `save_to_disk`; or a hub name, `owner/name`.
        text_columns: columns to join as the text; None infers them.
        label_column: the label's column; None infers it.
        labelled: True, labels are needed; False, they are left alone; None, they are taken if there.
        split: which split of a hub name or a saved dictionary of datasets.
        separator: what stands between joined texts.
        allow_null: take a missing text as an empty one instead of refusing it.
        form: how labels stand in the source, where a text may carry several.
        pair: keep the texts of two columns apart, as one input of two segments.
        options: the file's format, encoding and header, where its name and content do not say.
        max_bytes: the most that is read, after decompression.

    Raises:
        DataError: whatever is wrong with the source, with file and line.
    """
    return assemble(
        read_columns(source, split, max_bytes, options),
        text_columns=text_columns,
        label_column=label_column,
        labelled=labelled,
        separator=separator,
        allow_null=allow_null,
        form=form,
        pair=pair,
    )


def from_python(
    data: Any,
    *,
    text_columns: Sequence[str] | None = None,
    label_column: str | None = None,
    labelled: bool | None = True,
    split: str = "train",
    separator: str = " ",
    allow_null: bool = False,
    form: LabelForm | None = None,
    pair: bool = False,
    options: FileOptions = AS_NAMED,
) -> Table:
    """Make a table of Python objects.

    Args:
        data: a list of (text, label) pairs; a tuple (texts, labels); a list of texts; a dict of columns; a list of
            dicts; a pandas DataFrame; a `datasets.Dataset` or `DatasetDict`; a path, as for `read`; or a `Table`.
        text_columns, label_column, labelled, split, separator, allow_null, form, pair, options: as for `read`.

    Raises:
        DataError: another shape, or whatever is wrong with its rows.
    """
    if isinstance(data, Table):
        return labelled_table(data) if labelled else data
    return assemble(
        columns_of(data, split, options),
        text_columns=text_columns,
        label_column=label_column,
        labelled=labelled,
        separator=separator,
        allow_null=allow_null,
        form=form,
        pair=pair,
    )


def labelled_table(table: Table) -> Table:
    """The table itself.

    Raises:
        DataError: it has no labels.
    """
    if table.labels is None:
        raise DataError("the table has no labels", remedy="read it with labelled=True", where=table.source)
    return table


def columns_of(data: Any, split: str, options: FileOptions = AS_NAMED) -> Columns:
    """A path or a Python object as columns, all of it; arguments and errors as for `from_python`."""
    if isinstance(data, (str, Path)):
        return read_columns(data, split, MAX_BYTES, options)
    return columns_of_python(data, split)


def stream(
    lines: Iterable[str], *, reading: Reading | None = None, source: str = "standard input"
) -> Iterator[dict[str, Any]]:
    """Texts one by one, as their lines arrive; nothing is read ahead.

    Args:
        lines: JSON objects, when the first line is one; else plain texts.
        reading: which fields are the text, and how they are joined; fields that it does not name are inferred
            anew for every object.
        source: how messages call the stream.

    Yields:
        The object's own fields, with its text under "text" (empty where it is null).

    Raises:
        DataError: a line that is not an object, has no text, or an over-long one (`source:line`).
    """
    reading = reading or Reading()
    for number, record in stream_records(lines, source):
        where = f"{source}:{number}"
        if isinstance(record, str):
            record, named = {"text": record}, False
        else:
            named = True
        row = Columns({name: [value] for name, value in record.items()}, [number], where, named=named)
        names = choose_texts(row, reading.columns_for(row)[0], None, pair=reading.pair)
        if reading.pair:
            row, names = as_pair(row, names)
        parts = [check_text(row.values[name][0], where, allow_null=True) for name in names]
        text = join_pair(parts, where) if reading.pair else reading.separator.join(part for part in parts if part)
        yield {**record, "text": check_length(text, where)}


def read_columns(source: str | Path, split: str, max_bytes: int, options: FileOptions = AS_NAMED) -> Columns:
    """A source as it is, all of it; arguments and errors as for `read`."""
    path = Path(source)
    if os.path.isdir(path):
        return read_saved(path, split, max_bytes)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    form = next((suffix for suffix in reversed(suffixes) if suffix != ".gz"), "")
    if not os.path.exists(path):
        if form not in (*_FORMS, *_PICKLES) and _HUB_NAME.fullmatch(str(source)):
            return read_hub(str(source), split, max_bytes)
        raise DataError("no such file", remedy=near_names(path), where=path)
    if is_zipped(path):
        check_zipped(path, max_bytes)
    if form in _PICKLES:
        return read_pickle(path, split, max_bytes)
    if form not in _FORMS:
        raise DataError(
            "the form of the file cannot be told from its name",
            expected=f"one of {', '.join((*_FORMS, *_PICKLES))}, each also with .gz",
            received=path.name,
            remedy="rename it",
            where=path,
        )
    return _FORMS[form](path, max_bytes, options)
