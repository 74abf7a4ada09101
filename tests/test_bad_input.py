"""What a user may get wrong, through the command line: one clear line, exit code 2, nothing left in --out."""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
ROWS = "text,label\nA bank cut its rate.,b\nThe bank kept it.,b\nThe striker won.,s\nThe cup was won.,s\n"
HALF = ("--validation-size", "2")  # what can be split off four rows of two classes


@pytest.fixture
def refused(tiny_backbone: Callable[..., Path], tmp_path: Path, command: Command) -> Callable[..., str]:
    """Train on a file of this content: the one line it is refused with, temporary folder written as TMP."""

    def call(content: str | bytes | Path, *flags: object, name: str = "data.csv", test: str | None = None) -> str:
        path = content if isinstance(content, Path) else tmp_path / name
        if not isinstance(content, Path):
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        if test is not None:
            (tmp_path / "test.csv").write_text(test, "utf-8")
            flags = (*flags, "--test", tmp_path / "test.csv")
        if "--backbone" not in flags:
            flags = (*flags, "--backbone", tiny_backbone("bert"))
        before = {file for file in tmp_path.rglob("*")}
        done = command("train", path, *flags, "--out", tmp_path / "runs" / "one")
        assert (done.code, done.out) == (2, "")
        assert "Traceback" not in done.err
        assert {file for file in tmp_path.rglob("*")} == before
        return done.error.replace(str(tmp_path), "TMP").replace(str(tiny_backbone("bert")), "BACKBONE")

    return call


def test_no_such_file(refused: Callable[..., str], tmp_path: Path) -> None:
    assert refused(tmp_path / "none.csv") == "TMP/none.csv: no such file"
    (tmp_path / "news.csv").write_text(ROWS)
    assert refused(tmp_path / "new.csv") == "TMP/new.csv: no such file; did you mean TMP/news.csv?"
    assert refused(tmp_path / "no" / "news.csv") == (
        "TMP/no/news.csv: no such file; the folder TMP/no does not exist either"
    )


def test_a_directory(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert refused(tmp_path / "folder").startswith("TMP/folder: ")


def test_a_file_of_no_known_form(refused: Callable[..., str]) -> None:
    assert refused("hello", name="notes.docx").startswith(
        "TMP/notes.docx: cannot detect the file's format from its name (notes.docx) or its content; expected "
    )


def test_an_empty_file(refused: Callable[..., str]) -> None:
    assert refused("") == "TMP/data.csv: the file is empty; expected a header and rows"
    assert refused("text,label\n") == ("TMP/data.csv: the file has a header but no rows; received columns text, label")


def test_one_class_only(refused: Callable[..., str]) -> None:
    assert refused("text,label\nOne long text.,a\nAnother text.,a\n") == (
        "TMP/data.csv: all 2 rows have the label a; expected at least two classes; "
        "check the label column, or name another with --label-column NAME"
    )


def test_a_class_with_one_row(refused: Callable[..., str]) -> None:
    assert refused(ROWS + "Ministers met.,w\n") == (
        "TMP/data.csv:6: class w has one row; expected at least 2 rows per class, one for training and one for "
        "validation; add rows, merge the class with --label-map, or use --rare-classes drop (leave it out) or keep "
        "(train on it without validation)"
    )


def test_a_missing_column(refused: Callable[..., str]) -> None:
    assert refused(ROWS, "--label-column", "lable") == (
        "TMP/data.csv: no column named lable; expected one of text, label; did you mean label?"
    )
    assert refused("text,size\nOne long text.,1.5\nAnother text.,2.5\n") == (
        "TMP/data.csv: cannot tell which column is the label; received columns text, size; "
        "name it with --label-column NAME"
    )


def test_an_ambiguous_column(refused: Callable[..., str]) -> None:
    assert refused("review,comment,label\nOne long text.,another one,a\nTwo.,three,b\n") == (
        "TMP/data.csv: several columns could be the text: review, comment; received columns review, comment, label; "
        "name it with --text-columns a,b, or add --pair if each row is a pair of texts"
    )
    assert refused("text,class,topic\nOne long text.,a,b\nTwo.,c,d\n") == (
        "TMP/data.csv: several columns could be the label: class, topic; received columns text, class, topic; "
        "name it with --label-column NAME"
    )


def test_labels_absent_from_training(refused: Callable[..., str]) -> None:
    assert refused(ROWS, *HALF, test="text,label\nThe bank rose.,b\nVoters go.,w\nVoters went.,w\n") == (
        "TMP/test.csv:3: label w is not one of the classes; expected one of b, s; "
        "received 2 of 3 rows with unknown labels (w 2); correct or remove these rows, train with their class, "
        "or say --unknown-labels drop or wrong"
    )


def test_nan_and_null_texts(refused: Callable[..., str]) -> None:
    lines = '{"text": "A bank.", "label": "b"}\n{"text": null, "label": "b"}\n'
    assert refused(lines, name="data.jsonl") == (
        "TMP/data.jsonl:2: the text is missing (null or NaN); expected a string; remove the row or give it a text"
    )
    assert refused(lines.replace("null", "NaN"), name="data.jsonl").startswith(
        "TMP/data.jsonl:2: the text is missing (null or NaN); "
    )


def test_a_wrong_encoding(refused: Callable[..., str]) -> None:
    assert refused((ROWS + "Le caf\u00e9 ferme.,b\n").encode("latin-1")) == (
        "TMP/data.csv:6: byte 0xE9 at offset 98 is not UTF-8; expected UTF-8; "
        "name it, such as --encoding cp1252, or convert it: iconv -f WINDOWS-1252 -t UTF-8"
    )


def test_a_ragged_csv(refused: Callable[..., str]) -> None:
    assert refused(ROWS + "One, two, three,b\n") == (
        "TMP/data.csv:6: the row is ragged; expected 2 fields (text, label); received 4; "
        "put fields with the delimiter or a line break in double quotes"
    )


def test_a_text_of_ten_megabytes(refused: Callable[..., str]) -> None:
    assert refused(ROWS + "word " * 2_000_000 + ",b\n") == (
        "TMP/data.csv:6: one text has 10,000,000 characters; expected at most 1,000,000; "
        "cut it or leave it out; if it holds several rows, look for an unclosed quote"
    )


def test_a_budget_that_not_even_the_head_fits(refused: Callable[..., str]) -> None:
    assert refused(ROWS, *HALF, "--budget", "50") == (
        "the linear head alone trains 66 parameters, 16 over the budget; expected at most 50; "
        "the smallest that works is a budget of 66 (linear head, no adapter)"
    )


def test_rank_zero(refused: Callable[..., str]) -> None:
    assert refused(ROWS, "--r", "0") == (
        "recipe default: 1 problem: plan -> r: expected a rank of at least 1 "
        "(for no adapter at all: strategy head-only), received 0"
    )


def test_a_target_module_that_matches_nothing(refused: Callable[..., str]) -> None:
    assert refused(ROWS, *HALF, "--target-modules", "q_proj", "--r", "2") == (
        "adapter -> target_modules: the target module matches nothing; expected one of query, key, value, "
        "attention.output.dense, intermediate.dense, output.dense, attention, all-linear; received 'q_proj'"
    )


def test_more_tokens_than_there_are_positions(refused: Callable[..., str]) -> None:
    assert refused(ROWS, *HALF, "--max-length", "512") == (
        "data -> max_length: more tokens than the backbone has positions for; expected at most 160; received 512"
    )


def test_an_unknown_backbone_without_a_network(refused: Callable[..., str]) -> None:
    offline = (
        "if you are offline, give a local folder with config.json, model.safetensors and tokenizer.json "
        "(made where there is a network: `hf download NAME --local-dir FOLDER`), or use --backbone embedded"
    )
    assert refused(ROWS, *HALF, "--backbone", "nobody/nothing") == (
        "cannot reach the hub for backbone 'nobody/nothing'; " + offline.replace("NAME", "nobody/nothing")
    )
    assert refused(ROWS, *HALF, "--backbone", "roberta-bse") == (
        "cannot reach the hub for backbone 'roberta-bse'; did you mean roberta-base? "
        + offline.replace("NAME", "roberta-bse")
    )
    assert refused(ROWS, *HALF, "--backbone", "./nowhere") == (
        "no backbone folder at ./nowhere; expected a folder with config.json and model.safetensors"
    )
    assert refused(ROWS, *HALF, "--backbone", "not a name") == (
        "'not a name' is not a backbone; expected embedded, a folder or a hub id"
    )


def test_a_dataset_of_the_hub_without_a_network(refused: Callable[..., str]) -> None:
    assert refused(Path("fancyzhx/ag_news")).startswith(
        "no such file, and the dataset fancyzhx/ag_news (split train) could not be fetched from the hub; received "
    )


@pytest.mark.parametrize("name", ["predict", "evaluate", "export"])
def test_what_is_no_classifier(name: str, tmp_path: Path, news: Path, command: Command) -> None:
    target = tmp_path / "out" if name == "export" else news / "test.csv"
    missing = command(name, tmp_path / "none", target)
    assert (missing.code, missing.error.replace(str(tmp_path), "TMP")) == (
        2, "TMP/none: no such classifier; expected a folder that `pennyweight train` wrote",
    )  # fmt: skip
    empty = command(name, tmp_path, target)
    assert (empty.code, empty.error.replace(str(tmp_path), "TMP")) == (
        2, "TMP: not a saved classifier: no pennyweight.json",
    )  # fmt: skip


def test_a_corrupt_artifact(tiny_run: Path, news: Path, tmp_path: Path, command: Command) -> None:
    again = "copy the folder again from its source, or train again"
    for name in ("head.safetensors", "adapter/adapter_model.safetensors", "tokenizer/tokenizer.json"):
        run = tmp_path / name.replace("/", "-")
        shutil.copytree(tiny_run, run)
        damaged = bytearray((run / name).read_bytes())
        damaged[-1] ^= 1
        (run / name).write_bytes(damaged)
        done = command("predict", run, news / "test.csv", "--out", tmp_path / "answers.csv")
        assert (done.code, done.error) == (2, f"{run / name}: a file does not match its checksum; {again}")
        assert not (tmp_path / "answers.csv").exists()
        (run / name).unlink()
        done = command("predict", run, news / "test.csv")
        assert (done.code, done.error) == (2, f"{run / name}: a file is missing; {again}")


def test_an_artifact_of_a_newer_format(tiny_run: Path, news: Path, tmp_path: Path, command: Command) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    manifest = json.loads((run / "pennyweight.json").read_text("utf-8"))
    (run / "pennyweight.json").write_text(json.dumps(manifest | {"format": 99}), "utf-8")
    done = command("predict", run, news / "test.csv")
    assert done.code == 2
    assert done.error.startswith(f"{run}: this classifier was saved by a newer Pennyweight; expected format ")
    assert done.error.endswith(" or older; received format 99; upgrade: pip install -U pennyweight")


def test_a_full_disk_while_saving_leaves_no_half_classifier(
    tiny_backbone: Callable[..., Path], news: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pennyweight.artifact import save_artifact

    def full(*args: object, **settings: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(save_artifact, "save_file", full)
    out = tmp_path / "run"
    done = command(
        "train", news / "train.csv", "--backbone", tiny_backbone("bert"), "--budget", "5k", "--max-steps", "1",
        "--report", "short", "--out", out,
    )  # fmt: skip
    assert done.code == 1
    assert done.error == f"{out}: the disk is full; free some space and run again; what was saved before is intact"
    assert not (out / "pennyweight.json").exists()
    assert not (out / "head.safetensors").exists()
    assert [file for file in out.rglob("*") if ".part" in file.name] == []


def test_output_that_cannot_be_written(tiny_run: Path, news: Path, tmp_path: Path, command: Command) -> None:
    asked = ("predict", tiny_run, news / "test.csv", "--out")
    (tmp_path / "folder.csv").mkdir()
    done = command(*asked, tmp_path / "folder.csv")
    assert (done.code, done.error.replace(str(tmp_path), "TMP")) == (
        2, "TMP/folder.csv: not a regular file; to write to standard output, leave out --out",
    )  # fmt: skip
    done = command(*asked, tmp_path / "answers.txt")
    assert (done.code, done.error.replace(str(tmp_path), "TMP")) == (
        2, "TMP/answers.txt: unknown output form; expected a name ending in .csv, .jsonl or .parquet, or --format; "
        "received answers.txt",
    )  # fmt: skip
    assert command(*asked, "/dev/stdout", "--format", "csv").code == 2
    done = command("predict", tiny_run, news / "test.csv", "--format", "parquet")
    assert (done.code, done.error) == (2, "Parquet cannot go to standard output; give --out FILE")


def test_bad_lines_on_standard_input(tiny_run: Path, command: Command) -> None:
    done = command("predict", tiny_run, "-", stdin=b'{"text": "one"}\n{"text": "caf\xe9"}\n')
    assert (done.code, done.error) == (2, "standard input:2: byte 0xE9 is not UTF-8; expected UTF-8")
    assert done.out.count("\n") == 1  # what came before is answered
    done = command("predict", tiny_run, "-", stdin='{"text": "one"}\n[1]\n')
    assert done.code == 2
    assert (
        done.error
        == 'standard input:2: the line is not a JSON object; expected {"text": ..., "label": ...}; received [1]'
    )


@pytest.mark.parametrize("content", [gzip.compress(b"The bank.\n", mtime=0), b"PAR1\x15\xff\n"])
def test_what_is_no_text_on_standard_input(tiny_run: Path, command: Command, content: bytes) -> None:
    done = command("predict", tiny_run, "-", stdin=content)
    assert done.code == 2
    assert done.error.startswith("standard input:1: byte 0x")
    assert done.error.endswith("; what is no text has to be in a file: write it to one and name the file")


def test_flags_that_contradict_each_other_are_told(
    tiny_run: Path, news: Path, tmp_path: Path, command: Command
) -> None:
    for words, said in (
        (("plan", "--json", "--yaml"), "--json and --yaml contradict each other"),
        (("plan", "--layers", "top:99", "--r", "2"), "the backbone has fewer layers; expected top:6 at most"),
        (("evaluate", tiny_run, news / "test.csv", "--severity", "1"), "--severity is only for corrupted texts"),
        (
            ("train", news / "train.csv", "--resume", "--overwrite", "--out", tmp_path / "x"),
            "--resume and --overwrite contradict",
        ),
    ):
        done = command(*words)
        assert done.code == 2
        assert said in done.error
    assert not (tmp_path / "x" / "recipe.yaml").exists()
