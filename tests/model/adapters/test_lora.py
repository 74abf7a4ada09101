"""Injection through PEFT: counts, the formula, and both scalings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pennyweight.budget.backbone_config import load_config
from pennyweight.budget.count import count
from pennyweight.budget.specs import AdapterSpec, HeadSpec
from pennyweight.budget.targets import scales
from pennyweight.errors import ArtifactError, BudgetError
from pennyweight.model.adapters.lora import LoraAdapter
from pennyweight.model.backbone import load_module, resolve
from pennyweight.model.trainable import check_count, trainable


def spec(**changes: object) -> AdapterSpec:
    values: dict[str, object] = {"r": 4, "lora_alpha": 8.0, "target_modules": ("query", "value")}
    return AdapterSpec(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scaling": "alpha"},
        {"use_rslora": True},
        {"rank_pattern": {"value": 2}, "alpha_pattern": {"value": 3.0}},
        {"scaling": "alpha", "rank_pattern": {"value": 2}},
    ],
    ids=["alpha/r", "alpha", "rslora", "patterns", "alpha with patterns"],
)
def test_update_is_the_explicit_formula(changes: dict[str, object], tiny_backbone: Callable[..., Path]) -> None:
    backbone = resolve(str(tiny_backbone("bert")))
    module = load_module(backbone)
    wanted = spec(**changes)
    linears = {name: layer for name, layer in module.named_modules() if isinstance(layer, torch.nn.Linear)}
    frozen = {name: layer.weight.clone() for name, layer in linears.items()}
    LoraAdapter.inject(module, wanted, backbone.config)
    x = torch.randn(3, 32)
    for name, scale in scales(backbone.config, wanted).items():
        layer = module.get_submodule(name)
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight  # (r, in), (out, r)
        torch.nn.init.normal_(b)
        expected = x @ (frozen[name] + scale * b @ a).T + layer.base_layer.bias
        torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


def test_the_two_scalings_differ() -> None:
    config = load_config("embedded")
    assert set(scales(config, spec()).values()) == {2.0}
    assert set(scales(config, spec(scaling="alpha")).values()) == {8.0}


@pytest.mark.parametrize("bias", ["none", "lora_only", "all"])
@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "deberta-v2", "modernbert", "electra", "mpnet"])
def test_planned_equals_what_requires_grad(
    kind: str, bias: str, dora: bool, tiny_backbone: Callable[..., Path]
) -> None:
    backbone = resolve(str(tiny_backbone(kind)))
    module = load_module(backbone)
    wanted = spec(bias=bias, use_dora=dora, target_modules=("all-linear",))
    head = torch.nn.Linear(32, 3)
    planned = count(backbone.config, adapter=wanted, head=HeadSpec(), labels=3).trainable
    LoraAdapter.inject(module, wanted, backbone.config)
    both = torch.nn.ModuleList([module, head])
    optimizer = torch.optim.AdamW(trainable(both).values())
    assert check_count(both, planned, optimizer) == planned
    assert {parameter.dtype for parameter in trainable(both).values()} == {torch.float32}


def test_a_count_that_disagrees_stops_training() -> None:
    with pytest.raises(BudgetError, match=r"expected 7 planned; received 6 with requires_grad, 6 in the optimizer"):
        check_count(torch.nn.Linear(2, 2), 7)


def test_state_goes_out_and_in(tiny_backbone: Callable[..., Path]) -> None:
    backbone = resolve(str(tiny_backbone("bert")))
    wanted = spec(bias="lora_only", use_dora=True)
    first, second = load_module(backbone), load_module(backbone)
    one, other = (LoraAdapter.inject(module, wanted, backbone.config) for module in (first, second))
    with torch.no_grad():
        for parameter in trainable(first).values():
            parameter.add_(torch.randn_like(parameter))
    state = one.state()
    assert sum(tensor.numel() for tensor in state.values()) == sum(p.numel() for p in trainable(first).values())
    other.load(state)
    for name, parameter in trainable(first).items():
        assert torch.equal(parameter, trainable(second)[name])


def test_tensors_that_do_not_fit_are_refused(tiny_backbone: Callable[..., Path]) -> None:
    backbone = resolve(str(tiny_backbone("bert")))
    module = load_module(backbone)
    adapter = LoraAdapter.inject(module, spec(), backbone.config)
    state = adapter.state()
    state.popitem()
    with pytest.raises(ArtifactError, match="the adapter's tensors do not fit its plan"):
        adapter.load(state)
