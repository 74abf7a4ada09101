"""A source read in blocks of rows, any number of times, so that memory does not grow with its size."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from .columns import choose_text_columns
from .file_options import AS_NAMED, MAX_BYTES, FileOptions
from .file_streams import check_compressed, is_compressed
from .formats.columnar import is_saved, read_arrow_blocks
from .formats.delimited import detect_layout, read_delimited_blocks
from .formats.folder import file_of_split
from .formats.format_detection import detect_format
from .formats.json_lines import is_json_lines, read_jsonl_blocks
from .formats.plain_text import read_plain_blocks
from .formats.two_files import as_two_files
from .input_spec import InputSpec
from .sources import read_columns
from .table import Columns, Table
from .table_builder import build_table

#: Rows of a block. Columns are inferred from the first thousand rows, so that blocks give what a whole source gives.
BLOCK = 8192
#: Positions of empty texts that are named.
SHOWN = 6
# One block is in memory at a time, so that only a compressed file, whose content may be of any size, keeps the limit.
_ANY_BYTES = 1 << 50

Blocks = Callable[[], Iterator[Columns]]


@dataclass
class EmptyTexts:
    """Rows whose text is missing or blank: how many, and the positions of the first few."""

    count: int = 0
    lines: list[int] = field(default_factory=list)

    def add(self, table: Table) -> None:
        """Count those of a table."""
        for text, line in zip(table.texts, table.lines, strict=True):
            if not text or text.isspace():
                self.count += 1
                if len(self.lines) < SHOWN:
                    self.lines.append(line)

    def __str__(self) -> str:
        more = self.count - len(self.lines)
        where = ", ".join(map(str, self.lines)) + (f" and {more:,} more" if more else "")
        return f"{self.count:,} empty {'text' if self.count == 1 else 'texts'}, classified all the same: {where}"


@dataclass(frozen=True)
class RowBlocks:
    """N rows of a source that has been read to its end once, so that every error in it is known.

    Attributes:
        source: as messages call it.
        rows: N.
        blocks: makes a fresh iterator over the rows' columns, `BLOCK` at a time; every block has the same columns.
        names: the columns.
        text_columns: the columns that are the text.
        unreadable: the columns that hold neither text nor numbers, with their types.
        streamed: whether a block at a time is read; else the source was read whole.
        input_spec: which columns are the text and how they are joined.
        notes: remarks on how the source was read, one line each, for people.
        empty: the rows without a text.
    """

    source: str
    rows: int
    blocks: Blocks
    names: tuple[str, ...]
    text_columns: tuple[str, ...]
    unreadable: dict[str, str]
    streamed: bool
    input_spec: InputSpec = field(default_factory=InputSpec)
    notes: tuple[str, ...] = ()
    empty: EmptyTexts = field(default_factory=EmptyTexts)

    def tables(self) -> Iterator[Table]:
        """The rows as tables without labels, a missing text as an empty one."""
        return (table for _, table in self.blocks_and_tables())

    def each_text(self) -> Iterator[str]:
        """The texts one by one."""
        return (text for table in self.tables() for text in table.texts)

    def blocks_and_tables(self) -> Iterator[tuple[Columns, Table]]:
        """Each block as it is, and as a table."""
        for block in self.blocks():
            yield block, _table_of_texts(block, self.text_columns, self.input_spec)


def read_in_blocks(
    source: str | Path,
    *,
    input_spec: InputSpec | None = None,
    split: str = "train",
    options: FileOptions = AS_NAMED,
    max_bytes: int = MAX_BYTES,
) -> RowBlocks:
    """Read a source once, keeping nothing, to be read again block by block.

    CSV, TSV, JSON lines, Parquet, Arrow, fastText, TREC and plain lines are read in blocks; anything else (`read` says
    what) is read whole.

    Args:
        source, split, options, max_bytes: as for `read`.
        input_spec: which columns are the text, and how they are joined; None infers the columns.

    Raises:
        DataError: whatever is wrong with the source or a text in it, with file and line: as `read`.
    """
    input_spec = input_spec or InputSpec()
    path = Path(source)
    if os.path.isdir(path) and not is_saved(path):
        path = file_of_split(path, split) or path
        source = source if os.path.isdir(path) else str(path)
    blocks = None if as_two_files(source) else _block_reader(path, max_bytes, options)
    if blocks is not None:
        if is_compressed(path):
            check_compressed(path, max_bytes)
        found = _scan(str(source), blocks, input_spec)
        if found.rows:
            return found
    # Read whole; the whole readers also say what is wrong with a file without rows.
    columns = read_columns(source, split, max_bytes, options)
    choose_text_columns(columns, *input_spec.columns_for(columns), pair=input_spec.pair)  # refuses one without rows
    return replace(_scan(columns.source, lambda: _cut(columns), input_spec), streamed=False)


def _scan(source: str, blocks: Blocks, input_spec: InputSpec) -> RowBlocks:
    """Read all blocks once: count rows and empty texts, collect the columns' names, find every error."""
    # Fields of JSON objects may first occur late in a file; every block gets all of them.
    names: dict[str, None] = {}
    unreadable: dict[str, str] = {}
    rows = 0
    text_columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    empty = EmptyTexts()
    for block in blocks():
        if not block.lines:
            continue
        rows += len(block.lines)
        notes = block.notes
        names.update(dict.fromkeys(block.values))
        unreadable.update(block.unreadable)
        block = _with_columns(block, names)
        if not text_columns:
            text_columns = choose_text_columns(block, *input_spec.columns_for(block), pair=input_spec.pair)
        empty.add(_table_of_texts(block, text_columns, input_spec))
    return RowBlocks(
        source,
        rows,
        lambda: (_with_columns(block, names) for block in blocks() if block.lines),
        tuple(names),
        text_columns,
        unreadable,
        streamed=True,
        input_spec=input_spec,
        notes=notes,
        empty=empty,
    )


def _block_reader(path: Path, max_bytes: int, options: FileOptions) -> Blocks | None:
    """What reads a file block by block; None where its format is read whole."""
    if not os.path.isfile(path) or not os.access(path, os.R_OK):
        return None
    packed = is_compressed(path)
    most = max_bytes if packed or max_bytes != MAX_BYTES else _ANY_BYTES
    format = detect_format(path, most, options)
    if format in ("csv", "tsv"):
        tabs = format == "tsv"
        layout = functools.cache(lambda: detect_layout(path, most, options, tabs=tabs))
        return lambda: read_delimited_blocks(path, most, BLOCK, options, tabs=tabs, layout=layout())
    if format in ("json", "jsonl") and is_json_lines(path, most, options, by_name=format == "jsonl"):
        return lambda: read_jsonl_blocks(path, most, BLOCK, options)
    if format in ("txt", "fasttext", "trec"):
        return lambda: read_plain_blocks(path, most, BLOCK, format, options)
    if format in ("parquet", "arrow") and not packed:
        return lambda: read_arrow_blocks(path, max_bytes, BLOCK, format)
    return None


def _cut(columns: Columns) -> Iterator[Columns]:
    for start in range(0, len(columns.lines), BLOCK):
        end = start + BLOCK
        yield replace(
            columns,
            lines=columns.lines[start:end],
            values={name: values[start:end] for name, values in columns.values.items()},
        )


def _with_columns(block: Columns, names: Iterable[str]) -> Columns:
    """The block with all of these columns, None in those it lacks."""
    if block.values.keys() == set(names):
        return block
    rows = len(block.lines)
    return replace(block, values={name: block.values.get(name) or [None] * rows for name in names})


def _table_of_texts(block: Columns, text_columns: tuple[str, ...], input_spec: InputSpec) -> Table:
    named = replace(input_spec, text_columns=text_columns, label_column=None, named_by_user=True)
    return build_table(block, named, labelled=False, allow_null=True)
