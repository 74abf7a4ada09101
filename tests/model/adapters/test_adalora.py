"""Adaptive ranks: PEFT's AdaLoRA in training, plain LoRA afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pennyweight as pw
from pennyweight.budget.plan import Plan, plan
from pennyweight.budget.specs import AdapterSpec, HeadSpec
from pennyweight.budget.targets import ranks
from pennyweight.errors import RecipeError
from pennyweight.export.merged import to_merged
from pennyweight.export.peft import to_peft
from pennyweight.model.adapters.adalora import AdaLoraAdapter
from pennyweight.model.backbone import load_module, resolve
from pennyweight.model.trainable import check_count, trainable
from pennyweight.recipe.schema import TrainRecipe
from pennyweight.train.observer import forward_log
from pennyweight.train.optimizer import adamw

TEXTS = ["The goal in the match", "The bank and the shares in the market", "A moon"]
QUICK: dict[str, Any] = {
    "precision": "fp32", "batch_size": 8, "epochs": 2, "learning_rate": 5e-3, "report": "short", "budget": "5k",
    "adaptive_ranks": True,
}  # fmt: skip


@pytest.fixture
def settings(tiny_backbone: Callable[..., Path]) -> dict[str, Any]:
    return {**QUICK, "backbone": str(tiny_backbone("bert"))}


def injected(folder: Path, **changes: Any) -> tuple[Any, Plan, dict[str, Any]]:
    backbone = resolve(str(folder))
    spec = AdapterSpec(
        **{"r": 3, "lora_alpha": 6.0, "target_modules": ("query", "output.dense"), "adaptive_ranks": True, **changes}
    )
    made = plan(backbone.config, labels=3, budget=None, strategy="manual", adapter=spec, head=HeadSpec())
    return AdaLoraAdapter.inject(load_module(backbone), spec, backbone.config), made, backbone.config


def randomize(adapter: Any) -> None:
    for parameter in trainable(adapter.module).values():
        torch.nn.init.normal_(parameter, std=0.3)


def test_the_update_is_the_papers_formula_at_each_matrix_own_rank(tiny_backbone: Callable[..., Path]) -> None:
    pattern = {r"encoder\.layer\.1\..+": 5}
    adapter, _, config = injected(tiny_backbone("bert"), rank_pattern=pattern, alpha_pattern={k: 20.0 for k in pattern})
    randomize(adapter)
    found = ranks(config, adapter.spec)
    assert set(found.values()) == {3, 5}
    x = torch.randn(4, 32)
    for name, rank in found.items():
        if "query" not in name:
            continue
        layer = adapter.module.get_submodule(name)
        a, b, e = (getattr(layer, f"lora_{key}")["default"] for key in "ABE")
        assert (a.shape, b.shape, e.shape) == ((rank, 32), (32, rank), (rank, 1))
        scale = (20.0 if rank == 5 else 6.0) / rank
        expected = layer.base_layer(x) + scale * x @ a.T @ torch.diag(e.view(-1)) @ b.T
        assert torch.allclose(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_planned_is_trained_and_optimized(tiny_backbone: Callable[..., Path]) -> None:
    adapter, made, _ = injected(tiny_backbone("bert"))
    head = sum(part.parameters for part in made.count.parts if part.kind == "head")
    optimizer = adamw(trainable(adapter.module), TrainRecipe())
    check_count(adapter.module, made.count.trainable - head, optimizer)
    # 4 layers x (query, attention.output.dense, output.dense), rank 3.
    assert {part.name: part.parameters for part in made.count.parts}["singular values"] == 4 * 3 * 3
    frozen = [name for name, each in adapter.module.named_parameters() if "ranknum" in name]
    assert len(frozen) == 12
    assert all(not adapter.module.get_parameter(name).requires_grad for name in frozen)


def test_the_penalty_is_the_one_peft_adds(tiny_backbone: Callable[..., Path]) -> None:
    adapter, _, _ = injected(tiny_backbone("bert"))
    randomize(adapter)
    gaps = []
    for name, each in adapter.module.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            square = each @ each.T if "lora_A" in name else each.T @ each
            gaps.append(torch.norm(square - torch.eye(len(square)), p="fro"))
    assert adapter.penalty().item() == pytest.approx(0.5 * (sum(gaps) / len(gaps)).item(), rel=1e-5)
    adapter.penalty().backward()
    assert all((each.grad is not None) == ("lora_E" not in name) for name, each in trainable(adapter.module).items())


def test_the_least_important_third_is_switched_off_half_way(tiny_backbone: Callable[..., Path]) -> None:
    """Ranks whose gradients are far larger are the ones that stay."""
    adapter, _, _ = injected(tiny_backbone("bert"))
    randomize(adapter)
    adapter.begin(20)
    started = sum(ranks(adapter.config, adapter.spec).values())
    left = []
    for step in range(1, 21):
        for name, each in trainable(adapter.module).items():
            each.grad = torch.full_like(each, 1e-3 * (1 + step % 3))
            if "layer.0" in name or "layer.2" in name:
                each.grad *= 1e3
        with torch.no_grad():
            for name, each in trainable(adapter.module).items():
                if "lora_E" in name:
                    each.add_(1e-4)  # an optimizer moves what was switched off, too
        adapter.after_step(step)
        kept = {n: int((m.lora_E["default"] != 0).sum()) for n, m in adapter._layers().items()}
        left.append(sum(kept.values()))
    assert left[:2] == [started, started]
    assert left == sorted(left, reverse=True)
    assert left[9:] == [round(started * 2 / 3)] * 11
    assert all(kept[name] == 3 for name in kept if "layer.0" in name or "layer.2" in name)


@pytest.mark.parametrize(("encoder", "precision"), [("fast", "fp32"), ("fast", "bf16"), ("reference", "fp32")])
def test_training_keeps_the_budget_and_what_is_left_is_plain_lora(
    encoder: str, precision: str, news: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    settings |= {"precision": precision}
    said: list[str] = []
    out = tmp_path / "run"
    with forward_log(said.append):
        trained = pw.train(news / "train.csv", test=news / "test.csv", out=out, encoder=encoder, **settings)
    started = pw.plan(labels=3, **{key: settings[key] for key in ("backbone", "budget", "adaptive_ranks")})
    assert trained.metrics["trainable"] == started.count.trainable <= 5_000
    left = trained.artifact.plan
    assert left.count.trainable < started.count.trainable
    assert left.adapter is not None
    assert not left.adapter.adaptive_ranks
    assert started.adapter is not None
    config = trained.artifact.backbone.config
    begun, kept = ranks(config, started.adapter), ranks(config, left.adapter)
    assert all(rank <= begun[name] for name, rank in kept.items())
    assert sum(kept.values()) == round(sum(begun.values()) * 2 / 3) or sum(kept.values()) > sum(begun.values()) * 2 / 3
    assert left.why[-1] in said
    again = pw.load(out, precision=precision)
    assert np.array_equal(again.predict_proba(TEXTS), trained.predict_proba(TEXTS))
    assert pw.Recipe.model_validate(again.artifact.recipe.model_dump()).plan.adaptive_ranks
    if precision == "fp32":
        assert to_peft(again.artifact, tmp_path / "peft") < 1e-4
        assert to_merged(again.artifact, tmp_path / "merged") < 1e-4


def test_folding_changes_no_output(tiny_backbone: Callable[..., Path]) -> None:
    adapter, made, _ = injected(tiny_backbone("bert"))
    randomize(adapter)
    with torch.no_grad():
        for number, layer in enumerate(adapter._layers().values()):
            layer.lora_E["default"][: number % 4] = 0  # some lose a rank or two, some all
    ids = torch.randint(5, 30, (2, 9))
    adapter.module.eval()
    before = adapter.module(input_ids=ids).last_hidden_state
    folded, _ = adapter.fold(made, 3)
    after = adapter.module(input_ids=ids).last_hidden_state
    assert torch.allclose(before, after, rtol=1e-4, atol=1e-5)
    assert folded.adapter is not None
    kept = ranks(adapter.config, folded.adapter)
    assert sorted(kept.values()) == sorted(3 - number % 4 for number in range(12) if number % 4 < 3)
    assert folded.count.trainable == sum(each.numel() for each in trainable(adapter.module).values()) + sum(
        part.parameters for part in folded.count.parts if part.kind == "head"
    )


def test_when_no_rank_is_left_the_head_is(tiny_backbone: Callable[..., Path]) -> None:
    adapter, made, _ = injected(tiny_backbone("bert"))
    folded, _ = adapter.fold(made, 3)  # E starts at zero
    assert folded.adapter is None
    assert trainable(adapter.module) == {}
    assert folded.count.trainable == 3 * 32 + 3


class Stopped(Exception):
    """Stands for a kill."""


class Killer:
    def __init__(self, at: int) -> None:
        self.at = at

    def step(self, step: int, *rest: Any) -> None:
        if step == self.at:
            raise Stopped

    def evaluation(self, record: dict[str, Any]) -> None: ...


@pytest.mark.parametrize("at", [4, 12])
def test_a_resumed_run_x_alike(at: int, news: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    """Killed while ranks are being taken away, and after that: bit for bit what an unbroken run makes."""
    settings |= {"save_steps": 1}
    whole = pw.train(news / "train.csv", out=tmp_path / "whole", **settings)
    assert whole.metrics["train"]["steps"] == 14
    with pytest.raises(Stopped):
        pw.train(news / "train.csv", out=tmp_path / "parts", observer=Killer(at), **settings)
    parts = pw.train(news / "train.csv", out=tmp_path / "parts", resume=True, **settings)
    assert parts.artifact.plan == whole.artifact.plan
    assert np.array_equal(parts.predict_proba(TEXTS), whole.predict_proba(TEXTS))


def test_too_few_steps_are_refused(news: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(RecipeError) as error:
        pw.train(news / "train.csv", **{**settings, "max_steps": 3})
    assert str(error.value) == (
        "plan -> adaptive_ranks: there are too few steps for adaptive ranks; "
        "expected 4 optimizer steps or more; received 3"
    )


@pytest.mark.parametrize(
    ("change", "other"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"use_rslora": True}, "use_rslora"),
        ({"bias": "all"}, "bias all"),
        ({"scaling": "alpha"}, "scaling alpha"),
    ],
)
def test_what_it_does_not_go_with(change: dict[str, Any], other: str) -> None:
    with pytest.raises(RecipeError) as error:
        pw.plan(adaptive_ranks=True, **change)
    assert str(error.value) == (
        f"1 problem in the recipe: plan -> adaptive_ranks: expected plain LoRA with adaptive_ranks, received {other}"
    ).replace("1 problem in the recipe", "recipe default: 1 problem")
    with pytest.raises(RecipeError, match=f"adaptive_ranks and {other} contradict each other"):
        AdapterSpec(r=2, lora_alpha=4, target_modules=("query",), adaptive_ranks=True, **change)


def test_an_old_checkpoint_stands_where_the_new_fields_default(news: Path, settings: dict[str, Any]) -> None:
    from pennyweight.train.checkpoint import Checkpoint
    from pennyweight.train.resume import ResumePoint

    was = {"plan -> r": 8}
    state = Checkpoint({}, {}, {}, {}, {"step": 1}, was)
    ResumePoint(Path("run"), state).check({"plan -> r": 8, "plan -> adaptive_ranks": False, "plan -> min_rank": None})
    with pytest.raises(RecipeError, match="plan -> adaptive_ranks: was False, is True"):
        ResumePoint(Path("run"), state).check({"plan -> adaptive_ranks": True})
