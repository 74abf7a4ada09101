"""R-Drop's divergence, and the loss of a batch that is read twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import kl_div, log_softmax

import pennyweight as pw
from pennyweight.errors import RecipeError
from pennyweight.train.loss import divergence


def both(shape: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def symmetric(one: torch.Tensor, other: torch.Tensor) -> float:
    """Half of KL(p, q) + KL(q, p), by torch's own function."""
    p, q = log_softmax(one, -1), log_softmax(other, -1)
    return float(sum(kl_div(a, b, log_target=True, reduction="sum") for a, b in ((p, q), (q, p))) / 2)


def test_the_divergence_is_the_mean_of_both_directions_summed_over_the_texts() -> None:
    one, other = both((5, 3))
    assert float(divergence(one, other, multi=False)) == pytest.approx(symmetric(one, other), rel=1e-5)
    assert float(divergence(one, one, multi=False)) == 0


def test_of_many_labels_it_is_the_mean_over_the_labels_of_yes_and_no() -> None:
    one, other = both((5, 3))
    as_two = [torch.stack([each, torch.zeros_like(each)], dim=-1) for each in (one, other)]  # (5, 3, 2): yes, no
    assert float(divergence(one, other, multi=True)) == pytest.approx(symmetric(*as_two) / 3, rel=1e-5)


@pytest.mark.parametrize("multi", [False, True])
def test_logits_of_any_size_have_a_finite_divergence_and_gradient(multi: bool) -> None:
    one = torch.tensor([[900.0, -900.0], [0.0, 60.0]], dtype=torch.bfloat16, requires_grad=True)
    other = torch.tensor([[-900.0, 900.0], [0.0, -60.0]], dtype=torch.bfloat16)
    found = divergence(one, other, multi=multi)
    found.backward()
    assert found.dtype == torch.float32
    assert bool(found.isfinite())
    assert one.grad is not None
    assert bool(one.grad.isfinite().all())


def test_without_dropout_two_passes_are_refused() -> None:
    texts = [("The cup", "sports"), ("The bank", "business")] * 4
    with pytest.raises(RecipeError, match=r"train -> r_drop: expected dropout, .* received none in the adapter"):
        pw.train(texts, r_drop=2.0, lora_dropout=0.0, head_dropout=0.0)


def test_it_is_a_setting_of_training(tiny_backbone: Callable[..., Path], news: Path) -> None:
    settings: dict[str, Any] = {
        "backbone": str(tiny_backbone("minilm")), "budget": "20k", "precision": "fp32", "report": "short",
        "max_steps": 6, "lora_dropout": 0.3, "frozen_head": "off",
    }  # fmt: skip
    plain, twice, again = (pw.train(news / "train.csv", r_drop=weight, **settings) for weight in (0.0, 2.0, 2.0))
    logits = [each.logits(["The striker and the cup"]) for each in (plain, twice, again)]
    assert np.array_equal(logits[1], logits[2])
    assert not np.array_equal(logits[0], logits[1])
    assert twice.artifact.recipe.train.r_drop == 2
