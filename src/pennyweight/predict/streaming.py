"""Predicting texts as they arrive on standard input or in a pipe."""

from __future__ import annotations

import queue
import select
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ..data.cut_tokens import CutTally
from ..data.file_streams import MAX_LINE, is_pipe
from ..data.formats.compression import detect_compression
from ..errors import DataError, InputError
from .prediction_rows import predicted_columns, rows_of
from .predictor import Classifier

# Endings of files that do not consist of lines of text.
_NOT_LINES = (".csv", ".tsv", ".json", ".parquet", ".arrow", ".pkl", ".pickle", ".gz", ".zip")
_BLOCK = 1 << 16  # bytes


def predict_stream(
    classifier: Classifier, texts: Iterator[tuple[dict[str, Any], str]], most: int = 64, cut: CutTally | None = None
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Predict texts as they arrive: one at a time from a slow writer, in batches from a fast one.

    Args:
        texts: (fields to pass on, text) pairs, read in a thread so that no prediction waits for a full batch. When the
            program ends, the thread may still be waiting for input and must hold no lock, so the source has to be an
            unbuffered file.
        most: the largest batch.
        cut: counts their tokens.

    Yields:
        (fields, prediction) pairs, in order.
    """
    thresholds = classifier.thresholds if classifier.multi else None
    waiting: queue.Queue[Any] = queue.Queue(maxsize=4 * most)

    def read() -> None:
        try:
            for item in texts:
                waiting.put(item)
            waiting.put(None)
        except Exception as error:  # raised again in the thread that reads the predictions
            waiting.put(error)

    threading.Thread(target=read, daemon=True).start()
    ended: Any = False
    while ended is False:
        batch = []
        item = waiting.get()
        while True:
            if item is None or isinstance(item, Exception):
                ended = item
                break
            batch.append(item)
            if len(batch) == most:
                break
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                break
        if batch:
            tokens = classifier.encoded([text for _, text in batch])
            if cut is not None:
                cut.add(tokens)
            probabilities = classifier.probabilities_of(tokens)
            predictions = rows_of(predicted_columns(classifier.labels, probabilities, thresholds))
            for (fields, _), prediction in zip(batch, predictions, strict=True):
                yield fields, prediction
    if isinstance(ended, Exception):
        raise ended


def open_pipe(source: str | Path) -> IO[bytes] | None:
    """A named pipe, `<(...)` or `/dev/stdin`, opened unbuffered to be read once; None for anything else.

    Raises:
        InputError: its name ends as that of a file that does not consist of lines.
        DataError: it cannot be opened.
    """
    path = Path(source)
    if not is_pipe(path):
        return None
    if path.suffix.lower() in _NOT_LINES:
        raise InputError(
            "a pipe is read line by line, as JSON lines or plain texts",
            received=path.name,
            remedy="write it to a file first",
            where=path,
        )
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise DataError(f"cannot read the pipe ({error.strerror or error})", where=path) from error


def read_lines(handle: IO[bytes], source: str) -> Iterator[str]:
    """The lines of a byte stream as they arrive, line ends kept.

    Args:
        handle: unbuffered, so that a line is not held back until a buffer is full.

    Raises:
        DataError: naming the line that is not UTF-8, or too long.
    """
    for number, line in enumerate(_lines(handle), start=1):
        if len(line) > MAX_LINE:
            raise DataError("the line is too long", expected=f"at most {MAX_LINE:,} bytes", where=f"{source}:{number}")
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            whole = number == 1 and (detect_compression(line) or line.startswith((b"PAR1", b"ARROW1")))
            raise DataError(
                f"byte 0x{line[error.start]:02X} is not UTF-8",
                where=f"{source}:{number}",
                expected="UTF-8",
                remedy="what is no text has to be in a file: write it to one and name the file" if whole else None,
            ) from None


def _lines(handle: IO[bytes]) -> Iterator[bytes]:
    """The lines of a byte stream; one of more than `MAX_LINE` bytes ends it, unfinished."""
    parts: list[bytes] = []
    size = 0
    while True:
        block = handle.read(_BLOCK)
        if block is None:  # a non-blocking descriptor without data
            select.select([handle], [], [])
            continue
        if not block:
            break
        *whole, rest = block.split(b"\n")
        for line in whole:
            yield b"".join([*parts, line, b"\n"])
            parts, size = [], 0
        parts.append(rest)
        size += len(rest)
        if size > MAX_LINE:
            break
    if size:
        yield b"".join(parts)
