"""Averages of weights: the arithmetic, the swap, and the way through a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from pennyweight.errors import ArtifactError
from pennyweight.recipe.schema import TrainRecipe
from pennyweight.train import checkpoint
from pennyweight.train.checkpoint import Checkpoint
from pennyweight.train.weight_averaging import Average


def weights(value: float = 0.0) -> dict[str, nn.Parameter]:
    return {"a": nn.Parameter(torch.full((2,), value))}


def walk(
    average: Average, held: dict[str, nn.Parameter], values: list[float], per_epoch: int = 1, at: int = 0
) -> float:
    """Set the weight to each value in turn; what the average is in the end."""
    for step, value in enumerate(values, at + 1):
        with torch.no_grad():
            held["a"].fill_(value)
        average.update(step, per_epoch)
    with average.applied():
        found = float(held["a"].detach()[0])
    assert float(held["a"].detach()[0]) == values[-1]  # put back
    return found


def test_none_leaves_the_weights() -> None:
    held = weights()
    average = Average(TrainRecipe(), held, {})
    assert walk(average, held, [1, 2, 3]) == 3
    assert average.state() == {}


def test_ema_follows_its_formula() -> None:
    held = weights()
    recipe = TrainRecipe(average="ema", average_decay=0.3)
    # d is (1 + t) / (10 + t) until that reaches 0.3
    expected = 1.0
    for step, value in ((2, 2.0), (3, 4.0), (4, 8.0)):
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert walk(Average(recipe, held, {}), held, [1, 2, 4, 8]) == pytest.approx(expected)


def test_the_last_epochs_are_averaged_at_their_ends() -> None:
    held = weights()
    recipe = TrainRecipe(average="last_epochs", average_epochs=2)
    assert walk(Average(recipe, held, {}), held, [1, 2, 3, 4, 5, 60, 7], per_epoch=2) == (4 + 60) / 2
    held = weights()
    assert walk(Average(recipe, held, {}), held, [5], per_epoch=2) == 5  # no epoch has ended


@pytest.mark.parametrize("kind", ["ema", "last_epochs"])
def test_a_run_that_goes_on_averages_the_same(kind: str, tmp_path: Path) -> None:
    recipe = TrainRecipe.model_validate({"average": kind, "average_epochs": 2})
    whole = weights()
    expected = walk(Average(recipe, whole, {}), whole, [1, 2, 3, 7, 5], per_epoch=2)
    held = weights()
    first = Average(recipe, held, {})
    walk(first, held, [1, 2, 3], per_epoch=2)
    named = {"a": held["a"].detach()}
    saved = Checkpoint(named, {}, {}, {"cpu": torch.get_rng_state()}, {"step": 3}, {}, first.state())
    checkpoint.save(tmp_path, saved, 1)
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert walk(Average(recipe, held, found.average), held, [7, 5], per_epoch=2, at=3) == expected


def test_a_checkpoint_without_an_average_is_read_as_before(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, Checkpoint({}, {}, {}, {"cpu": torch.get_rng_state()}, {"step": 3}, {}), 1)
    assert not (tmp_path / "step-00000003" / "average.safetensors").exists()
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.average == {}


@pytest.mark.parametrize("name", ["0/b", "a", "x/a"])
def test_an_average_of_something_else_is_refused(name: str) -> None:
    with pytest.raises(ArtifactError, match="the checkpoint's average does not fit the plan"):
        Average(TrainRecipe(average="ema"), weights(), {name: torch.zeros(2)})
