"""The picture of a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import pennyweight as pw
from pennyweight.budget.backbone_config import load_config
from pennyweight.budget.targets import ranks
from pennyweight.errors import InputError
from pennyweight.evaluate.report.figures import save
from pennyweight.evaluate.report.plan_plot import picture

pytestmark = pytest.mark.usefixtures("rendered")


def drawn(axis: Any) -> dict[tuple[float, float], str]:
    return {text.get_position(): text.get_text() for text in axis.texts if text.get_text()}


def test_every_adapted_matrix_carries_its_rank_and_the_title_has_the_head() -> None:
    config = load_config("roberta-base")
    plan = pw.plan(labels=4, backbone="roberta-base", budget="300k", strategy="graded")
    (body,) = picture(plan, config).axes
    assert body.get_ylabel() == "layer"
    names = [label.get_text().replace("\n", "") for label in body.get_xticklabels()]
    assert names == ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
    assert plan.adapter is not None
    expected = {}
    for name, rank in ranks(config, plan.adapter).items():
        layer = int(name.split(".")[2])
        suffix = max((one for one in names if name.endswith("." + one)), key=len)
        expected[(names.index(suffix), layer)] = str(rank)
    assert drawn(body) == expected
    first, second = body.get_title(loc="left").splitlines()
    assert first == f"{plan.count.trainable:,} trained parameters of a budget of 300,000"
    assert second == "head (linear): 3,076; numbers: rank of each adapter; empty: frozen"


def test_higher_ranks_are_darker() -> None:
    plan = pw.plan(labels=4, backbone="roberta-base", budget="1M", strategy="graded")
    (body,) = picture(plan, load_config("roberta-base")).axes
    filled = [patch for patch in body.patches if patch.get_fill()]
    shades = {}
    for patch in filled:
        place = (round(patch.get_x() + 0.5), round(patch.get_y() + 0.5))
        shades[int(drawn(body)[place])] = patch.get_alpha()
    assert len(shades) == 3
    assert [shades[rank] for rank in sorted(shades)] == sorted(shades.values())


@pytest.mark.parametrize("backbone", ["roberta-large", "answerdotai/ModernBERT-base", "distilroberta-base"])
def test_no_adapter_is_an_empty_grid(backbone: str, tmp_path: Path) -> None:
    plan = pw.plan(labels=3, backbone=backbone, strategy="head-only", head="low_rank", head_rank=4)
    figure = picture(plan, load_config(backbone))
    (body,) = figure.axes
    assert drawn(body) == {}
    save(figure, tmp_path / "plan.svg")
    assert "head of rank 4" in (tmp_path / "plan.svg").read_text("utf-8")


def test_other_endings_and_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown form of picture; expected a name ending in \.png or \.svg"):
        save(None, tmp_path / "plan.jpg")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match="not a regular file"):
        save(None, tmp_path / "folder.png")
