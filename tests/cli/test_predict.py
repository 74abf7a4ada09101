"""What `predict` says: one line for each thing, whatever the data hold."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pennyweight as pw
from pennyweight.errors import InputError


@pytest.fixture(scope="module")
def broken_lines(tiny_backbone: Callable[..., Path], news: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose labels contain line breaks."""
    folder = tmp_path_factory.mktemp("runs")
    with (news / "train.csv").open(newline="") as handle:
        rows = [{**row, "label": f"{row['label']}\nnews"} for row in csv.DictReader(handle)]
    with (folder / "train.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, ["id", "text", "label"])
        writer.writeheader()
        writer.writerows(rows)
    pw.train(
        folder / "train.csv", out=folder / "run", backbone=str(tiny_backbone("bert")), budget="5k", epochs=1,
        batch_size=8, precision="fp32", report="short",
    )  # fmt: skip
    return folder / "run"


def test_a_label_or_a_text_with_a_line_break_takes_one_line(
    broken_lines: Path, news: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    order = ("--label-order", '"World\nnews","Sports\nnews","Business\nnews"')
    out = tmp_path / "s.csv"
    done = command("predict", broken_lines, news / "test.csv", "--submission", *order, "--out", out)
    assert done.err == (
        f"class numbers: 0 = World\\nnews, 1 = Sports\\nnews, 2 = Business\\nnews\n15 texts labelled: {out}\n"
    )
    done = command("predict", broken_lines, "--text", "The bank\ncut its rate.")
    assert done.code == 0
    assert done.out.endswith("  The bank\\ncut its rate.\n")
    assert done.out.count("\n") == 1


def test_one_text_is_not_several(tiny_run: Path, tmp_path: Path, command: Callable[..., Any]) -> None:
    out = tmp_path / "out\n.csv"
    done = command("predict", tiny_run, "--text", "The bank.", "--out", out)
    assert (done.code, done.err) == (0, f"1 text labelled: {tmp_path}/out\\n.csv\n")


@pytest.mark.parametrize("name", ["pennyweight.json", "adapter/rows.jsonl"])
def test_the_classifier_is_not_overwritten(
    tiny_run: Path, news: Path, tmp_path: Path, command: Callable[..., Any], name: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    before = (run / "pennyweight.json").read_bytes()
    for out in (run / name, tmp_path / "run" / ".." / "run" / name):
        done = command("predict", run, news / "test.csv", "--out", out, "--format", "jsonl")
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert "the output would overwrite the classifier" in done.err
        for loaded in (pw.load(run), pw.load(tiny_run)):  # whichever classifier writes
            with pytest.raises(InputError, match="the output would overwrite the classifier"):
                loaded.predict_file(news / "test.csv", out, form="jsonl")
    assert (run / "pennyweight.json").read_bytes() == before
    assert command("predict", run, news / "test.csv", "--out", run / "rows.jsonl").code == 0  # beside its own files
    assert pw.load(run).predict("The bank.")


def test_an_exported_classifier_is_not_overwritten(tiny_run: Path, news: Path, tmp_path: Path) -> None:
    for name in ("classifier.json", "model.onnx"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match=r"classifier\.json: the output would overwrite the classifier"):
        pw.load(tiny_run).predict_file(news / "test.csv", tmp_path / "classifier.json", form="jsonl")
    rows = tmp_path / "rows.jsonl"
    assert pw.load(tiny_run).predict_file(news / "test.csv", rows) == 15
    before = rows.read_bytes()
    (tmp_path / "link.jsonl").symlink_to(rows)
    with pytest.raises(InputError, match="the output would overwrite the input"):
        pw.load(tiny_run).predict_file(rows, tmp_path / "link.jsonl")
    assert rows.read_bytes() == before


def test_a_dash_is_standard_output(
    tiny_run: Path, news: Path, tmp_path: Path, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command("predict", tiny_run, news / "test.csv", "--out", "-", "--format", "csv")
    assert (done.code, done.out.count("\n"), list(tmp_path.iterdir())) == (0, 16, [])
    assert done.out == command("predict", tiny_run, news / "test.csv", "--format", "csv").out
    for more in (("--format", "parquet"), ("--resume",)):
        refused = command("predict", tiny_run, news / "test.csv", "--out", "-", *more)
        assert (refused.code, refused.err.count("\n"), list(tmp_path.iterdir())) == (2, 1, [])


def test_the_ending_of_a_name_may_be_in_capitals(
    tiny_run: Path, news: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    for name in ("small.csv", "LARGE.CSV"):
        assert command("predict", tiny_run, news / "test.csv", "--out", tmp_path / name).code == 0
    assert (tmp_path / "LARGE.CSV").read_bytes() == (tmp_path / "small.csv").read_bytes()


def test_a_name_that_no_file_can_have_is_bad_input(
    tiny_run: Path, news: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / f"{'n' * 300}.csv", tmp_path / "file" / "out.csv"):
        done = command("predict", tiny_run, news / "test.csv", "--out", out)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert done.err.startswith("error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
