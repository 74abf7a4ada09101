"""What a verb writes never takes the place of something else, unless it was told to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pennyweight as pw

Command = Callable[..., Any]


def contents(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.parametrize("form", ["peft", "merged"])
def test_an_export_needs_a_folder_of_its_own(tiny_run: Path, tmp_path: Path, command: Command, form: str) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("a year's work")
    before = contents(tiny_run)
    for target in (mine, tiny_run):
        done = command("export", tiny_run, target, "--format", form)
        assert done.code == 2
        assert f"{target}: the folder is not empty; received " in done.error
    assert (mine / "notes.txt").read_text() == "a year's work"
    assert contents(tiny_run) == before


def test_answers_do_not_replace_the_texts(tiny_run: Path, tmp_path: Path, command: Command) -> None:
    texts = tmp_path / "texts.csv"
    texts.write_text("text\nThe bank cut its rate.\n")
    (tmp_path / "link.csv").symlink_to(texts)
    for name in ("texts.csv", "link.csv"):
        done = command("predict", tiny_run, texts, "--out", tmp_path / name)
        assert done.code == 2
        assert "the answers would take the place of the texts" in done.error
    assert texts.read_text() == "text\nThe bank cut its rate.\n"


def test_a_page_or_a_picture_goes_where_its_name_says_one(
    tiny_run: Path, news: Path, tmp_path: Path, command: Command
) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("text,label\n")
    done = command("evaluate", tiny_run, news / "test.csv", "--report", table)
    assert (done.code, table.read_text()) == (2, "text,label\n")
    assert done.error == f"{table}: a report is a page; expected a name ending in .html; received rows.csv"
    done = command("compare", tiny_run, tiny_run, "--picture", tmp_path / "cmp.gif")
    assert (done.code, (tmp_path / "cmp.gif").exists()) == (2, False)
    assert "expected a name ending in .png or .svg" in done.error


def test_flags_that_contradict_each_other_are_told(
    tiny_run: Path, news: Path, tmp_path: Path, command: Command
) -> None:
    for words, said in (
        (("plan", "--json", "--yaml"), "--json and --yaml contradict each other"),
        (("plan", "--layers", "top:99", "--r", "2"), "there are not so many layers; expected top:6 at most"),
        (("evaluate", tiny_run, news / "test.csv", "--severity", "1"), "--severity says how badly texts are corrupted"),
        (
            ("train", news / "train.csv", "--resume", "--overwrite", "--out", tmp_path / "x"),
            "--resume and --overwrite contradict",
        ),
    ):
        done = command(*words)
        assert done.code == 2
        assert said in done.error
    assert not (tmp_path / "x" / "recipe.yaml").exists()


def test_a_checkpoint_of_another_plan_is_refused_before_the_run_is_touched(
    tiny_backbone: Callable[..., Path], news: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "backbone": str(tiny_backbone("minilm")), "target_modules": "all-linear", "budget": "none", "epochs": 1,
        "precision": "fp32", "report": "short", "batch_size": 8,
    }  # fmt: skip
    folder = tmp_path / "run"
    made = pw.train(news / "train.csv", out=folder, r=2, **settings)
    with pytest.raises(pw.errors.ArtifactError, match="does not fit"):
        pw.train(news / "train.csv", out=folder, r=3, resume=True, resume_anyway=True, **settings)
    texts = ["the bank", "the cup"]
    assert pw.load(folder).predict(texts) == made.predict(texts)
