"""Text files without columns: one text per line, fastText's labels before the text, and TREC's `LABEL:sub text`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..file_options import AS_NAMED, FileOptions
from ..file_streams import read_lines
from ..table import Columns, shown
from .format_detection import FASTTEXT, Format

Row = tuple[int, dict[str, Any]]


def read_plain(path: Path, max_bytes: int, form: Format, options: FileOptions = AS_NAMED) -> Columns:
    """Read a file of plain lines, each a text (blank ones too); of fastText lines; or of TREC lines.

    Columns are `text`, and `label` where there are labels: lists of them where a fastText line has several. TREC's
    lines also give `coarse`, the label up to its colon.

    Raises:
        DataError: an empty file, or a line without a label.
    """
    return next(read_plain_blocks(path, max_bytes, None, form, options), None) or _empty(path)


def read_plain_blocks(
    path: Path, max_bytes: int, size: int | None, form: Format, options: FileOptions = AS_NAMED
) -> Iterator[Columns]:
    """As `read_plain`, in blocks of `size` rows; None for a single block."""
    rows = _READERS[form](path, max_bytes, options)
    while block := list(islice(rows, size)):
        names = block[0][1]
        yield Columns(
            {name: [row[name] for _, row in block] for name in names},
            [line for line, _ in block],
            str(path),
            named=False,
        )


def _empty(path: Path) -> Columns:
    raise DataError("the file is empty", expected="one text per line", where=path)


def _plain(path: Path, max_bytes: int, options: FileOptions) -> Iterator[Row]:
    for number, line in _numbered(path, max_bytes, options):
        yield number, {"text": line}


def _trec(path: Path, max_bytes: int, options: FileOptions) -> Iterator[Row]:
    """Where the first label has a colon, a line that begins without one has no label."""
    colon: bool | None = None
    for number, line in _numbered(path, max_bytes, options):
        if not line.strip():
            continue
        label, _, text = line.strip().partition(" ")
        colon = ":" in label if colon is None else colon
        if colon and ":" not in label:
            yield number, {"text": line.strip(), "label": None, "coarse": None}
            continue
        if not text.strip():
            raise DataError(
                "the line has a label but no text",
                expected="LABEL:sub text",
                received=shown(line),
                where=f"{path}:{number}",
            )
        yield number, {"text": text.strip(), "label": label, "coarse": label.partition(":")[0]}


def _fasttext(path: Path, max_bytes: int, options: FileOptions) -> Iterator[Row]:
    """Labels may be several on any line: then they are lists on all lines, which only the whole file tells."""
    split = ((number, *_labels_of(line)) for number, line in _numbered(path, max_bytes, options) if line.strip())
    several = any(len(labels) > 1 for _, labels, _ in split)
    for number, line in _numbered(path, max_bytes, options):
        if line.strip():
            labels, text = _labels_of(line)
            yield number, {"text": text, "label": labels if several else next(iter(labels), None)}


def _labels_of(line: str) -> tuple[list[str], str]:
    """The labels of a fastText line, wherever they stand, and the other words."""
    if not line.startswith(FASTTEXT) or line.count(FASTTEXT) > 1:
        words = line.split()
        labels = [word.removeprefix(FASTTEXT) for word in words if word.startswith(FASTTEXT)]
        return labels, " ".join(word for word in words if not word.startswith(FASTTEXT))
    label, *text = line.split(maxsplit=1)
    return [label.removeprefix(FASTTEXT)], text[0].strip() if text else ""


def _numbered(path: Path, max_bytes: int, options: FileOptions) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(read_lines(path, max_bytes, options.encoding), start=1):
        yield number, line.rstrip("\r\n")


_READERS: dict[str, Callable[[Path, int, FileOptions], Iterator[Row]]] = {
    "txt": _plain,
    "fasttext": _fasttext,
    "trec": _trec,
}
