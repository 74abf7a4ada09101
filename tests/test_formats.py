"""Files of any format through the commands: trained on, measured, labelled and audited, by content or as is said."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]


@pytest.fixture(scope="session")
def rows(news: Path) -> list[dict[str, str]]:
    with (news / "test.csv").open(encoding="utf-8") as file:
        return [{"text": " ".join(row["text"].split()), "label": row["label"]} for row in csv.DictReader(file)]


@pytest.fixture
def fasttext(rows: list[dict[str, str]], tmp_path: Path) -> Path:
    path = tmp_path / "news.txt"
    path.write_text("".join(f"__label__{row['label']} {row['text']}\n" for row in rows), "utf-8")
    return path


@pytest.fixture
def plain(rows: list[dict[str, str]], tmp_path: Path) -> Path:
    path = tmp_path / "texts"
    path.write_text("".join(f"{row['text']}\n" for row in rows), "utf-8")
    return path


def test_a_classifier_is_measured_and_asked_in_other_formats(
    tiny_run: Path, fasttext: Path, plain: Path, rows: list[dict[str, str]], tmp_path: Path, command: Command
) -> None:
    labels = tmp_path / "labels"
    labels.write_text("".join(f"{row['label']}\n" for row in rows), "utf-8")
    split = tmp_path / "splits.json"
    split.write_text(json.dumps({"train": [["unlike", "Other"]], "test": [[r["text"], r["label"]] for r in rows]}))
    found = {
        json.loads(command("evaluate", tiny_run, source, "--json").out)["accuracy"]
        for source in (fasttext, f"{plain},{labels}", split)
    }
    assert len(found) == 1
    answers = [
        [json.loads(line)["p_World"] for line in command("predict", tiny_run, source).out.splitlines()]
        for source in (plain, fasttext)
    ]
    assert len(answers[0]) == len(rows)
    assert answers[0] == answers[1]


def test_the_flag_is_obeyed_by_every_command(tiny_run: Path, fasttext: Path, tmp_path: Path, command: Command) -> None:
    odd = fasttext.rename(tmp_path / "news.odd")
    odd.write_text("a line without a label\n" + odd.read_text("utf-8"), "utf-8")
    for flag in ("--format", "--input-format"):
        done = command("evaluate", tiny_run, odd, flag, "txt")
        assert done.code == 2
        assert "the file has texts but no labels" in done.error
        assert command("audit", odd, flag, "txt").code == 0
        done = command("train", odd, flag, "txt", "--out", tmp_path / "run")
        assert "the file has texts but no labels" in done.error
    answers = command("predict", tiny_run, odd, "--input-format", "txt", "--format", "csv")
    assert answers.out.count("\n") == len(odd.read_text("utf-8").splitlines()) + 1
    done = command("predict", tiny_run, "-", "--input-format", "csv", stdin="text\n")
    assert (done.code, done.error) == (
        2,
        "standard input has to be one text or JSON object per line, in UTF-8; write the texts to a file first",
    )
    assert "'fasttext'" in command("evaluate", tiny_run, odd, "--format", "word").error


def test_a_folder_of_texts_is_answered_by_its_files(tiny_run: Path, tmp_path: Path, command: Command) -> None:
    for name in ("a/1.txt", "b/2.txt"):
        (tmp_path / "texts" / name).parent.mkdir(parents=True)
        (tmp_path / "texts" / name).write_text("The striker scored twice.")
    answers = [json.loads(line) for line in command("predict", tiny_run, tmp_path / "texts").out.splitlines()]
    assert [answer["id"] for answer in answers] == ["a/1.txt", "b/2.txt"]
