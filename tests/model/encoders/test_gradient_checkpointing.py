"""Layers computed again in the backward pass: the same gradients, and less that is kept for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pennyweight.model.backbone import config_of, resolve
from pennyweight.model.classifier import ModelSettings, SequenceClassifier, build
from pennyweight.model.device import Runtime
from pennyweight.recipe import loading as recipe
from pennyweight.recipe.planning import plan_for

FAST = ("bert", "electra", "distilbert", "mpnet", "modernbert")
CASES = [("fast", kind) for kind in FAST] + [("reference", kind) for kind in (*FAST, "deberta-v2")]


def built(folder: Path, engine: str, precision: str = "fp32", **settings: Any) -> SequenceClassifier:
    dropout = {"hidden_dropout": 0.2, "attention_dropout": 0.2} if engine == "reference" else {}
    settings = {"encoder": engine, "lora_dropout": 0.3, "budget": "20k", "adapter": "lora"} | dropout | settings
    wanted = recipe.load(backbone=str(folder), **settings)
    plan = plan_for(wanted, config_of(wanted.model.backbone), 3)
    runtime = Runtime(torch.device("cpu"), precision)
    model = build(resolve(str(folder)), plan, 3, runtime, ModelSettings(**wanted.model.settings()))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():  # LoRA's B begins at zero, and would hide what comes before it
        for _, parameter in sorted(model.named_parameters()):
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.train()


def step(model: SequenceClassifier, recompute: bool) -> tuple[dict[str, Tensor], int, Tensor]:
    """The gradients, the bytes that are kept for the backward pass, and the state of the random numbers after it."""
    ids = torch.randint(5, 30, (4, 40), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    model.encoder.gradient_checkpointing = recompute
    model.zero_grad()
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    torch.manual_seed(1)
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(mask, ids).square().sum()
    loss.backward()
    gradients = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
    return gradients, sum(size for place, size in kept.items() if place not in weights), torch.get_rng_state()


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize(("engine", "kind"), CASES)
def test_gradients_are_the_same_bits_and_less_is_kept(
    engine: str, kind: str, pooling: str, tiny_backbone: Callable[..., Path]
) -> None:
    deep = {"n_layers" if kind == "distilbert" else "num_hidden_layers": 6}
    model = built(tiny_backbone(kind, **deep), engine, pooling=pooling)
    (plain, much, state), (again, little, state_again) = step(model, False), step(model, True)
    assert plain.keys() == again.keys() == {name for name, each in model.named_parameters() if each.requires_grad}
    for name, gradient in plain.items():
        assert torch.equal(again[name], gradient), name
    assert little < 0.5 * much
    assert torch.equal(state, state_again)


@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "bf16"},
        {"use_dora": True},
        {"adaptive_ranks": True},
        {"adapter": "lora-xs", "bases": "svd"},
        {"bias": "all"},
        {"strategy": "top"},
    ],
    ids=str,
)
def test_every_way_to_train_has_the_same_gradients(
    settings: dict[str, Any], tiny_backbone: Callable[..., Path]
) -> None:
    for engine in ("reference",) if "bias" in settings else ("fast", "reference"):
        model = built(tiny_backbone("bert"), engine, **settings)
        plain, again = step(model, False)[0], step(model, True)[0]
        assert plain
        assert plain.keys() == again.keys()
        assert all(torch.equal(again[name], gradient) for name, gradient in plain.items())


def test_without_gradients_nothing_differs(tiny_backbone: Callable[..., Path]) -> None:
    model = built(tiny_backbone("bert"), "fast").eval()
    ids = torch.randint(5, 30, (2, 12))
    mask = torch.ones_like(ids)
    with torch.inference_mode():
        plain = model(mask, ids)
        model.encoder.gradient_checkpointing = True
        assert torch.equal(model(mask, ids), plain)
