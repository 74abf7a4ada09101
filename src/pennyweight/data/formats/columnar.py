"""Parquet, Arrow and Hugging Face `datasets`: all sources that give Arrow batches."""

from __future__ import annotations

import io
import json
import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..columns import is_label_name
from ..file_options import AS_NAMED, FileOptions
from ..file_streams import BOMB_FLOOR, BOMB_RATIO, is_compressed, read_bytes
from ..table import Columns, listed, shown
from . import compression
from .format_detection import Format

_BATCH = 16_384
#: The most one block may take: some thousands of the longest texts.
_BLOCK_BYTES = 1 << 30

#: What makes a folder one that `datasets` saved. Nothing else is opened, so no loading script is ever run.
_SAVED = "state.json"
_SAVED_DICT = "dataset_dict.json"


def read_parquet(path: Path, max_bytes: int, options: FileOptions = AS_NAMED) -> Columns:
    """Read the text and number columns of a Parquet file.

    Raises:
        DataError: not Parquet, damaged, without rows, or above `max_bytes` in memory.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        # Parquet is read from its end: a gzipped one has to be decompressed first.
        zipped = is_compressed(path) or path.suffix in compression.ENDINGS
        file = parquet.ParquetFile(io.BytesIO(read_bytes(path, max_bytes)) if zipped else _opened(path))
        schema = file.schema_arrow
        names = readable_columns(schema, str(path))
        batches = file.iter_batches(batch_size=_BATCH, columns=names) if names else iter(())
        return collect_batches(batches, schema, str(path), max_bytes, stored=path.stat().st_size)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged_file(path, "Parquet", error) from error


def read_arrow(path: Path, max_bytes: int, options: FileOptions = AS_NAMED) -> Columns:
    """Read the text and number columns of an Arrow IPC file or stream.

    Raises:
        DataError: not Arrow, damaged, without rows, or above `max_bytes` in memory.
    """
    import pyarrow as pa

    content = pa.BufferReader(read_bytes(path, max_bytes))
    try:
        reader = _open_arrow(content)
        batches = _arrow_batches(reader)
        return collect_batches(batches, reader.schema, str(path), max_bytes, stored=path.stat().st_size)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged_file(path, "Arrow", error) from error


def read_arrow_blocks(path: Path, max_bytes: int, size: int, format: Format) -> Iterator[Columns]:
    """As `read_parquet` and `read_arrow` for plain files, in blocks of `size` rows (the last may be shorter)."""
    import pyarrow as pa
    from pyarrow import parquet

    form = "Parquet" if format == "parquet" else "Arrow"
    try:
        if form == "Parquet":
            file = parquet.ParquetFile(_opened(path))
            schema = file.schema_arrow
            names = readable_columns(schema, str(path))
            batches: Iterable[Any] = file.iter_batches(batch_size=size, columns=names) if names else iter(())
        else:
            # Not mapped into memory: a file that is cut off meanwhile would end the process with SIGBUS.
            reader = _open_arrow(_opened(path))
            schema = reader.schema
            batches = _arrow_batches(reader)
        done, expanded = 0, 0
        for block in _blocks_of(batches, size):
            found = collect_batches(block, schema, str(path), min(max_bytes, _BLOCK_BYTES), start=done)
            expanded += sum(without_views(column).nbytes for batch in block for column in batch.columns)
            if expanded > max(BOMB_FLOOR, BOMB_RATIO * path.stat().st_size):
                raise decompression_bomb(str(path), path.stat().st_size)
            done += sum(batch.num_rows for batch in block)
            yield found
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged_file(path, form, error) from error


class ParquetRows:
    """The rows of a Parquet file by their numbers. Ranges that are asked for in order cost one pass over the file.

    Args:
        file: a path, or an opened file with random access.
        source: as messages call it.

    Attributes:
        source: the same.
        schema: Arrow's.
        rows: how many there are.

    Raises:
        DataError: not Parquet, or damaged.
    """

    def __init__(self, file: Any, source: str) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self.source = source
        try:
            self._file = parquet.ParquetFile(file)
            self.schema = self._file.schema_arrow
            metadata = self._file.metadata
            groups = (metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))
            self._ends = [0, *accumulate(groups)]
        except (pa.ArrowException, OSError, ValueError) as error:
            raise damaged_file(source, "Parquet", error) from error
        self.rows = self._ends[-1]
        self._rest: Iterator[Any] = iter(())
        self._at = self.rows  # the number of the first row of the rest

    def read(self, start: int, count: int) -> Columns:
        """The rows from number `start` on (the first has 0), as `read_arrow_blocks` gives them.

        Raises:
            DataError: as `read_arrow_blocks`.
        """
        import pyarrow as pa

        try:
            found = list(self._batches(start, min(count, self.rows - start)))
            return collect_batches(found, self.schema, self.source, _BLOCK_BYTES, start=start)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise damaged_file(self.source, "Parquet", error) from error

    def _batches(self, start: int, count: int) -> Iterator[Any]:
        names = readable_columns(self.schema, self.source)
        group = bisect_right(self._ends, start) - 1
        if not self._at <= start or self._ends[group] > self._at:  # behind, or whole row groups ahead
            groups = range(group, len(self._ends) - 1)
            self._rest = self._file.iter_batches(batch_size=_BATCH, row_groups=groups, columns=names)
            self._at = self._ends[group]
        end = start + count
        while self._at < end:
            batch = next(self._rest)
            before = self._at
            if before + batch.num_rows > start:
                yield batch.slice(max(start - before, 0), end - max(start, before))
            if before + batch.num_rows > end:  # the rest of it is for the next range
                self._rest = chain([batch.slice(end - before)], self._rest)
                self._at = end
            else:
                self._at = before + batch.num_rows


def _blocks_of(batches: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """The rows of Arrow batches, whatever their sizes, by `size`: slices of the batches that hold them."""
    held: list[Any] = []
    rows = 0
    for batch in batches:
        at = 0
        while at < batch.num_rows:
            held.append(batch.slice(at, size - rows))
            rows += held[-1].num_rows
            at += held[-1].num_rows
            if rows == size:
                yield held
                held, rows = [], 0
    if held:
        yield held


def _opened(path: Path) -> Any:
    """A file as Arrow opens it; its name need not be UTF-8."""
    import pyarrow as pa

    return pa.OSFile(os.fsencode(path))


def _open_arrow(opened: Any) -> Any:
    """Arrow's reader of an open file, which has its form: the file's, with an index at the end, or the stream's."""
    import pyarrow as pa

    head = opened.read(6)
    opened.seek(0)
    return pa.ipc.open_file(opened) if head == b"ARROW1" else pa.ipc.open_stream(opened)


def _is_arrow_file(reader: Any) -> bool:
    import pyarrow as pa

    return isinstance(reader, pa.ipc.RecordBatchFileReader)


def _arrow_batches(reader: Any) -> Iterable[Any]:
    """The batches of what `_open_arrow` gave, read one by one."""
    return (reader.get_batch(n) for n in range(reader.num_record_batches)) if _is_arrow_file(reader) else reader


def count_rows(path: Path, format: Format) -> int | None:
    """The rows of a plain Parquet or Arrow file, as its metadata say; None for an Arrow stream, which has none.

    Raises:
        DataError: neither, or damaged.
    """
    import pyarrow as pa
    from pyarrow import dataset, parquet

    try:
        if format == "parquet":
            return int(parquet.read_metadata(_opened(path)).num_rows)
        with _opened(path) as opened:
            reader = _open_arrow(opened)
            readable_columns(reader.schema, str(path))  # Arrow's own refusal of two columns of one name says less
            if not _is_arrow_file(reader):
                return None
            return int(dataset.IpcFileFormat().make_fragment(opened).count_rows())
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged_file(path, "Parquet" if format == "parquet" else "Arrow", error) from error


def is_saved(folder: Path) -> bool:
    """Whether `datasets` saved this folder."""
    return (folder / _SAVED).is_file() or (folder / _SAVED_DICT).is_file()


def read_saved(folder: Path, split: str, max_bytes: int) -> Columns:
    """Read a folder that `Dataset.save_to_disk` (or `DatasetDict.save_to_disk`) wrote (see `is_saved`).

    Raises:
        DataError: a damaged one, or no such split.
    """
    import datasets

    try:
        loaded = datasets.load_from_disk(str(folder))
    except Exception as error:  # a damaged folder fails in many ways: JSON, keys, Arrow, files
        raise damaged_file(folder, "a saved dataset", error) from error
    return from_dataset(pick_split(loaded, split, str(folder)), str(folder), max_bytes)


def read_hub(name: str, split: str, max_bytes: int) -> Columns:
    """Download (or take from the cache) a dataset of the hub, `owner/name` or `owner/name:configuration`.

    No code of the dataset runs: `datasets` dropped loading scripts in version 4, and Pennyweight requires a later one.

    Raises:
        DataError: no network, no such dataset, configuration or split.
    """
    import datasets

    repository, _, configuration = name.partition(":")
    try:
        loaded = datasets.load_dataset(repository, configuration or None, split=split)
    except Exception as error:  # the hub's client raises its own, its transport's and the builder's errors
        missing = isinstance(error, datasets.exceptions.DatasetNotFoundError)
        remedy = (
            "check the name; a private dataset needs `hf auth login`"
            if missing
            else "check the network and the split's name, or download the dataset and pass a file"
        )
        raise DataError(
            f"no such file, and the dataset {name} (split {split}) could not be fetched from the hub",
            received=f"{type(error).__name__}: {_first_line(error)}",
            remedy=remedy,
        ) from error
    return from_dataset(loaded, name, max_bytes)


def pick_split(loaded: Any, split: str, source: str) -> Any:
    """The `split` of a mapping of datasets; a dataset passes through.

    Raises:
        DataError: there is no such split.
    """
    if not isinstance(loaded, dict):
        return loaded
    if split not in loaded:
        raise DataError(
            f"no split named {split}", expected=f"one of {listed(loaded)}", remedy="name the split", where=source
        )
    return loaded[split]


def from_dataset(dataset: Any, source: str, max_bytes: int) -> Columns:
    """The columns of a `datasets.Dataset`; class names come from its `ClassLabel` features."""
    import datasets
    import pyarrow as pa

    if not isinstance(dataset, datasets.Dataset):
        raise DataError(
            f"{type(dataset).__name__} cannot be read", expected="a datasets.Dataset with its rows", where=source
        )
    schema = dataset.features.arrow_schema
    names = readable_columns(schema, source)

    def batches() -> Iterator[Any]:
        for table in dataset.select_columns(names).with_format("arrow").iter(_BATCH):
            yield from table.to_batches()

    try:
        return collect_batches(batches() if names else (), schema, source, max_bytes)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged_file(source, "a dataset", error) from error


def without_views(column: Any) -> Any:
    """An Arrow array of views, which is what Polars gives, as one of values: pyarrow 18 to 23 cannot measure views."""
    import pyarrow as pa

    if pa.types.is_string_view(column.type):
        return column.cast(pa.large_string())
    return column.cast(pa.large_binary()) if pa.types.is_binary_view(column.type) else column


def _decoded(column: Any) -> Any:
    """The values of a dictionary column. polars' Categorical and Enum hold views, which Arrow does not decode."""
    import pyarrow as pa

    values = without_views(column.dictionary)
    return pa.DictionaryArray.from_arrays(column.indices, values).dictionary_decode()


def collect_batches(
    batches: Iterable[Any], schema: Any, source: str, max_bytes: int, stored: int | None = None, start: int = 0
) -> Columns:
    """Collect Arrow batches into lists, within `max_bytes` (a small file can expand to any number of equal rows).

    Args:
        stored: bytes of the file; what expands to far more is taken for a bomb.
        start: rows of the source that came before.

    Raises:
        DataError: no rows, too large, or bytes that are not UTF-8 in a text column.
        pyarrow.ArrowInvalid: inconsistent data.
    """
    import pyarrow as pa

    names = readable_columns(schema, source)
    values: dict[str, list[Any]] = {name: [] for name in names}
    size = 0
    for batch in batches:
        for name in names:
            column = batch.column(name)
            _validate(column, name, f"{source}, rows from {start + len(values[name]) + 1}")
            if pa.types.is_dictionary(column.type):
                column = _decoded(column)  # counted as large as its values will be
            column = without_views(column)
            size += column.nbytes
            if size > max_bytes:
                raise DataError(
                    "the data are too large once decompressed",
                    expected=f"at most {max_bytes:,} bytes",
                    remedy="split them, or read them with a higher max_bytes",
                    where=source,
                )
            if stored is not None and size > max(BOMB_FLOOR, BOMB_RATIO * stored):
                raise decompression_bomb(source, stored)
            values[name].extend(column.to_pylist())
    rows = len(values[names[0]]) if names else 0
    if names and not rows:
        raise DataError("there are no rows", received=f"columns {listed(schema.names)}", where=source)
    others = {field.name: str(field.type) for field in schema if field.name not in values}
    lines = list(range(start + 1, start + rows + 1))
    return Columns(values, lines, source, unit="row", label_names=class_names(schema), unreadable=others)


def decompression_bomb(source: str, stored: int) -> DataError:
    """The error for a file that expands to far more than its size."""
    return DataError(
        "the file looks like a decompression bomb",
        expected=f"at most {BOMB_RATIO} times its {stored:,} bytes",
        remedy="if you trust the file, write them as JSONL and read that",
        where=source,
    )


def _validate(column: Any, name: str, where: str) -> None:
    """Have Arrow check every offset and byte of a column: it trusts files otherwise, and can crash on bad ones."""
    import pyarrow as pa

    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        if "UTF8" not in str(error):
            raise
        raise DataError(
            f"column {name} contains bytes that are not UTF-8", remedy="export the data again as UTF-8", where=where
        ) from error


def class_names(schema: Any) -> dict[str, tuple[str, ...]]:
    """The names of `ClassLabel` columns, which `datasets` keeps in the schema's metadata, in Parquet files too."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        # A list of classes keeps them one step further down.
        inner = {name: feature.get("feature", feature) for name, feature in features.items()}
        found = {name: feature["names"] for name, feature in inner.items() if feature.get("_type") == "ClassLabel"}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}  # no such metadata, or not of a form that we know: then the labels are plain integers
    return {
        name: tuple(names)
        for name, names in found.items()
        if isinstance(names, list) and all(isinstance(entry, str) for entry in names)
    }


def readable_columns(schema: Any, source: str) -> list[str]:
    """The columns of strings, numbers or booleans, and of lists where the name says labels: other lists are large.

    Raises:
        DataError: two columns have one name, so that neither can be named.
    """
    import pyarrow as pa

    if len(set(schema.names)) < len(schema.names):
        twice = sorted(name for name, count in Counter(schema.names).items() if count > 1)
        raise DataError(f"several columns have one name: {listed(twice)}", remedy="rename them", where=source)

    def plain(kind: Any) -> bool:
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
        numbers = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
        return any(test(kind) for test in (*tests, *numbers))

    def labels(field: Any) -> bool:
        lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
        return is_label_name(field.name) and any(test(field.type) for test in lists) and plain(field.type.value_type)

    return [field.name for field in schema if plain(field.type) or labels(field)]


def read_column_types(path: Path) -> dict[str, Any]:
    """The Arrow types of the number, boolean and string columns of a plain Parquet or Arrow file; otherwise empty."""
    import pyarrow as pa
    from pyarrow import parquet

    if not path.is_file() or is_compressed(path):
        return {}
    try:
        if path.suffix.lower() == ".parquet":
            schema = parquet.read_schema(_opened(path))
        elif path.suffix.lower() == ".arrow":
            with _opened(path) as opened:
                schema = _open_arrow(opened).schema
        else:
            return {}
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged_file(path, "Parquet or Arrow", error) from error
    return plain_types(schema, str(path))


def plain_types(schema: Any, source: str) -> dict[str, Any]:
    """The Arrow types of the number, boolean and string columns of a schema."""
    import pyarrow as pa

    kinds = {name: schema.field(name).type for name in readable_columns(schema, source)}
    kinds = {name: kind.value_type if pa.types.is_dictionary(kind) else kind for name, kind in kinds.items()}
    return {name: kind for name, kind in kinds.items() if not pa.types.is_null(kind) and not pa.types.is_nested(kind)}


def damaged_file(where: str | Path, kind: str, error: Exception) -> DataError:
    """The error for a file that a library fails to read."""
    return DataError(
        f"cannot be read as {kind}: damaged, or another format",
        received=f"{type(error).__name__}: {_first_line(error)}",
        remedy="write it again, or pass a CSV or JSONL file",
        where=where,
    )


def _first_line(error: Exception) -> str:
    return shown((str(error).splitlines() or [""])[0].rstrip("."), 160)
