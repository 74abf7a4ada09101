"""The format of a file: told by its bytes first, its name second, its lines third; what is not read says what to do."""

from __future__ import annotations

import io
import os
import sqlite3
import tarfile
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from pennyweight.data.file_options import FileOptions
from pennyweight.data.formats.format_detection import detect_format, is_file_name
from pennyweight.data.sources import read

FRAME = pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"]})
LIMIT = 1 << 30


def package(*names: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in ("[Content_Types].xml", *names):
            archive.writestr(name, "<x/>")
    return made.getvalue()


def tar() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("train.csv"))
    return made.getvalue()


@pytest.mark.parametrize("name", ["f", "f.bin", "f.csv", "f.json", "f.txt"])
def test_bytes_count_more_than_names(file, name: str) -> None:
    arrow = io.BytesIO()
    FRAME.to_feather(arrow)
    for content in (FRAME.to_parquet(), arrow.getvalue()):
        assert read(file(name, content)).labels == ["x", "y"]


@pytest.mark.parametrize(
    ("content", "what", "remedy"),
    [
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 500, "an old Excel workbook (.xls), or one with a password",
         "save it as .xlsx without a password, or as CSV"),
        (package("xl/workbook.bin"), "a binary Excel workbook (.xlsb)", "save it as .xlsx or CSV"),
        (package("word/document.xml"), "a Word document", "save it as CSV, JSONL or Parquet"),
        (package("content.xml"), "an OpenDocument file (.ods, .odt)", "save its table as .xlsx or CSV"),
        (b"\x28\xb5\x2f\xfd\0\0", "compressed with zstd", "decompress it: zstd -d FILE"),
        (b"FEA1\0\0\0\0", "a Feather file of version 1", "write it again with a current pandas or pyarrow: to_parquet"),
        (b"%PDF-1.7\n", "a PDF document", "save it as CSV, JSONL or Parquet"),
        (tar(), "a tar archive", "unpack it and name the file"),
        (b"<?xml version='1.0'?>\n<texts/>", "an XML or HTML document", "save it as CSV, JSONL or Parquet"),
    ],
)  # fmt: skip
def test_what_is_not_read_says_what_to_do(file, refusal, content: bytes, what: str, remedy: str) -> None:
    assert refusal(read, file("data", content)) == (
        f"TMP/data: the file is {what}, which is not supported; expected CSV, TSV, JSON, JSON lines, Parquet, Arrow, "
        f".xlsx, fastText, TREC or plain lines, or one of these compressed (.gz, .bz2, .xz, .zip); {remedy}"
    )


def test_a_database(tmp_path: Path, refusal) -> None:
    with sqlite3.connect(tmp_path / "f.db") as base:
        base.execute("create table news (text, label)")
    base.close()
    assert "the file is an SQLite database, which is not supported" in refusal(read, tmp_path / "f.db")


def test_a_format_that_is_said_is_taken(file) -> None:
    path = file("f.csv", "text\tlabel\na\tx\n")
    assert read(path, options=FileOptions(format="tsv")).labels == ["x"]
    lines = file("f.csv", '{"text": "a", "label": "x"}\n{"text": "b", "label": "x"}\n')
    assert read(lines, options=FileOptions(format="jsonl")).texts == ["a", "b"]


def test_binary_content_of_no_known_format(file, refusal) -> None:
    message = refusal(read, file("f.txt", b"a\0b\0"))
    assert "cannot detect the file's format from its name, and its content is binary" in message


def test_a_pipe_is_not_looked_into(tmp_path: Path, refusal) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "cannot detect the file's format from its name; " in refusal(detect_format, tmp_path / "pipe", LIMIT)
    assert detect_format(tmp_path / "pipe", LIMIT, FileOptions(format="csv")) == "csv"


def test_names_of_files_and_of_datasets() -> None:
    assert all(map(is_file_name, ("a/b.csv", "a/b.csv.gz", "a/b.txt", "a/b.zip", "a/b.xlsx", "b.XLS")))
    assert not any(map(is_file_name, ("fancyzhx/ag_news", "owner/name-v1.5", "owner/name:config")))


def test_a_table_without_a_suffix_is_not_read_as_lines_of_text(file, refusal) -> None:
    rows = "".join(f"{number},word {number}\n" for number in range(20))
    assert detect_format(file("f", "id,text\n" + rows), LIMIT, FileOptions()) == "csv"
    assert refusal(detect_format, file("g", "number,text\n" + rows), LIMIT, FileOptions()) == (
        "TMP/g: the lines may be a table or plain text; received number,text; choose with --format csv or --format txt"
    )
    prose = "".join(f"First {number}, then {number + 1}.\n" for number in range(20))
    assert detect_format(file("h", prose), LIMIT, FileOptions()) == "txt"
