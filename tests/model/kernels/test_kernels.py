"""Which operations a device gets, and that all of them compute the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from pennyweight.model.kernels import Kernels, choose_kernels
from pennyweight.model.kernels.frozen_linear import Linear
from pennyweight.model.kernels.layer_norm import layer_norm_cast
from pennyweight.model.kernels.packed_attention import Packing
from pennyweight.model.kernels.rotary import RotaryPositions

MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]])
CPU, *OTHERS = (choose_kernels(torch.device(kind)) for kind in ("cpu", "cuda", "mps"))


@pytest.mark.parametrize("kernels", OTHERS, ids=["cuda", "mps"])
@pytest.mark.parametrize("mask", [MASK, torch.ones(2, 5, dtype=torch.long)], ids=["padded", "full"])
@pytest.mark.parametrize("positions", [False, True], ids=["plain", "relative-positions"])
def test_every_device_computes_the_same(
    kernels: Kernels, mask: torch.Tensor, positions: bool, near: Callable[..., None]
) -> None:
    torch.manual_seed(0)
    heads, length = 4, mask.shape[1]
    packing = Packing(mask, torch.randn(heads, length, length) if positions else None)
    modules: list[nn.Module] = [Linear(24, 24).requires_grad_(False) for _ in range(2)]
    qkv = torch.randn(packing.size, 72)
    x, q = torch.randn(packing.size, 24), torch.randn(len(mask), 24)
    rows = packing.tokens
    near(kernels.attend(qkv, packing, heads)[:rows], CPU.attend(qkv, packing, heads)[:rows])
    near(
        kernels.attend_first_token(q, x, modules, packing, heads), CPU.attend_first_token(q, x, modules, packing, heads)
    )
    kv = torch.randn(packing.size, 48)
    for window in (None, 2, 100):
        where = RotaryPositions(50.0, window)
        near(kernels.attend(qkv, packing, heads, where)[:rows], CPU.attend(qkv, packing, heads, where)[:rows])
        near(kernels.attend_first(q, kv, packing, heads, where), CPU.attend_first(q, kv, packing, heads, where))
    bare = nn.LayerNorm(24, bias=False)
    near(kernels.layer_norm(bare, x), CPU.layer_norm(bare, x))
    norm = nn.LayerNorm(24)
    near(kernels.layer_norm(norm, x), CPU.layer_norm(norm, x))
    half = kernels.layer_norm(norm, x.bfloat16())
    assert half.dtype == torch.bfloat16
    near(half, CPU.layer_norm(norm, x.bfloat16()), 8)


class _Casts(TorchDispatchMode):
    """Counts copies into another type."""

    count = 0

    def __torch_dispatch__(
        self, function: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.count += function.name().startswith("aten::_to_copy")
        return function(*args, **dict(kwargs or {}))


def test_frozen_norms_are_cast_once_and_again_when_they_change() -> None:
    norm, x = nn.LayerNorm(24).requires_grad_(False), torch.randn(5, 24).bfloat16()
    layer_norm_cast(norm, x)
    with _Casts() as casts:
        first = layer_norm_cast(norm, x)
    assert casts.count == 0
    with torch.no_grad():
        norm.weight.mul_(2)
    torch.testing.assert_close(layer_norm_cast(norm, x), 2 * first, atol=0.05, rtol=0.01)
    norm.requires_grad_(True)
    layer_norm_cast(norm, x).sum().backward()
    assert norm.weight.grad is not None


def test_a_norm_that_a_prediction_has_cast_takes_part_in_training() -> None:
    norm, x = nn.LayerNorm(24).requires_grad_(False), torch.randn(5, 24).bfloat16().requires_grad_()
    with torch.inference_mode():
        layer_norm_cast(norm, x.detach())
    layer_norm_cast(norm, x).sum().backward()
    assert x.grad is not None
