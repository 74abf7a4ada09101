"""Excel workbooks, as spreadsheets and pandas write them, and as attackers do."""

from __future__ import annotations

import datetime
import io
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd

from pennyweight.data.file_options import FileOptions
from pennyweight.data.input_spec import InputSpec
from pennyweight.data.row_blocks import read_in_blocks
from pennyweight.data.sources import read


def book(path: Path, *sheets: list[list[Any]]) -> Path:
    made = openpyxl.Workbook()
    made.remove(made.active)
    for number, rows in enumerate(sheets, start=1):
        sheet = made.create_sheet(f"Sheet {number}")
        for row in rows:
            sheet.append(row)
    made.save(path)
    return path


HEADER = ["text", "label"]


def test_the_rows_of_a_sheet(tmp_path: Path) -> None:
    path = book(tmp_path / "f.xlsx", [HEADER, ["a", "x"], [], ["b", "y"], [None, None], ["", ""]])
    table = read(path)
    assert (table.texts, table.labels, table.lines, table.unit) == (["a", "b"], ["x", "y"], [2, 4], "row")
    assert list(read_in_blocks(path).each_text()) == ["a", "b"]


def test_what_pandas_writes(tmp_path: Path) -> None:
    pd.DataFrame({"text": ["a", "b"], "label": [0, 1], "when": pd.to_datetime(["2024-05-06"] * 2)}).to_excel(
        tmp_path / "f.xlsx"
    )
    table = read(tmp_path / "f.xlsx")
    assert (table.texts, table.labels) == (["a", "b"], [0, 1])
    assert table.extras == {"column 1": [0, 1], "when": ["2024-05-06"] * 2}


def test_cells_of_every_kind(tmp_path: Path) -> None:
    rows = [
        ["text", "label", "when", "odd"],
        ["a", True, datetime.datetime(2024, 5, 6, 7, 8), 1.5],
        [911, False, datetime.date(2024, 5, 6), "word"],
        ["c", True, datetime.time(7, 8), "#N/A"],
    ]
    table = read(book(tmp_path / "f.xlsx", rows))
    assert (table.texts, table.labels) == (["a", "911", "c"], ["true", "false", "true"])
    assert table.extras == {
        "when": ["2024-05-06T07:08:00", "2024-05-06", "07:08:00"],
        "odd": ["1.5", "word", None],
    }


def test_a_sheet_without_a_header(tmp_path: Path) -> None:
    rows = [["A striker scored.", 1], ["A bank warned us.", 0], ["A goal at last.", 1], ["Shares fell.", 0]]
    table = read(book(tmp_path / "f.xlsx", rows))
    assert (table.texts[0], table.labels, table.named) == ("A striker scored.", [1, 0, 1, 0], False)
    path = book(tmp_path / "f.xlsx", [["A striker scored.", "x"], ["A bank warned us.", "y"], ["Late goal.", "x"]])
    assert read(path, InputSpec(("column 1",)), labelled=False, options=FileOptions(header=False)).texts[0] == (
        "A striker scored."
    )


def test_several_sheets(tmp_path: Path) -> None:
    path = book(tmp_path / "f.xlsx", [], [HEADER, ["a", "x"]], [["other"]], [["third"]])
    table = read(path)
    assert table.texts == ["a"]
    assert table.notes == ("read sheet Sheet 2, and not Sheet 3, Sheet 4",)


def test_sheets_that_are_refused(tmp_path: Path, refusal) -> None:
    assert refusal(read, book(tmp_path / "f.xlsx", [])) == (
        "TMP/f.xlsx: the workbook is empty; expected a header and rows"
    )
    assert refusal(read, book(tmp_path / "f.xlsx", [HEADER])) == (
        "TMP/f.xlsx: the sheet has a header but no rows; received columns text, label"
    )
    assert refusal(read, book(tmp_path / "f.xlsx", [["text", "text"], ["a", "b"]])) == (
        "TMP/f.xlsx row 1: the header names a column twice: text; rename one of them"
    )
    assert refusal(read, book(tmp_path / "f.xlsx", [HEADER, ["a", "x"], [None, "y"]])).startswith(
        "TMP/f.xlsx row 3: the text is missing"
    )


def changed(path: Path, name: str, content: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, content if info.filename == name else old.read(info))
    return made.getvalue()


def test_hostile_and_damaged_workbooks(tmp_path: Path, file, refusal) -> None:
    path = book(tmp_path / "f.xlsx", [HEADER, ["a", "x"]])
    sheet = "xl/worksheets/sheet1.xml"
    laughs = b'<!DOCTYPE x [<!ENTITY a "ha">]><worksheet>&a;</worksheet>'
    assert refusal(read, file("g.xlsx", changed(path, sheet, laughs))) == (
        f"TMP/g.xlsx: the workbook defines XML entities; received {sheet}; save it as CSV"
    )
    bomb = changed(path, sheet, b"<worksheet>" + b" " * (80 << 20) + b"</worksheet>")
    assert "the workbook looks like a decompression bomb" in refusal(read, file("g.xlsx", bomb))
    assert "cannot be read as an Excel workbook: damaged" in refusal(read, file("g.xlsx", changed(path, sheet, b"<x")))
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo(sheet).header_offset + 30 + len(sheet)
    crooked = whole[:start] + b"\xff" * 20 + whole[start + 20 :]
    assert "cannot be read as an Excel workbook: damaged, or another format" in refusal(read, file("g.xlsx", crooked))
    assert "the zip archive is damaged or was cut off" in refusal(read, file("g.xlsx", whole[: len(whole) // 2]))
    assert "cannot be read as an Excel workbook" in refusal(read, file("g.xlsx", "text,label\na,x\n"))


def test_a_workbook_under_another_name(tmp_path: Path) -> None:
    path = book(tmp_path / "f.xlsx", [HEADER, ["a", "x"]])
    for name in ("f.csv", "f", "f.xls"):
        assert read(path.rename(tmp_path / name)).labels == ["x"]
        path = tmp_path / name
