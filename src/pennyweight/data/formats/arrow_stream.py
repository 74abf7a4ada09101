"""Parquet and Arrow files batch by batch, one in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..file_streams import BOMB_FLOOR, BOMB_RATIO
from ..table import Columns
from .columnar import collect_batches, damaged, decompression_bomb, readable_columns, without_views
from .format_detection import Format

#: The most one block of a walk may take: some thousands of the longest texts.
_BLOCK_BYTES = 1 << 30


def read_arrow_blocks(path: Path, max_bytes: int, size: int, format: Format) -> Iterator[Columns]:
    """What `read_parquet` and `read_arrow` read (a plain file of either), by blocks of at most `size` rows."""
    import pyarrow as pa
    from pyarrow import parquet

    form = "Parquet" if format == "parquet" else "Arrow"
    try:
        with path.open("rb") as handle:
            head = handle.read(6)
        if form == "Parquet":
            file = parquet.ParquetFile(path)
            schema = file.schema_arrow
            names = readable_columns(schema)
            batches: Iterable[Any] = file.iter_batches(batch_size=size, columns=names) if names else iter(())
        else:
            mapped = pa.memory_map(str(path))
            arrow = pa.ipc.open_file(mapped) if head == b"ARROW1" else pa.ipc.open_stream(mapped)
            schema = arrow.schema
            whole = (arrow.get_batch(n) for n in range(arrow.num_record_batches)) if head == b"ARROW1" else arrow
            batches = (batch.slice(at, size) for batch in whole for at in range(0, batch.num_rows, size))
        done, unfolded = 0, 0
        for batch in batches:
            found = collect_batches([batch], schema, str(path), min(max_bytes, _BLOCK_BYTES), start=done)
            unfolded += sum(without_views(column).nbytes for column in batch.columns)
            if unfolded > max(BOMB_FLOOR, BOMB_RATIO * path.stat().st_size):
                raise decompression_bomb(str(path), path.stat().st_size)
            done += batch.num_rows
            yield found
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged(path, form, error) from error
