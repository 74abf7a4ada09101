"""The last layer's attention without keys and values: the same as with them, whatever is adapted, for less work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pennyweight.model.encoders.bert import FastEncoder
from pennyweight.model.kernels.first_token_attention import attend_without_keys
from pennyweight.model.kernels.frozen_linear import Linear
from pennyweight.model.kernels.lora_linear import DropoutMask, linear_factors, project
from pennyweight.model.kernels.packed_attention import Packing, attend_first_packed

HIDDEN, HEADS = 24, 4
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]])


def modules(ranks: tuple[int, int], **options: Any) -> list[nn.Module]:
    """Keys' and values' modules, adapted where the rank is not 0."""
    from peft import LoraConfig, inject_adapter_in_model

    torch.manual_seed(0)
    tree = nn.ModuleDict({name: Linear(HIDDEN, HIDDEN).requires_grad_(False) for name in ("key", "value")})
    targets = {name: rank for name, rank in zip(tree, ranks, strict=True) if rank}
    if targets:
        config = LoraConfig(r=1, lora_alpha=8, rank_pattern=targets, target_modules=list(targets), **options)
        inject_adapter_in_model(config, tree)
    for name, parameter in tree.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    return list(tree.values())


def both_ways(read: list[nn.Module], mask: Tensor = MASK) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """What each text's first token sees, and the gradients of all that learns, with keys and values and without."""
    packing = Packing(mask)
    x = torch.randn(packing.size, HIDDEN, requires_grad=True)
    q = torch.randn(len(mask), HIDDEN, requires_grad=True)
    inputs = {"x": x, "q": q}
    inputs |= {f"{i}.{n}": p for i, each in enumerate(read) for n, p in each.named_parameters() if p.requires_grad}
    found = []
    for absorbed in (False, True):
        if absorbed:
            factors = linear_factors(x, read)
            assert factors is not None
            out = attend_without_keys(q, x, factors, packing, HEADS)
        else:
            out = attend_first_packed(q, project(x, read), packing, HEADS)
        weights = torch.linspace(-1, 1, out.numel()).view_as(out)
        grads = torch.autograd.grad((out * weights).sum(), list(inputs.values()))
        found.append((out, dict(zip(inputs, grads, strict=True))))
    return found


@pytest.mark.parametrize("ranks", [(0, 0), (3, 2), (0, 4), (1, 0)], ids=str)
@pytest.mark.parametrize("mask", [MASK, torch.ones(2, 5, dtype=torch.long)], ids=["padded", "full"])
def test_it_is_what_keys_and_values_give(ranks: tuple[int, int], mask: Tensor, near: Callable[..., None]) -> None:
    (expected, wanted), (out, found) = both_ways(modules(ranks), mask)
    near(out, expected)
    assert wanted.keys() == found.keys()
    for name, grad in wanted.items():
        near(found[name], grad, name=name)


def test_dropout_has_the_same_gradients(monkeypatch: pytest.MonkeyPatch, near: Callable[..., None]) -> None:
    def always(x: Tensor, rate: float) -> DropoutMask:
        assert rate == 0.25
        return DropoutMask((torch.arange(x.numel()) % 3 > 0).to(x.dtype), x.shape, (slice(None),))

    monkeypatch.setattr("pennyweight.model.kernels.lora_linear.draw_mask", always)
    (expected, wanted), (out, found) = both_ways(modules((3, 2), lora_dropout=0.25))
    near(out, expected)
    for name, grad in wanted.items():
        near(found[name], grad, name=name)


def test_rows_below_which_nothing_learns_get_no_gradient(near: Callable[..., None]) -> None:
    read, packing = modules((3, 2)), Packing(MASK)
    x, q = torch.randn(packing.size, HIDDEN), torch.randn(len(MASK), HIDDEN)
    trained = [parameter for each in read for parameter in each.parameters() if parameter.requires_grad]

    def grads(x: Tensor) -> tuple[Tensor, ...]:
        factors = linear_factors(x, read)
        assert factors is not None
        return torch.autograd.grad(attend_without_keys(q, x, factors, packing, HEADS).square().sum(), trained)

    for alone, beside in zip(grads(x), grads(x.clone().requires_grad_()), strict=True):
        near(alone, beside)


def test_variants_and_backbones_that_learn_are_left_to_keys_and_values() -> None:
    x = torch.randn(5, HIDDEN)
    assert linear_factors(x, modules((2, 2), use_dora=True)) is None
    learning = modules((0, 0))
    learning[0].requires_grad_(True)
    assert linear_factors(x, learning) is None


def test_a_further_token_costs_less_than_its_key_would() -> None:
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(
        "bert", hidden_size=64, num_attention_heads=4, num_hidden_layers=1, intermediate_size=128, vocab_size=50
    )
    encoder = FastEncoder(config.to_dict())
    encoder.load_weights(AutoModel.from_config(config, add_pooling_layer=False).state_dict())

    def operations(length: int) -> int:
        hidden, mask = torch.zeros(1, length, 64), torch.ones(1, length, dtype=torch.long)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            encoder.pooled(hidden, mask, 0, "cls")
        return int(counter.get_total_flops())

    assert 0 < operations(96) - operations(32) < 64 * 2 * 64 * 64
