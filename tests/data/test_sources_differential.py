"""Random tables, written by other programs and read back: the same rows or a refusal, never other rows."""

from __future__ import annotations

import csv
import gzip
import io
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pennyweight.data import row_blocks as walking
from pennyweight.data.file_options import MAX_BYTES, FileOptions
from pennyweight.data.input_spec import InputSpec
from pennyweight.data.row_blocks import read_in_blocks
from pennyweight.data.sources import read_columns
from pennyweight.data.table import Columns
from pennyweight.errors import DataError

T = TypeVar("T")
Cell = str | int

WORDS = (
    *(
        "the",
        "match",
        "fell",
        "rates",
        "coach",
        "said",
        "a",
        "new",
        "calm",
        "day",
        "5,000",
        "price;",
        "up|down",
        "a\tb",
    ),
    *("café", "naïve", "£5", "it's", "'quoted'", '"quoted"', 'say "no"', "line\nbreak", "line\r\nbreak", "end.", "7.5"),
)
BEYOND = ("Österreich", "日本語のとても長い文", "😀", "Привет")
CLASSES = ("World", "Sports", "Business", "Sci/Tech", "5 stars", "q&a", "très bon")
NAMES = {
    "id": ("id", "idx", "row"),
    "text": ("text", "review", "comment body"),
    "label": ("label", "sentiment", "kind"),
}


NAMED = "the first row is read as the columns' names"


@dataclass(frozen=True)
class Written:
    """A table as a file: its content, how it is to be read, and what it holds."""

    name: str
    content: bytes
    options: FileOptions
    names: list[str] | None
    rows: list[list[str]]
    how: str


def text(draw: random.Random, words: tuple[str, ...]) -> str:
    if draw.random() < 0.06:
        return ""
    made = " ".join(draw.choice(words) for _ in range(draw.randint(1, 14)))
    return draw.choice(["", "", "", " "]) + made + draw.choice(["", "", "", " "])


def table(draw: random.Random, words: tuple[str, ...]) -> tuple[list[str], list[list[Cell]]]:
    """Names and rows of one to four columns."""
    kinds = draw.choice(
        [
            ["text"],
            ["text", "label"],
            ["label", "text"],
            ["id", "text"],
            ["id", "text", "label"],
            ["id", "text", "text", "label"],
        ]
    )
    names = [draw.choice(NAMES[kind]) for kind in kinds]
    names = [name if name not in names[:place] else f"{name} {place}" for place, name in enumerate(names)]
    classes = [name for name in draw.sample(CLASSES, 3) if words is not WORDS or name.isascii()]
    rows: list[list[Cell]] = []
    for number in range(draw.choice([1, 2, 3, 5, 12, 30])):
        made: dict[str, Callable[[], Cell]] = {
            "id": lambda number=number: number,
            "text": lambda: text(draw, words),
            "label": lambda: draw.choice(classes),
        }
        rows.append([made[kind]() for kind in kinds])
    return names, rows


def by_csv(
    draw: random.Random, names: list[str] | None, rows: list[list[Cell]], mark: str, end: str
) -> tuple[str, str]:
    # A row of one empty field cannot be written without quotes.
    quoting = draw.choice(
        [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC, csv.QUOTE_NONE][: 3 + ([""] not in rows)]
    )
    told: dict[str, Any] = {"escapechar": "\\"} if quoting == csv.QUOTE_NONE else {}
    if quoting != csv.QUOTE_NONE and draw.random() < 0.2:
        told = {"escapechar": "\\", "doublequote": False}
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=mark, quoting=quoting, lineterminator=end, **told)  # type: ignore[arg-type]
    writer.writerows(rows if names is None else [names, *rows])
    return buffer.getvalue(), f"csv quoting {quoting} {told}"


def by_pandas(
    draw: random.Random, names: list[str] | None, rows: list[list[Cell]], mark: str, end: str
) -> tuple[str, str]:
    import pandas as pd

    quoting = draw.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
    frame = pd.DataFrame(rows, columns=names)
    content = frame.to_csv(
        index=False,
        header=names is not None,
        sep=mark,
        quoting=quoting,
        lineterminator=end,  # type: ignore[arg-type]
    )
    return content, f"pandas quoting {quoting}"


def by_arrow(
    draw: random.Random, names: list[str] | None, rows: list[list[Cell]], mark: str, end: str
) -> tuple[str, str]:
    import pyarrow as pa
    import pyarrow.csv

    held = pa.table(
        {
            str(place) if names is None else names[place]: list(column)
            for place, column in enumerate(zip(*rows, strict=True))
        }
    )
    sink = pa.BufferOutputStream()
    options = pyarrow.csv.WriteOptions(include_header=names is not None, delimiter=mark)
    pyarrow.csv.write_csv(held, sink, options)
    return sink.getvalue().to_pybytes().decode(), "pyarrow"


def by_hand(
    draw: random.Random, names: list[str] | None, rows: list[list[Cell]], mark: str, end: str
) -> tuple[str, str]:
    """As GLUE and SNLI are written: tabs, no quoting, quotes that do not pair."""
    every = rows if names is None else [list[Cell](names), *rows]
    return "".join("\t".join(map(str, row)) + end for row in every), "plain tabs"


def unquoted(draw: random.Random, rows: list[list[Cell]]) -> list[list[Cell]]:
    """Rows that tabs and lines can hold, with stray quotes."""

    def plain(cell: Cell) -> Cell:
        if isinstance(cell, int):
            return cell
        cell = " ".join(cell.split()) or "none"
        if cell[0] == cell[-1] == '"':  # one that stands in quotes may be read either way
            return cell[:-1]
        return draw.choice(['"' + cell, cell + '"', cell, cell, cell]) if " " in cell else cell

    return [[plain(cell) for cell in row] for row in rows]


def written(number: int) -> Written:
    """Table `number`, always the same."""
    draw = random.Random(number)
    encoding = draw.choice(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1252"])
    names, rows = table(draw, WORDS if encoding == "cp1252" else (*WORDS, *BEYOND))
    writer = draw.choice([by_csv, by_csv, by_pandas, by_arrow, by_hand])
    mark = "\t" if writer is by_hand else draw.choice([",", ",", ";", "\t", "|"])
    end = draw.choice(["\n", "\n", "\r\n", "\r"])
    headed = draw.random() < 0.6
    if writer is by_hand:
        rows = unquoted(draw, rows)
    content, how = writer(draw, names if headed else None, rows, mark, end)
    options = FileOptions(
        encoding=None if encoding.startswith("utf-8") or draw.random() < 0.2 else encoding,
        header=draw.choice([None, headed]),
    )
    name = draw.choice(["d.tsv", "d.tsv", "d.csv"]) if mark == "\t" else "d.csv"
    if writer is by_hand:
        name = "d.tsv"
    encoded = content.encode(encoding)
    if draw.random() < 0.2:
        name, encoded = f"{name}.gz", gzip.compress(encoded)
    return Written(
        name, encoded, options, names if headed else None, [[str(cell) for cell in row] for row in rows],
        f"{how}, {mark!r}, {end!r}, {encoding}, header {headed}, {options}",
    )  # fmt: skip


def rows_of(blocks: list[Columns]) -> list[list[str]]:
    return [list(row) for block in blocks for row in zip(*block.values.values(), strict=True)]


def reading(read: Callable[[], T]) -> tuple[T | None, str]:
    """What is read, or the message of the refusal."""
    try:
        return read(), ""
    except DataError as error:
        return None, str(error)


def test_the_same_rows_or_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "BLOCK", 4)
    read = 0
    for number in range(200):
        given = written(number)
        path = tmp_path / given.name
        path.write_bytes(given.content)
        whole, refused = reading(partial(read_columns, path, "train", MAX_BYTES, given.options))
        walked, walk_refused = reading(
            partial(read_in_blocks, path, input_spec=InputSpec(("1",), named_by_user=True), options=given.options)
        )
        assert refused == walk_refused, (number, given)
        if whole is None or walked is None:
            assert "\n" not in refused
            continue
        read += 1
        rows = given.rows
        if given.names is None and any(note.startswith(NAMED) for note in whole.notes):
            rows = rows[1:]  # a first row that may be either is read as names, with a word about it
        assert rows_of([whole]) == rows, (number, given)
        blocks = list(walked.blocks())
        assert rows_of(blocks) == rows, (number, given)
        assert [line for block in blocks for line in block.lines] == whole.lines
        if given.names is not None:
            assert list(whole.values) == given.names, (number, given)
    assert read >= 150
