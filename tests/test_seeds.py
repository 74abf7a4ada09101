"""Several seeds of one recipe."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pennyweight.data import sample
from pennyweight.errors import InputError
from pennyweight.seeds import train_seeds


def test_each_seed_is_a_run_and_the_spread_is_written(tiny_backbone: Callable[..., Path], tmp_path: Path) -> None:
    said: list[str] = []
    settings = {"epochs": 1, "strategy": "head-only", "report": "short", "seed": 3, "precision": "fp32"}
    found = train_seeds(
        sample.load("train").select(range(60)), count=2, out=tmp_path / "runs", say=said.append,
        test=sample.load("test").select(range(30)), backbone=str(tiny_backbone("bert")), **settings,
    )  # fmt: skip
    assert found.seeds == (3, 4)
    assert [line for line in said if line.startswith("seed")] == ["seed 3", "seed 4"]
    runs = [json.loads((Path(folder) / "metrics.json").read_text("utf-8")) for folder in found.folders]
    assert [one["test"]["log_loss"] for one in runs] == list(found.figures["log_loss"].values)
    assert found.figures["log_loss"].deviation > 0  # the head starts elsewhere
    assert json.loads((tmp_path / "runs" / "seeds.json").read_text("utf-8"))["measured"] == "test"
    assert {item.name for item in (tmp_path / "runs").iterdir()} == {"seed-3", "seed-4", "seeds.json"}
    assert str(found).startswith("2 seeds (3, 4), measured on test\naccuracy %")


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a spread takes at least two seeds; received 1"):
        train_seeds([("a", "x"), ("b", "y")], count=1, out=tmp_path)
