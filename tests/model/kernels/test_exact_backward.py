"""Our own autograd functions give the same gradients where the backward pass runs inside of autocast."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from pennyweight.model.kernels.first_token_attention import attend_first_token
from pennyweight.model.kernels.frozen_linear import Linear
from pennyweight.model.kernels.gated_gelu import gated_gelu
from pennyweight.model.kernels.local_attention import attend_near
from pennyweight.model.kernels.lora_linear import project
from pennyweight.model.kernels.packed_attention import Packing, attend_packed
from pennyweight.model.kernels.rotary import RotaryPositions

WIDTH, HEADS = 24, 4
PACKING = Packing(torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0]]))
LONG = Packing(torch.ones(1, 300, dtype=torch.long))


def adapted() -> nn.Module:
    holder = nn.ModuleDict({"layer": Linear(WIDTH, WIDTH).requires_grad_(False)})
    config = LoraConfig(r=2, target_modules=["layer"], init_lora_weights=False)
    return inject_adapter_in_model(config, holder)["layer"]


def frozen(x: Tensor) -> Tensor:
    return project(x, [Linear(WIDTH, WIDTH).requires_grad_(False)])


def lora(x: Tensor) -> Tensor:
    return project(x, [adapted()])


def first_tokens(x: Tensor) -> Tensor:
    return attend_first_token(x[:2], x, [adapted(), adapted()], PACKING, HEADS)


def every_token(x: Tensor) -> Tensor:
    return attend_packed(x.repeat(1, 3), PACKING, HEADS)


def near_tokens(x: Tensor) -> Tensor:
    rows = torch.arange(LONG.size) % len(x)
    return attend_near(x[rows].repeat(1, 3), LONG, HEADS, RotaryPositions(50.0, 16))


@pytest.mark.parametrize("function", [frozen, lora, first_tokens, every_token, near_tokens, gated_gelu])
def test_gradients_do_not_depend_on_autocast(function: Callable[[Tensor], Tensor]) -> None:
    found = []
    for inside in (False, True):
        torch.manual_seed(0)
        x = torch.randn(PACKING.size, WIDTH, requires_grad=True)
        out = function(x)
        weights = torch.randn(out.shape)
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            (grad,) = torch.autograd.grad(out, x, weights)
        found.append(grad)
    assert torch.equal(*found)
