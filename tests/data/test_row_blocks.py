"""Walking a source block by block gives what reading it whole gives: rows, lines, errors."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pennyweight.data import row_blocks as walking
from pennyweight.data.label_cells import class_name_of
from pennyweight.data.row_blocks import read_in_blocks
from pennyweight.data.sources import read
from pennyweight.errors import DataError

ROWS = [{"id": number, "text": f"Text number {number} of\nseveral, with \"quotes\"", "label": "ab"[number % 2]}
        for number in range(25)]  # fmt: skip


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "BLOCK", 4)


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("d.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS))


def classes(path: Path) -> None:
    for row in ROWS:
        file = path / str(row["label"]) / f"{row['id']}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(row["text"]), "utf-8")


def lines(form: str) -> str:
    """The rows with their texts on one line each, as `form` has it."""
    return "".join(form.format(**row, flat=" ".join(str(row["text"]).split())) for row in ROWS)


def json_lines(path: Path, each: Callable[[dict[str, Any]], Any]) -> None:
    path.write_text("".join(json.dumps(each(row)) + "\n" for row in ROWS), "utf-8")


# How each further form is written.
TABLE = "text,label\n" + lines('"{flat:.16}",{label}\n')
OTHERS: dict[str, Callable[[Path], object]] = {
    "plain.txt": lambda path: path.write_text(lines("{flat}\n\n"), "utf-8"),
    "d.ft": lambda path: path.write_text(lines("__label__{label} {flat}\n"), "utf-8"),
    "late.ft": lambda path: path.write_text(lines("__label__{label} {flat}\n") + "__label__a __label__b c\n", "utf-8"),
    "d.label": lambda path: path.write_text(lines("ABBR:{label} {flat}\n"), "utf-8"),
    "d.data": lambda path: path.write_text(TABLE, "utf-8"),
    "pairs.jsonl": lambda path: json_lines(path, lambda row: [row["text"], row["label"]]),
    "swapped.jsonl": lambda path: json_lines(path, lambda row: [row["label"], row["text"]]),
    "nested.jsonl": lambda path: json_lines(path, lambda row: {"data": row}),
    "indented.json": lambda path: path.write_text("\n".join(json.dumps(row, indent=1) for row in ROWS), "utf-8"),
    "columns.json": lambda path: path.write_text(json.dumps({key: [row[key] for row in ROWS] for key in ROWS[0]})),
    "d.csv.bz2": lambda path: path.write_bytes(bz2.compress(TABLE.encode())),
    "d.txt.xz": lambda path: path.write_bytes(lzma.compress(lines("{flat}\n").encode())),
    "d.zip": zipped,
    "d.xlsx": lambda path: pandas().DataFrame(ROWS).to_excel(path, index=False),
    "classes": classes,
}


def pandas() -> Any:
    import pandas as pd

    return pd


def write(path: Path) -> Path:
    import pandas as pd

    frame = pd.DataFrame(ROWS)
    form = path.name.removesuffix(".gz").rpartition(".")[2]
    if form in ("csv", "tsv"):
        frame.to_csv(path, index=False, sep="\t" if form == "tsv" else ",")
    elif form == "jsonl":
        frame.to_json(path, lines=True, orient="records")
    elif form == "json":
        path.write_text(json.dumps(ROWS), "utf-8")
    elif form == "parquet":
        frame.to_parquet(path, row_group_size=7)
    else:
        import pyarrow as pa

        table = pa.Table.from_pandas(frame)
        make = pa.ipc.new_stream if path.stem == "stream" else pa.ipc.new_file
        with pa.OSFile(str(path), "wb") as file, make(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=9)
    return path


@pytest.mark.parametrize(
    ("name", "streamed"),
    [
        ("d.csv", True), ("d.tsv", True), ("d.jsonl", True), ("d.csv.gz", True), ("d.jsonl.gz", True),
        ("d.parquet", True), ("d.arrow", True), ("stream.arrow", True), ("d.json", False),
    ],
)  # fmt: skip
def test_blocks_are_the_rows_of_the_whole(name: str, streamed: bool, tmp_path: Path) -> None:
    whole = read(write(tmp_path / name), labelled=False)
    walked = read_in_blocks(tmp_path / name)
    assert (walked.rows, walked.text_columns, walked.streamed) == (25, ("text",), streamed)
    for _ in range(2):  # any number of times
        tables = list(walked.tables())
        assert len(tables) > 5
        assert max(map(len, tables)) <= 4
        assert [text for table in tables for text in table.texts] == whole.texts
        assert [line for table in tables for line in table.lines] == whole.lines
        assert {table.unit for table in tables} == {whole.unit}
        assert [row for table in tables for row in table.extras["id"]] == whole.extras["id"]
        assert [row for table in tables for row in table.extras["label"]] == whole.extras["label"]


@pytest.mark.parametrize("name", OTHERS)
def test_every_other_form_is_walked_as_it_is_read(name: str, tmp_path: Path) -> None:
    OTHERS[name](tmp_path / name)
    whole = read(tmp_path / name, labelled=False)
    walked = read_in_blocks(tmp_path / name)
    assert walked.rows == len(whole) == {"plain.txt": 50, "late.ft": 26}.get(name, 25)
    assert walked.notes == whole.notes
    for _ in range(2):
        tables = list(walked.tables())
        assert max(map(len, tables)) <= 4
        assert [text for table in tables for text in table.texts] == whole.texts
        assert [line for table in tables for line in table.lines] == whole.lines
        assert {table.unit for table in tables} == {whole.unit}
        assert {table.named for table in tables} == {whole.named}
        for column, cells in whole.extras.items():
            assert [cell for table in tables for cell in table.extras[column]] == cells
    assert ("label" in whole.extras) == (name not in ("plain.txt", "d.txt.xz"))


def test_the_official_form_without_a_header(tmp_path: Path) -> None:
    lines = [f'"{number % 4 + 1}","Title {number}","Description {number}"' for number in range(9)]
    (tmp_path / "d.csv").write_text("\n".join(lines) + "\n", "utf-8")
    (tmp_path / "classes.txt").write_text("World\nSports\nBusiness\nSci/Tech\n", "utf-8")
    walked = read_in_blocks(tmp_path / "d.csv")
    assert walked.rows == 9
    assert walked.text_columns == ("title", "description")
    assert [text for table in walked.tables() for text in table.texts] == read(tmp_path / "d.csv").texts


def test_a_field_that_comes_late_is_in_every_block(tmp_path: Path) -> None:
    rows = [{"text": f"text {number}"} | ({"id": number} if number > 9 else {}) for number in range(12)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    found = [row for table in read_in_blocks(tmp_path / "d.jsonl").tables() for row in table.extras["id"]]
    assert found == [None] * 10 + [10, 11]


def test_fields_in_another_order_later_keep_their_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "BLOCK", 2)
    rows = [{"text": "a", "id": 0}, {"text": "b", "id": 1}, {"id": 2, "text": "c"}, {"id": 3, "text": "d"}, {"id": 4}]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    found = [block.values for block, _ in read_in_blocks(tmp_path / "d.jsonl").blocks_and_tables()]
    assert [list(values) for values in found] == [["text", "id"]] * 3
    assert [values["text"] for values in found] == [["a", "b"], ["c", "d"], [None]]


def test_tabs_without_quoting_are_read_as_such(tmp_path: Path) -> None:
    (tmp_path / "d.tsv").write_text("text\tid\n" + "".join(f'5" disk {n}\t{n}\n' for n in range(9)), "utf-8")
    assert [text for table in read_in_blocks(tmp_path / "d.tsv").tables() for text in table.texts][8] == '5" disk 8'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.csv", "text,label\n" + "a text,x\n" * 9 + "b,y,z\n"),
        ("d.csv", "text,label\n" + "a text,x\n" * 9 + '"open,x\n'),
        ("d.csv", "text,label\n"),
        ("d.csv", ""),
        ("d.csv", "one,other\n1,2\n"),
        ("d.jsonl", '{"text": "a"}\n' * 9 + "{\n"),
        ("d.jsonl", '{"text": "a"}\n' * 9 + '{"text": 5}\n'),
        ("d.jsonl", "\n"),
        ("d.parquet", "not parquet"),
        ("d.arrow", "not arrow"),
        ("d.csv.gz", "not gzip"),
        ("d.docx", "x"),
        ("none.csv", None),
        ("d.txt", ""),
        ("d.txt", "text,label\na,x,y\n"),
        ("d.txt", "pos,a\nneg,b\npos,c\nneg,d\n"),
        ("d.label", "ABBR:x a\n" * 20 + "ABBR:y\n"),
        ("d.json", '{"a": ['),
        ("d.json", "{}"),
        ("d.jsonl", '["a", "x"]\n' * 9 + '["a"]\n'),
        ("d.csv.bz2", "not bzip2"),
        ("d.zip", "not zip"),
        ("d.xlsx", "not a workbook"),
        ("d.xls", "\0"),
    ],
)
def test_errors_are_those_of_a_whole_reading(name: str, content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(DataError) as whole:
        read(tmp_path / name, labelled=False, allow_null=True)
    with pytest.raises(DataError) as walked:
        read_in_blocks(tmp_path / name)
    assert str(walked.value) == str(whole.value)


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "d.csv.gz", "wt") as file:
        file.write("text\n")
        for _ in range(80):
            file.write("a" * 1_000_000 + "\n")
    with pytest.raises(DataError, match="looks like a decompression bomb"):
        read_in_blocks(tmp_path / "d.csv.gz")


def test_labels_as_class_names() -> None:
    cells: list[object] = ["a ", "", None, float("nan"), 3, 3.0, True, "3"]
    assert [class_name_of(cell) for cell in cells] == ["a", None, None, None, "3", "3", "true", "3"]
    assert [class_name_of(cell, ("x", "y")) for cell in (0, 1, -1)] == ["x", "y", None]


def test_predictions_in_blocks_are_those_of_the_whole(
    tiny_run: Path, tmp_path: Path, command: Callable[..., object]
) -> None:
    import pandas as pd

    import pennyweight as pw

    write(tmp_path / "d.parquet")
    assert command("predict", tiny_run, tmp_path / "d.parquet", "--out", tmp_path / "out.parquet").code == 0  # type: ignore[attr-defined]
    found = pd.read_parquet(tmp_path / "out.parquet")
    assert found["id"].tolist() == list(range(25))
    assert found["predicted_label"].tolist() == pw.load(tiny_run).predict([str(row["text"]) for row in ROWS])


def test_remarks_of_a_whole_file(tmp_path: Path) -> None:
    rows = "".join(f"{number},A text of some length {number}\n\n" for number in range(9))
    (tmp_path / "d.csv").write_text(f"id,text\n{rows}", "utf-8")
    walked = read_in_blocks(tmp_path / "d.csv")
    assert walked.rows == 9
    assert walked.notes == ("8 blank lines were skipped: 3, 5, 7, 9, 11, 13 and 2 more",)
    assert read(tmp_path / "d.csv", labelled=False).notes == walked.notes


def test_two_columns_of_one_name_that_differ_late(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("text,label,label\n" + "a text,x,x\n" * 9 + "b,y,z\n", "utf-8")
    with pytest.raises(DataError, match="label, columns 2 and 3, which differ on line 11"):
        read_in_blocks(path)


@pytest.mark.parametrize("kind", ["string_view", "string"])
def test_an_arrow_file_of_views_is_read_as_one_of_strings(kind: str, tmp_path: Path) -> None:
    """Polars writes views, which not every pyarrow can measure."""
    import pyarrow as pa

    table = pa.table({"text": pa.array([row["text"] for row in ROWS], getattr(pa, kind)())})
    with pa.OSFile(str(tmp_path / "d.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    walked = read_in_blocks(tmp_path / "d.arrow")
    found = list(walked.each_text())
    assert found == [row["text"] for row in ROWS] == read(tmp_path / "d.arrow", labelled=False).texts
