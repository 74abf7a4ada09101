"""Rare classes: weights in the loss and repeated texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

import pennyweight as pw
from pennyweight.errors import Interrupted, RecipeError
from pennyweight.recipe import loading as recipe
from pennyweight.train import loss
from pennyweight.train.class_balance import class_weights, has_rare_class, oversampled, rarest

CPU = torch.device("cpu")
LABELS = np.array([0] * 12 + [1] * 5 + [2] * 3)
SEVERAL = np.array([[1, 0]] * 8 + [[1, 1]] * 2 + [[0, 1]] + [[0, 0]])


def test_balanced_weights_are_scikit_learns_and_keep_the_size_of_the_loss() -> None:
    found = class_weights(LABELS, "abc", "balanced")
    assert found is not None
    assert found == pytest.approx(compute_class_weight("balanced", classes=np.arange(3), y=LABELS))
    given = class_weights(LABELS, "abc", {"c": 4.0})
    assert given is not None
    assert given[LABELS].mean() == pytest.approx(1)
    assert given[2] / given[0] == pytest.approx(4)
    assert class_weights(LABELS, "abc", None) is None


def test_a_class_without_rows_is_not_rare() -> None:
    assert not has_rare_class(np.array([0, 40, 60]))
    assert has_rare_class(np.array([0, 5, 95]))
    assert rarest(np.array([95, 0, 5])) == 2


def test_weights_of_several_labels_are_ratios() -> None:
    assert class_weights(SEVERAL, "ab", "balanced") == pytest.approx([2 / 10, 9 / 3])
    assert class_weights(SEVERAL, "ab", {"b": 2.5}) == pytest.approx([1, 2.5])


def test_the_loss_is_torchs() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    rows = np.array([0, 13, 18, 2])
    targets = torch.from_numpy(LABELS[rows])
    weights = np.array([0.5, 1.0, 3.0])
    plain = loss.make(LABELS, CPU, 0.1)(logits, rows)
    assert torch.equal(plain, cross_entropy(logits, targets, label_smoothing=0.1, reduction="sum"))
    weighed = loss.make(LABELS, CPU, 0.0, weights)(logits, rows)
    assert float(weighed) == pytest.approx(
        float((cross_entropy(logits, targets, reduction="none") * torch.from_numpy(weights)[targets]).sum()), rel=1e-6
    )
    rows = np.array([0, 9])
    wanted = torch.from_numpy(SEVERAL[rows]).float()
    several = loss.make(SEVERAL, CPU, 0.0, np.array([1.0, 3.0]))(logits[:2, :2], rows)
    each = binary_cross_entropy_with_logits(logits[:2, :2], wanted, reduction="none") * (
        1 + 2 * wanted * torch.tensor([0, 1])
    )
    assert float(several) == pytest.approx(float(each.sum() / 2), rel=1e-6)


def test_every_class_comes_to_as_many_rows() -> None:
    first, again = (oversampled(LABELS, seed=3, epoch=0) for _ in range(2))
    epochs = {tuple(oversampled(LABELS, seed=3, epoch=epoch).tolist()) for epoch in range(8)}
    assert np.bincount(LABELS[first]).tolist() == [12, 12, 12]
    assert np.array_equal(first, again)
    assert len(epochs) > 1
    assert {len(epoch) for epoch in epochs} == {len(first)}
    assert set(first.tolist()) == set(range(20))
    assert np.bincount(first)[12:17].tolist().count(2) == 3  # 12 = 2 copies of 5 rows, and 2 rows a third time
    assert np.bincount(first)[12:17].max() == 3


def test_several_labels_bring_the_rarest_forward() -> None:
    chosen = oversampled(SEVERAL, seed=0, epoch=0)
    assert set(chosen.tolist()) == set(range(12))
    before, after = SEVERAL.mean(axis=0), SEVERAL[chosen].mean(axis=0)
    assert after[1] / after[0] > 2 * before[1] / before[0]
    assert (chosen == 11).sum() == 1


def test_a_weight_for_a_class_that_is_not_there() -> None:
    with pytest.raises(RecipeError) as caught:
        class_weights(LABELS, ["World", "Sports", "Business"], {"Sprots": 2.0})
    assert str(caught.value) == (
        "train -> class_weights: a weight for a class that does not exist: Sprots; expected some of the classes World, "
        "Sports, Business; did you mean Sports?"
    )


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("balanced", "balanced"),
        ("none", None),
        ("Sports=2,World=0.5", {"Sports": 2.0, "World": 0.5}),
        ({"Sports": 2, 3: 0.5}, {"Sports": 2.0, "3": 0.5}),
    ],
)
def test_weights_are_written_as_words_or_by_name(given: Any, read: Any) -> None:
    settled = recipe.load(class_weights=given)
    assert settled.train.class_weights == read
    assert recipe.parse(settled.model_dump(mode="json")) == settled


@pytest.mark.parametrize("given", ["heavy", "Sports=-1", "Sports=much"])
def test_weights_that_are_none(given: str) -> None:
    with pytest.raises(RecipeError, match="train -> class_weights: expected balanced, none, or classes with weights"):
        recipe.load(class_weights=given)


def test_a_run_with_both_resumes_and_uses_the_prefix_cache(
    news: Path, tiny_backbone: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [line.split(",", 2)[1:] for line in (news / "train.csv").read_text("utf-8").splitlines()[1:]]
    pairs = [(text, label) for number, (text, label) in enumerate(rows) if label != "World" or number % 9 == 2]
    settings: dict[str, Any] = {
        "backbone": str(tiny_backbone("bert")), "r": 4, "layers": "top:2", "budget": "none", "epochs": 3,
        "batch_size": 8, "precision": "fp32", "report": "short", "oversample": True, "class_weights": "balanced",
        "save_steps": 1, "learning_rate": 5e-3,
    }  # fmt: skip

    class Stop:
        def step(self, step: int, *rest: Any) -> None:
            if step == 8:
                raise KeyboardInterrupt

        def evaluation(self, record: dict[str, Any]) -> None: ...

    found = {}
    for cache in ("off", "memory"):
        whole = pw.train(pairs, **settings, prefix_cache=cache, out=tmp_path / f"whole-{cache}")
        with pytest.raises(Interrupted):
            pw.train(pairs, **settings, prefix_cache=cache, out=tmp_path / f"part-{cache}", observer=Stop())
        part = pw.train(pairs, **settings, prefix_cache=cache, out=tmp_path / f"part-{cache}", resume=True)
        found[cache] = whole.logits(["The bank.", "The polls."])
        assert np.array_equal(part.logits(["The bank.", "The polls."]), found[cache])
        assert (whole.metrics["train"]["prefix"] is None) == (cache == "off")
    assert found["memory"] == pytest.approx(found["off"], abs=1e-3)
    plain = pw.train(pairs, **settings | {"oversample": False, "class_weights": None})
    # 36 training rows of two classes and a few of the third, against three times the largest class.
    assert whole.metrics["train"]["texts"] > plain.metrics["train"]["texts"]
    assert whole.metrics["validation"]["n"] == plain.metrics["validation"]["n"]
