"""A source walked in blocks of rows, any number of times, so that its size does not matter to memory."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .columns import choose_text_columns, is_null
from .file_streams import check_compressed, is_compressed
from .formats.arrow_stream import read_arrow_blocks
from .formats.columnar import is_saved
from .formats.delimited import form_of, read_delimited_blocks
from .formats.folder import file_of_split
from .formats.format_detection import detect
from .formats.json_lines import is_json_lines, read_jsonl_blocks
from .formats.plain_text import read_plain_blocks
from .formats.two_files import as_two_files
from .input_spec import InputSpec
from .sources import read_columns
from .table import AS_NAMED, MAX_BYTES, Columns, FileOptions, Table
from .table_builder import build_table

#: Rows of a block. Inference looks at the first thousand, so that a walk decides as a whole reading does.
BLOCK = 8192
#: Positions of empty texts that are named.
SHOWN = 6
# A walk keeps one block in memory, so that only a gzipped file, whose size its name does not tell, keeps the limit.
_ANY_BYTES = 1 << 50


@dataclass
class Empty:
    """Rows whose text is missing or blank: how many, and where the first few stand."""

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
        return f"{self.count:,} empty {'text' if self.count == 1 else 'texts'}, answered all the same: {where}"


@dataclass(frozen=True)
class RowBlocks:
    """N rows of a source that has been read to its end once, so that every error it holds is known.

    Attributes:
        source: as messages call it.
        rows: N.
        blocks: makes a fresh iterator over the rows' columns, `BLOCK` at a time; every block has the same columns.
        names: the columns; texts: those that are the text.
        unreadable: those that hold neither text nor numbers, with their types.
        streamed: whether a block at a time is read; else the source was read whole.
        input_spec: how columns are joined.
        notes: remarks on how the source was read, one line each, for people.
        empty: the rows without a text.
    """

    source: str
    rows: int
    blocks: Callable[[], Iterator[Columns]]
    names: tuple[str, ...]
    texts: tuple[str, ...]
    unreadable: dict[str, str]
    streamed: bool
    input_spec: InputSpec = field(default_factory=InputSpec)
    notes: tuple[str, ...] = ()
    empty: Empty = field(default_factory=lambda: Empty())

    def tables(self) -> Iterator[Table]:
        """The rows as tables without labels, a missing text as an empty one."""
        return (table for _, table in self.both())

    def each_text(self) -> Iterator[str]:
        """The texts one by one."""
        return (text for table in self.tables() for text in table.texts)

    def both(self) -> Iterator[tuple[Columns, Table]]:
        """Each block as it is, and as a table."""
        for block in self.blocks():
            yield block, _texts_of(block, self.texts, self.input_spec)


def read_in_blocks(
    source: str | Path,
    *,
    input_spec: InputSpec | None = None,
    split: str = "train",
    options: FileOptions = AS_NAMED,
    max_bytes: int = MAX_BYTES,
) -> RowBlocks:
    """Read a source once, keeping nothing, to be read again block by block.

    CSV, TSV, JSON lines, Parquet, Arrow, fastText, TREC and plain lines are walked; anything else (`read` says what)
    is read whole.

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
    blocks = None if as_two_files(source) else _walker(path, max_bytes, options)
    if blocks is None:
        return _whole(read_columns(source, split, max_bytes, options), input_spec)
    if is_compressed(path):
        check_compressed(path, max_bytes)
    # Fields of JSON objects may first come late in a file; every block gets all of them.
    names: dict[str, None] = {}
    unreadable: dict[str, str] = {}
    rows = 0
    texts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    empty = Empty()
    for block in blocks():
        if not block.lines:
            continue
        rows += len(block.lines)
        notes = block.notes
        names.update(dict.fromkeys(block.values))
        unreadable.update(block.unreadable)
        block = _widened(block, names)
        texts = texts or choose_text_columns(block, *input_spec.columns_for(block), pair=input_spec.pair)
        empty.add(_texts_of(block, texts, input_spec))
    if not rows:  # what an empty file is called, and whether it is one, the whole readers say
        return _whole(read_columns(source, split, max_bytes, options), input_spec)

    def again() -> Iterator[Columns]:
        return (_widened(block, names) for block in blocks() if block.lines)

    return RowBlocks(
        str(source),
        rows,
        again,
        tuple(names),
        texts,
        unreadable,
        streamed=True,
        input_spec=input_spec,
        notes=notes,
        empty=empty,
    )


def class_name_of(value: object, names: Sequence[str] | None = None) -> str | None:
    """A cell of a label column as the class's name; None where it is missing."""
    if is_null(value) or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if names is not None and isinstance(value, int):
        return names[value] if 0 <= value < len(names) else None
    return str(value).strip()


def _walker(path: Path, max_bytes: int, options: FileOptions) -> Callable[[], Iterator[Columns]] | None:
    if not os.path.isfile(path) or not os.access(path, os.R_OK):
        return None
    zipped = is_compressed(path)
    most = max_bytes if zipped or max_bytes != MAX_BYTES else _ANY_BYTES
    form = detect(path, max_bytes if zipped else most, options)
    if form in ("csv", "tsv"):
        tabs = form == "tsv"
        found = functools.cache(lambda: form_of(path, most, options, tabs=tabs))
        return lambda: read_delimited_blocks(path, most, BLOCK, options, tabs=tabs, form=found())
    if form in ("json", "jsonl") and is_json_lines(path, most, options):
        return lambda: read_jsonl_blocks(path, most, BLOCK, options)
    if form in ("txt", "fasttext", "trec"):
        return lambda: read_plain_blocks(path, most, BLOCK, form, options)
    if form in ("parquet", "arrow") and not zipped:
        return lambda: read_arrow_blocks(path, max_bytes, BLOCK, form)
    return None


def _widened(block: Columns, names: Sequence[str] | dict[str, None]) -> Columns:
    if block.values.keys() == set(names):
        return block
    rows = len(block.lines)
    return replace(block, values={name: block.values.get(name) or [None] * rows for name in names})


def _texts_of(block: Columns, names: Sequence[str], input_spec: InputSpec) -> Table:
    return build_table(
        block,
        text_columns=names,
        labelled=False,
        separator=input_spec.separator,
        allow_null=True,
        pair=input_spec.pair,
    )


def _whole(columns: Columns, input_spec: InputSpec) -> RowBlocks:
    names = choose_text_columns(columns, *input_spec.columns_for(columns), pair=input_spec.pair)
    empty = Empty()
    empty.add(_texts_of(columns, names, input_spec))

    def blocks() -> Iterator[Columns]:
        for start in range(0, len(columns.lines), BLOCK):
            end = start + BLOCK
            yield replace(
                columns,
                lines=columns.lines[start:end],
                values={name: values[start:end] for name, values in columns.values.items()},
            )

    return RowBlocks(
        columns.source,
        len(columns.lines),
        blocks,
        tuple(columns.values),
        names,
        columns.unreadable,
        streamed=False,
        input_spec=input_spec,
        notes=columns.notes,
        empty=empty,
    )
