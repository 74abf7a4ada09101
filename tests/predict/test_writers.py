"""What is written: the input's columns as they were, the answers behind them, nothing that a spreadsheet runs."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pennyweight as pw
from pennyweight.errors import InputError
from pennyweight.predict.writers import CHUNK, follow_links, output_form, write_file

Command = Callable[..., Any]
OURS = ["label", "probability", "p_Business", "p_Sports", "p_World"]
ODD = ["-1", "@ann", "=x", "+49", "5", "007", "", "null"]


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A CSV file whose ids and scores look like formulas, with a text that is one."""
    path = tmp_path / "texts.csv"
    texts = ["=1+1", "-2", "+ a point", "@home", "The bank", "a\rb", 'say "hi",\nthen go', "\tx"]
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["ID", "score", "text", "user_id"])
        writer.writerows(zip(ODD, ["-0.5", "+1e3", "-1,234.5", "1.0", "2", "3%", "-4", ""], texts, ODD, strict=True))
    return path


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_the_inputs_columns_come_out_as_they_went_in(
    form: str, table: Path, tiny_run: Path, tmp_path: Path, command: Command
) -> None:
    out = tmp_path / f"out.{form}"
    assert command("predict", tiny_run, table, "--out", out, "--no-csv-guard").code == 0
    given, found = rows_of(table), rows_of(out)
    assert list(found[0]) == ["ID", "score", "text", "user_id", *OURS]
    assert [{name: row[name] for name in given[0]} for row in found] == given


def test_only_free_text_is_guarded_against_spreadsheets(
    table: Path, tiny_run: Path, tmp_path: Path, command: Command
) -> None:
    assert command("predict", tiny_run, table, "--out", tmp_path / "out.csv").code == 0
    given, found = rows_of(table), rows_of(tmp_path / "out.csv")
    for name in ("ID", "score", "user_id"):
        assert [row[name] for row in found] == [row[name] for row in given]
    assert [row["text"] for row in found] == [
        "'=1+1", "-2", "'+ a point", "'@home", "The bank", "a\rb", 'say "hi",\nthen go', "'\tx",
    ]  # fmt: skip


def test_labels_and_ids_that_are_named_stay(
    tiny_backbone: Callable[..., Path], tmp_path: Path, command: Command
) -> None:
    source = tmp_path / "f.csv"
    rows = [
        f"The {word} of {number},{label},@u{number}{word[0]}"
        for number in range(10)
        for word, label in (("bank", -1), ("cup", 1))
    ]
    source.write_text("\n".join(["text,label,who", *rows]) + "\n")
    pw.train(
        source, out=tmp_path / "run", backbone=str(tiny_backbone("bert")), budget="5k", max_steps=1, precision="fp32",
        report="short", batch_size=8,
    )  # fmt: skip
    done = command("predict", tmp_path / "run", source, "--out", tmp_path / "out.csv", "--id-column", "Who")
    assert done.err == (
        f"20 texts labelled: {tmp_path / 'out.csv'}\n"
        "the input already has columns label: the prediction columns get the prefix predicted_\n"
    )
    found = rows_of(tmp_path / "out.csv")
    assert list(found[0]) == ["text", "label", "who", "predicted_label", "probability", "p_-1", "p_1"]
    assert {row["label"] for row in found} == {"-1", "1"}
    assert {row["predicted_label"] for row in found} <= {"-1", "1"}
    assert found[0]["who"] == "@u0b"
    # Its own numbers say the order.
    submitted = command("predict", tmp_path / "run", source, "--submission", "--id-column", "who")
    assert submitted.err == "class numbers: 0 = -1, 1 = 1\n"
    assert submitted.out.splitlines()[1].startswith("@u0b,")
    refused = command("predict", tmp_path / "run", source, "--id-column", "name")
    assert refused.error == (
        f"{source}: no column named name; expected one of text, label, who; name it with --id-column c"
    )


def test_without_the_inputs_columns_the_id_and_the_text_stay(table: Path, tiny_run: Path, command: Command) -> None:
    done = command("predict", tiny_run, table, "--no-input-columns")
    assert [list(json.loads(line)) for line in done.out.splitlines()] == [["ID", "text", *OURS]] * 8
    done = command("predict", tiny_run, table, "--no-input-columns", "--no-text")
    assert [list(json.loads(line)) for line in done.out.splitlines()] == [["ID", *OURS]] * 8
    line = json.dumps({"n": 7, "text": "The bank."}) + "\n"
    done = command("predict", tiny_run, "-", "--no-input-columns", stdin=line)
    assert list(json.loads(done.out)) == ["text", *OURS]
    done = command("predict", tiny_run, "-", "--no-input-columns", "--id-column", "n", stdin=line)
    assert list(json.loads(done.out)) == ["n", "text", *OURS]


def test_values_of_json_stay_what_they_are(tiny_run: Path, tmp_path: Path, command: Command) -> None:
    given = {
        "text": "The bank.", "n": 3, "x": 1.0, "yes": True, "none": None, "tags": ["a", "b"], "deep": {"a": [1, None]},
        "half": "\ud800", "large": 2**70,
    }  # fmt: skip
    source = tmp_path / "f.jsonl"
    source.write_text(json.dumps(given) + "\n", "utf-8")
    for done in (
        command("predict", tiny_run, source, "--out", tmp_path / "out.jsonl"),
        command("predict", tiny_run, source, "--out", tmp_path / "out.csv"),
        command("predict", tiny_run, source, "--out", tmp_path / "out.parquet"),
    ):
        assert done.code == 0, done.err
    (found,) = rows_of(tmp_path / "out.jsonl")
    assert {name: found[name] for name in given} == given
    (found,) = rows_of(tmp_path / "out.csv")
    assert [found[name] for name in given] == [
        "The bank.", "3", "1.0", "true", "", "a|b", '{"a": [1, null]}', "\\ud800", str(2**70),
    ]  # fmt: skip
    (found,) = rows_of(tmp_path / "out.parquet")
    assert [found[name] for name in given] == [
        "The bank.", 3, 1.0, True, None, ["a", "b"], '{"a": [1, null]}', "\\ud800", str(2**70),
    ]  # fmt: skip
    streamed = command("predict", tiny_run, "-", stdin=json.dumps(given) + "\n")
    assert {name: value for name, value in json.loads(streamed.out).items() if name in given} == given


def test_numbers_of_parquet_keep_their_types(tiny_run: Path, tmp_path: Path, command: Command) -> None:
    columns = {
        "text": pa.array(["The bank.", "The cup."]),
        "small": pa.array([1, None], pa.int32()),
        "half": pa.array([0.5, float("nan")], pa.float32()),
        "yes": pa.array([True, None]),
        "nothing": pa.nulls(2),
        "when": pa.array([0, 1], pa.timestamp("ms")),
    }
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    done = command("predict", tiny_run, tmp_path / "in.parquet", "--out", tmp_path / "out.parquet")
    assert done.err.endswith("\ncolumns that contain neither text nor numbers are left out: when (timestamp[ms])\n")
    schema = pq.read_schema(tmp_path / "out.parquet")
    assert [str(schema.field(name).type) for name in ("small", "half", "yes", "nothing")] == [
        "int32", "float", "bool", "string",
    ]  # fmt: skip
    assert pq.read_table(tmp_path / "out.parquet")["small"].to_pylist() == [1, None]
    done = command("predict", tiny_run, tmp_path / "in.parquet")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [(row["small"], row["half"], row["yes"]) for row in lines] == [(1, 0.5, True), (None, None, None)]


@pytest.mark.parametrize(
    ("early", "late", "kind", "first"),
    [
        (None, 3, "int64", None),
        (None, "a", "string", None),
        (2, 0.5, "double", 2.0),
        (2, "a", "string", "2"),
        (True, "a", "string", "true"),
        (["a"], "b", "string", '["a"]'),
        ({"a": 1}, "b", "string", '{"a": 1}'),
    ],
)
def test_a_parquet_column_that_changes_after_the_first_block(
    early: Any, late: Any, kind: str, first: Any, tmp_path: Path
) -> None:
    block = CHUNK
    rows: list[dict[str, Any]] = [{"n": number, "x": early} for number in range(block)]
    rows += [{"n": block, "x": late}, {"n": block + 1, "x": early, "more": 1}]
    assert write_file(iter(rows), tmp_path / "out.parquet") == block + 2
    found = pq.read_table(tmp_path / "out.parquet")
    assert [(one.name, str(one.type)) for one in found.schema] == [("n", "int64"), ("x", kind), ("more", "int64")]
    assert found["n"].to_pylist() == list(range(block + 2))
    assert found["x"].to_pylist()[0] == first
    assert found["x"].to_pylist()[block] == (late if kind != "string" else str(late))
    assert found["more"].to_pylist()[-2:] == [None, 1]
    assert list(tmp_path.iterdir()) == [tmp_path / "out.parquet"]


def test_csv_has_one_header(tiny_run: Path, command: Command) -> None:
    lines = '{"text": "one", "n": 1}\n{"text": "two"}\n{"text": "three", "other": 1}\n'
    done = command("predict", tiny_run, "-", "--format", "csv", stdin=lines)
    assert (done.code, done.error) == (
        2, "row 3 has fields that the first row lacks; "
        "expected text, n, label, probability, p_Business, p_Sports, p_World; received other; "
        "write JSONL: --format jsonl",
    )  # fmt: skip
    assert [row["n"] for row in csv.DictReader(done.out.splitlines())] == ["1", ""]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "texts.csv"
    path.write_text("text\nThe bank cut its rate.\n")
    return path


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_written(
    there: bool, source: Path, tiny_run: Path, tmp_path: Path, command: Command
) -> None:
    disk, link = tmp_path / "disk", tmp_path / "link.csv"
    disk.mkdir()
    if there:
        (disk / "out.csv").write_text("old")
    (tmp_path / "first.csv").symlink_to("disk/out.csv")
    link.symlink_to("first.csv")
    assert command("predict", tiny_run, source, "--out", link).code == 0
    assert link.is_symlink()
    assert (disk / "out.csv").read_text().startswith("text,label,")
    assert os.listdir(disk) == ["out.csv"]


def test_links_that_lead_nowhere_or_to_a_device_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").symlink_to("b.csv")
    (tmp_path / "b.csv").symlink_to("a.csv")
    with pytest.raises(InputError, match="the links lead to each other"):
        follow_links(tmp_path / "a.csv")
    for device in ("/dev/stdout", "/dev/null", "/proc/self/fd/1"):
        link = tmp_path / "link.csv"
        link.symlink_to(device)
        with pytest.raises(InputError, match="not a regular file"):
            follow_links(link)
        link.unlink()


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/x.csv", "/dev/shm/../x.csv", "/proc/x.csv", "/", "."])
def test_devices_and_folders_are_no_output(path: str) -> None:
    with pytest.raises(InputError, match="not a regular file"):
        output_form(path, "csv")


def test_the_folder_of_shared_memory_holds_files() -> None:
    assert output_form("/dev/shm/no-such-file.csv") == "csv"


def test_a_read_only_file_is_not_replaced(
    source: Path, tiny_run: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.csv"
    out.write_text("kept")
    out.chmod(0o400)
    access = os.access  # root may write to any file
    monkeypatch.setattr(os, "access", lambda path, mode: path != out and access(path, mode))
    done = command("predict", tiny_run, source, "--out", out)
    assert (done.code, done.error) == (2, f"{out}: the file is read-only; make it writable, or give --out another name")
    assert out.read_text() == "kept"


@pytest.mark.parametrize("kind", ["two files", "a folder of splits"])
def test_no_file_of_the_input_is_overwritten(
    kind: str, source: Path, tiny_run: Path, tmp_path: Path, command: Command
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    if kind == "two files":
        out = folder / "labels.txt"
        (folder / "texts.txt").write_text("The bank.\nThe cup.\n")
        out.write_text("Business\nSports\n")
        given = f"{folder / 'texts.txt'},{out}"
    else:
        out = folder / "test.csv"
        source.rename(out)
        given = str(folder)
    before = out.read_bytes()
    order = ("--label-order", "World,Sports,Business")
    for flags in ((), ("--submission", *order)):
        done = command("predict", tiny_run, given, "--out", out, "--format", "csv", *flags)
        assert done.code == 2
        assert done.error == f"{out}: the output would overwrite the input; give --out another name"
    assert out.read_bytes() == before
    assert command("predict", tiny_run, given, "--out", folder / "other.csv").code == 0


def test_a_folder_of_texts_is_not_written_into(tiny_run: Path, tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "texts"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        (folder / name / "1.txt").write_text("The bank.")
    for out in (folder / "out.csv", folder / "a" / "out.csv"):
        done = command("predict", tiny_run, folder, "--out", out)
        assert (done.code, done.error) == (
            2, f"{out}: the output would be in the folder that is read; give --out another folder",
        )  # fmt: skip
    assert command("predict", tiny_run, folder, "--out", tmp_path / "out.csv").code == 0
    assert sorted(item.name for item in folder.rglob("*")) == ["1.txt", "1.txt", "a", "b"]
