"""Encoder, adapter and head together: in which number format each computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pennyweight.model.backbone import config_of, resolve
from pennyweight.model.classifier import ModelSettings, Pooled, SequenceClassifier, build
from pennyweight.model.device import Runtime
from pennyweight.recipe import loading as recipe
from pennyweight.recipe.planning import plan_for


def built(folder: Path, precision: str, **settings: Any) -> SequenceClassifier:
    wanted = recipe.load(backbone=str(folder), budget="9k", strategy="all-linear", **settings)
    plan = plan_for(wanted, config_of(wanted.model.backbone), 3)
    return build(
        resolve(str(folder)), plan, 3, Runtime(torch.device("cpu"), precision), ModelSettings(**wanted.model.settings())
    )


def batch() -> dict[str, Tensor]:
    ids = torch.randint(5, 40, (3, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("kind", ["roberta", "modernbert"])
@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_half_precision_is_what_is_computed_in(
    kind: str, engine: str, precision: str, pooling: str, tiny_backbone: Callable[..., Path]
) -> None:
    model = built(tiny_backbone(kind), precision, encoder=engine, pooling=pooling)
    exact = built(tiny_backbone(kind), "fp32", encoder=engine, pooling=pooling)
    dtype = Runtime(torch.device("cpu"), precision).dtype
    given = batch()
    if engine == "fast":
        path = "encoder.layer.0.intermediate.dense" if kind == "roberta" else "layers.0.mlp.Wi"
        frozen = model.module.get_submodule(f"{path}.base_layer")
        assert frozen.weight.dtype == model.encoder.dtype == dtype
        states = model.encoder.embed(**given)
        assert states.dtype == model.encoder.run(states, given["attention_mask"], 0, 1).dtype == dtype
    assert {parameter.dtype for parameter in model.parameters() if parameter.requires_grad} == {torch.float32}
    logits, wanted = model(**given), exact(**given)
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, wanted)
    assert float((logits - wanted).detach().norm() / wanted.detach().norm()) < 32 * torch.finfo(dtype).eps
    (logits.square().sum() * 16).backward()  # scaled, as in fp16
    wanted.square().sum().backward()
    for (name, mine), theirs in zip(model.named_parameters(), exact.parameters(), strict=True):
        if mine.requires_grad and theirs.grad is not None and float(theirs.grad.norm()) > 1e-4:
            assert mine.grad is not None, name
            assert mine.grad.dtype == torch.float32
            off = float((mine.grad / 16 - theirs.grad).norm() / theirs.grad.norm())
            assert off < 64 * torch.finfo(dtype).eps, name


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_the_callers_autocast_changes_nothing(engine: str, tiny_backbone: Callable[..., Path]) -> None:
    model = built(tiny_backbone("bert"), "fp32", encoder=engine, head="full")
    alone = model(**batch())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(**batch()), alone)


def test_what_is_built_is_in_evaluation_mode(tiny_backbone: Callable[..., Path]) -> None:
    model = built(tiny_backbone("electra"), "fp32", lora_dropout=0.5, hidden_dropout=0.5)
    pooled: nn.Module = Pooled(model)
    assert not any(module.training for module in pooled.modules())
    assert torch.equal(model(**batch()), model(**batch()))
