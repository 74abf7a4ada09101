"""Which evaluation is the best, and when patience has ended."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pennyweight.recipe.schema import TrainRecipe
from pennyweight.train.state import Progress, chance, rank, score_of


def walk(evaluations: list[tuple[float, float]], held_out: int = 0, **settings: Any) -> tuple[Progress, list[int]]:
    """Evaluate (accuracy, loss) after each step, the weight being the step; the run, and the steps it came to."""
    recipe = TrainRecipe.model_validate(settings)
    run, weight, steps = Progress(held_out=held_out), nn.Parameter(torch.zeros(1)), []
    for step, (accuracy, loss) in enumerate(evaluations, 1):
        run.step = step
        with torch.no_grad():
            weight.fill_(step)
        scores = {"loss": loss, "accuracy": accuracy, "macro_f1": accuracy / 2}
        run.record_evaluation(scores, recipe, 1e-3, step, {"w": weight})
        steps.append(step)
        if run.result.stopped_early:
            break
    assert run.best_weights["w"].item() == run.result.best["step"]
    return run, steps


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "micro_f1"])
def test_of_equals_the_one_of_lowest_loss_is_the_best(metric: str) -> None:
    forty = [(1.0, 0.5 / (epoch + 1)) for epoch in range(40)]  # 100% from the first epoch on, while the loss falls
    assert walk(forty, metric=metric)[0].result.best["step"] == 40
    assert walk([(0.9, 0.4), (0.9, 0.2), (0.9, 0.3)], metric=metric)[0].result.best["step"] == 2
    assert walk([(0.8, 0.1), (0.9, 0.4), (0.8, 0.01)], metric=metric)[0].result.best["step"] == 2


def test_of_full_equals_the_first_is_the_best() -> None:
    assert walk([(0.9, 0.4), (0.9, 0.4)])[0].result.best["step"] == 1
    assert walk([(0.9, 0.4), (0.1, 0.4)], metric="loss")[0].result.best["step"] == 1


def test_of_evaluations_that_chance_may_set_apart_the_latest_is_chosen() -> None:
    def chosen(*accuracies: float, **more: Any) -> int:
        step = walk([(accuracy, 0.4) for accuracy in accuracies], **{"held_out": 80} | more)[0].result.best["step"]
        assert isinstance(step, int)
        return step

    assert chance(80) == pytest.approx(0.025)
    assert chosen(0.8, 0.9, 0.88) == 3
    assert chosen(0.8, 0.9, 0.87) == 2
    # Compared with the best of all, not with the one before.
    assert chosen(0.9, 0.88, 0.86, 0.87) == 2
    assert chosen(0.8, 0.9, 0.88, held_out=2_000) == 2
    assert chosen(0.8, 0.9, 0.88, early_stopping_patience=5) == 2
    assert chosen(0.8, 0.9, 0.88, metric="loss") == 1
    assert chosen(0.9, 0.88, metric="macro_f1") == 2


def test_a_tie_with_a_lower_loss_is_a_gain_for_patience() -> None:
    falling = [(1.0, 0.5), (1.0, 0.4), (1.0, 0.3), (1.0, 0.3), (1.0, 0.35), (1.0, 0.2)]
    run, steps = walk(falling, early_stopping_patience=2)
    assert (run.result.best["step"], steps) == (3, [1, 2, 3, 4, 5])
    assert walk([(0.9, 0.4), (0.8, 0.1), (0.8, 0.1)], early_stopping_patience=2)[1] == [1, 2, 3]


def test_scores_by_metric() -> None:
    record = {"validation_loss": 0.25, "accuracy": 0.9, "macro_f1": 0.8}
    assert [score_of(record, metric) for metric in ("accuracy", "macro_f1", "micro_f1", "loss")] == [
        0.9, 0.8, 0.9, 0.25,
    ]  # fmt: skip
    assert score_of(record | {"micro_f1": 0.7}, "micro_f1") == 0.7
    assert rank(record, "loss") == (-0.25, -0.25)
    assert rank(record, "accuracy") == (0.9, -0.25)
