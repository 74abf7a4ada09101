"""The number of epochs: as given, or by the number of texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pennyweight as pw
from pennyweight.errors import RecipeError
from pennyweight.recipe.loading import load
from pennyweight.recipe.schema import TrainRecipe
from pennyweight.train import epochs
from pennyweight.train.epochs import count_epochs


def test_few_texts_are_read_more_often_and_many_three_times() -> None:
    auto = TrainRecipe()
    assert [count_epochs(auto, texts) for texts in (1, 500, 1_000, 2_000, 3_000, 3_600, 1_000_000)] == [
        12, 12, 10, 5, 3, 3, 3,
    ]  # fmt: skip
    assert count_epochs(TrainRecipe(batch_size=8), 1_000) == 3
    assert count_epochs(TrainRecipe(batch_size=8, gradient_accumulation_steps=4), 1_000) == 10
    assert count_epochs(TrainRecipe(epochs=2), 10) == 2


@pytest.mark.parametrize("value", [0, -1, "0", "2.5", "many"])
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(RecipeError, match=f"train -> epochs: expected auto or at least 1, received {value}$"):
        load("default", epochs=value)


@pytest.mark.parametrize("more", [{}, {"augment": 0.5}, {"oversample": True}, {"long_texts": "windows"}])
def test_a_training_has_as_many_epochs(
    more: dict[str, Any], tiny_backbone: Callable[..., Path], news: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epochs, "ENOUGH_STEPS", 20)
    settings = {"backbone": str(tiny_backbone("bert")), "budget": "5k", "precision": "fp32", "report": "short"}
    found = pw.train(news / "train.csv", contrastive="off", validation_size=12, batch_size=12, **settings, **more)
    assert found.metrics["train"]["history"][-1]["epoch"] == 5  # 48 texts are 4 steps an epoch
    assert found.artifact.recipe.train.epochs == "auto"
