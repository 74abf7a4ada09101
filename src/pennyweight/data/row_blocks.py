"""A source read in blocks of rows, any number of times, so that memory does not grow with its size."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import DataError
from .columns import choose_text_columns
from .cut_tokens import CutTally
from .file_options import AS_NAMED, MAX_BYTES, FileOptions
from .file_streams import FileState, check_compressed, is_compressed
from .formats.columnar import count_rows, is_saved, read_arrow_blocks
from .formats.delimited import detect_layout, read_delimited_blocks
from .formats.folder import file_of_split
from .formats.format_detection import Format, detect_format
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
# Is told the rows seen so far.
Seen = Callable[[int], object]


@dataclass
class EmptyTexts:
    """Rows whose text is missing or blank: how many, and the positions of the first few."""

    count: int = 0
    lines: list[int] = field(default_factory=list)

    def clear(self) -> None:
        """Start again."""
        self.count = 0
        self.lines.clear()

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
        return f"{self.count:,} empty {'text' if self.count == 1 else 'texts'}, labelled like any other: {where}"


@dataclass(frozen=True)
class RowBlocks:
    """N rows of a source.

    It has been read to its end once, so that every error in it is known, unless it is `unread`.

    Attributes:
        source: as messages call it.
        rows: N.
        blocks: makes a fresh iterator over the rows' columns, `BLOCK` at a time; every block has the same columns in
            the same order.
        names: the columns.
        text_columns: the columns that are the text.
        unreadable: the columns that hold neither text nor numbers, with their types.
        streamed: whether a block at a time is read; otherwise the source was read whole.
        input_spec: which columns are the text and how they are joined.
        notes: remarks on how the source was read, one line each, for people.
        empty: the rows without a text.
        unread: only its first rows have been looked at; `empty` is counted again in each pass over `blocks_and_tables`.
        cut: tokens of the texts, counted by whoever turns them into tokens.
        given: what was read: a path, two paths, or a name on the hub.
        reading: what decided how it was read, besides `input_spec`: format, encoding, header and split, as asked for.
        states: of its files, before they were read.
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
    unread: bool = False
    cut: CutTally = field(default_factory=CutTally)
    given: str = ""
    reading: dict[str, Any] = field(default_factory=dict)
    states: tuple[FileState, ...] = ()

    def tables(self) -> Iterator[Table]:
        """The rows as tables without labels, a missing text as an empty one."""
        return (table for _, table in self.blocks_and_tables())

    def each_text(self) -> Iterator[str]:
        """The texts one by one."""
        return (text for table in self.tables() for text in table.texts)

    def blocks_and_tables(self) -> Iterator[tuple[Columns, Table]]:
        """Each block as it is, and as a table.

        Raises:
            DataError: whatever is wrong with a row of an `unread` source; the file changed since it was first read.
        """
        if self.unread:
            self.empty.clear()
        for block in self._unchanged_blocks() if self.streamed else self.blocks():
            table = _table_of_texts(block, self.text_columns, self.input_spec)
            if self.unread:
                self.empty.add(table)
            yield block, table

    def _unchanged_blocks(self) -> Iterator[Columns]:
        opened = False  # before the first block, the file may still be another of that name
        try:
            for block in self.blocks():
                self.refuse_changes(opened=opened)
                opened = True
                yield block
        except DataError:
            self.refuse_changes(opened=opened)  # which is then what is wrong with the row
            raise
        self.refuse_changes(opened=opened)

    def refuse_changes(self, *, opened: bool = False) -> None:
        """Refuse a source whose files are no longer as they were when reading began.

        Args:
            opened: they are open since, see `FileState.refuse_changes`.

        Raises:
            ChangedFileError: a file changed.
        """
        for state in self.states:
            state.refuse_changes(opened=opened)


def read_in_blocks(
    source: str | Path,
    *,
    input_spec: InputSpec | None = None,
    split: str = "train",
    options: FileOptions = AS_NAMED,
    max_bytes: int = MAX_BYTES,
    check: bool = True,
    seen: Seen | None = None,
) -> RowBlocks:
    """Read a source once, keeping nothing, to be read again block by block.

    CSV, TSV, JSON lines, Parquet, Arrow, fastText, TREC and plain lines are read in blocks; anything else (`read` says
    what) is read whole.

    Args:
        source, split, options, max_bytes: as for `read`.
        input_spec: which columns are the text, and how they are joined; None infers the columns.
        check: read all of the source. Without it, of plain Parquet and Arrow files only the first rows are read, since
            their schemas say all that has to be known, and an error further on comes when it is met. In texts, any
            row may be broken, or the first to have a field: they are always read, which takes about a hundredth of
            what their predictions take.
        seen: called with the rows read so far, block by block.

    Raises:
        DataError: whatever is wrong with the source or a text in it, with file and line: as `read`.
    """
    input_spec = input_spec or InputSpec()
    path = Path(source)
    if os.path.isdir(path) and not is_saved(path):
        path = file_of_split(path, split) or path
        source = source if os.path.isdir(path) else str(path)
    reading = asdict(options) | {"split": split}
    two = as_two_files(source)
    states = tuple(filter(None, map(FileState.of, two or [path])))
    format = None if two else _format_read_in_blocks(path, max_bytes, options)
    if format is not None:
        if is_compressed(path):
            check_compressed(path, max_bytes)
        rows = None if check or format not in ("parquet", "arrow") else count_rows(path, format)
        blocks = _block_reader(path, format, max_bytes, options)
        found = open_row_blocks(str(source), blocks, rows, input_spec) if rows else None
        found = found or _scan(str(source), blocks, input_spec, seen)
        if found.rows:
            return replace(found, given=str(source), reading=reading, states=states)
    # Read whole; the whole readers also say what is wrong with a file without rows.
    columns = read_columns(source, split, max_bytes, options)
    choose_text_columns(columns, *input_spec.columns_for(columns), pair=input_spec.pair)  # refuses one without rows
    found = _scan(columns.source, lambda: _cut(columns), input_spec)
    return replace(found, streamed=False, given=str(source), reading=reading, states=states)


def open_row_blocks(source: str, blocks: Blocks, rows: int, input_spec: InputSpec) -> RowBlocks | None:
    """The rows of a source whose first block says which columns all of them have; None if it has none to read.

    Raises:
        DataError: no text column, or a text in the first block that is none.
    """
    first = next((block for block in blocks() if block.lines), None)
    if first is None:
        return None
    text_columns = choose_text_columns(first, *input_spec.columns_for(first), pair=input_spec.pair)
    _table_of_texts(first, text_columns, input_spec)  # refuses what is no text
    return RowBlocks(
        source,
        rows,
        lambda: (block for block in blocks() if block.lines),
        tuple(first.values),
        text_columns,
        first.unreadable,
        streamed=True,
        input_spec=input_spec,
        notes=first.notes,
        unread=True,
    )


def _scan(source: str, blocks: Blocks, input_spec: InputSpec, seen: Seen | None = None) -> RowBlocks:
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
        if seen is not None:
            seen(rows)
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


def _most_bytes(path: Path, max_bytes: int) -> int:
    return max_bytes if is_compressed(path) or max_bytes != MAX_BYTES else _ANY_BYTES


def _format_read_in_blocks(path: Path, max_bytes: int, options: FileOptions) -> Format | None:
    """The format of a file that is read block by block; None for what is read whole."""
    if not os.path.isfile(path) or not os.access(path, os.R_OK):
        return None
    most = _most_bytes(path, max_bytes)
    format = detect_format(path, most, options)
    if format in ("json", "jsonl"):
        return format if is_json_lines(path, most, options, by_name=format == "jsonl") else None
    if format in ("parquet", "arrow"):
        return None if is_compressed(path) else format
    return format if format in ("csv", "tsv", "txt", "fasttext", "trec") else None


def _block_reader(path: Path, format: Format, max_bytes: int, options: FileOptions) -> Blocks:
    """The block reader for one of these formats."""
    most = _most_bytes(path, max_bytes)
    if format in ("csv", "tsv"):
        tabs = format == "tsv"
        layout = functools.cache(lambda: detect_layout(path, most, options, tabs=tabs))
        return lambda: read_delimited_blocks(path, most, BLOCK, options, tabs=tabs, layout=layout())
    if format in ("json", "jsonl"):
        return lambda: read_jsonl_blocks(path, most, BLOCK, options)
    if format in ("txt", "fasttext", "trec"):
        return lambda: read_plain_blocks(path, most, BLOCK, format, options)
    return lambda: read_arrow_blocks(path, max_bytes, BLOCK, format)


def _cut(columns: Columns) -> Iterator[Columns]:
    for start in range(0, len(columns.lines), BLOCK):
        end = start + BLOCK
        yield replace(
            columns,
            lines=columns.lines[start:end],
            values={name: values[start:end] for name, values in columns.values.items()},
        )


def _with_columns(block: Columns, names: Iterable[str]) -> Columns:
    """The block with all of these columns, in this order, None in those it lacks."""
    if list(block.values) == list(names):
        return block
    rows = len(block.lines)
    return replace(block, values={name: block.values.get(name) or [None] * rows for name in names})


def _table_of_texts(block: Columns, text_columns: tuple[str, ...], input_spec: InputSpec) -> Table:
    named = replace(input_spec, text_columns=text_columns, label_column=None, named_by_user=True)
    return build_table(block, named, labelled=False, allow_null=True)
