"""Several seeds of one recipe."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pennyweight.data import sample
from pennyweight.errors import InputError, Interrupted
from pennyweight.search import seeds
from pennyweight.search.seeds import train_seeds
from pennyweight.train.observer import forward_log


def test_each_seed_is_a_run_and_the_spread_is_written(tiny_backbone: Callable[..., Path], tmp_path: Path) -> None:
    said: list[str] = []
    settings = {"epochs": 1, "strategy": "head-only", "report": "short", "seed": 3, "precision": "fp32"}
    with forward_log(said.append):
        found = train_seeds(
            sample.load("train").select(range(60)), count=2, out=tmp_path / "runs",
            test=sample.load("test").select(range(30)), backbone=str(tiny_backbone("bert")), **settings,
        )  # fmt: skip
    assert found.seeds == (3, 4)
    assert [line for line in said if line.startswith("seed")] == ["seed 3", "seed 4"]
    runs = [json.loads((Path(folder) / "metrics.json").read_text("utf-8")) for folder in found.folders]
    assert [one["test"]["log_loss"] for one in runs] == list(found.figures["log_loss"].values)
    assert found.figures["log_loss"].deviation > 0  # the head starts elsewhere
    assert json.loads((tmp_path / "runs" / "seeds.json").read_text("utf-8"))["measured"] == "test"
    assert {item.name for item in (tmp_path / "runs").iterdir()} == {"seed-3", "seed-4", "seeds.json"}
    heading, columns, first, *_ = str(found).splitlines()
    assert heading == "2 seeds, measured on test"
    assert columns.split() == ["mean", "±", "SD", "seed", "3", "seed", "4"]
    assert first.startswith("accuracy %  ")


@pytest.mark.parametrize(
    ("own", "kept"), [({}, ".prefix"), ({"cache_dir": "mine"}, "mine"), ({"prefix_cache": "off"}, None)]
)
def test_the_shared_cache_is_where_the_user_wants_it(
    own: dict[str, str], kept: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def train(data: Any, **settings: Any) -> Any:
        asked.append(settings)
        figures = dict.fromkeys(("accuracy", "macro_f1", "log_loss", "ece"), 0.5)
        return SimpleNamespace(metrics={"validation": figures, "train": {"seconds": 1.0}})

    monkeypatch.setattr(seeds, "train", train)
    monkeypatch.chdir(tmp_path)
    train_seeds([("a", "x"), ("b", "y")], count=2, out="runs", **own)
    folder = str(Path("runs") / ".prefix") if kept == ".prefix" else kept
    assert [one.get("cache_dir") for one in asked] == [folder, folder]
    assert [one.get("prefix_cache") for one in asked] == [own.get("prefix_cache", "disk" if not own else None)] * 2


def test_stopping_does_not_advise_what_seeds_cannot_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(data: Any, **settings: Any) -> Any:
        raise Interrupted("stopped by a signal", where="runs/seed-0", remedy="go on with --resume")

    monkeypatch.setattr(seeds, "train", train)
    with pytest.raises(Interrupted) as caught:
        train_seeds([("a", "x"), ("b", "y")], count=2, out=tmp_path)
    assert str(caught.value) == (
        "runs/seed-0: stopped by a signal; a run with several seeds cannot be resumed: "
        "run the same command again with --overwrite"
    )


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the spread needs at least two seeds; received 1"):
        train_seeds([("a", "x"), ("b", "y")], count=1, out=tmp_path)
