from pathlib import Path

import pytest

from pennyweight.evaluate.report.command_line import commands, shown_folder


def test_a_folder_is_named_from_the_working_directory_or_by_its_name_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown_folder(Path("runs/news")) == "runs/news"
    assert shown_folder(tmp_path / "runs" / "news") == "runs/news"
    assert shown_folder(tmp_path.parent / "secret" / "news") == "news"
    assert shown_folder(Path("..") / "news") == "news"
    assert shown_folder(Path(".")) == tmp_path.name


def test_the_command_that_repeats_a_run_names_its_recipe_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (line,) = commands({"train": "news.csv", "test": "/data/held-out.csv"}, Path("runs/news"))
    assert line == "pennyweight train news.csv --test held-out.csv --recipe runs/news/recipe.yaml --out AGAIN"
