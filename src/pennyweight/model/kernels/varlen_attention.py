"""Attention on packed rows by Flash Attention (Dao 2023, https://arxiv.org/abs/2307.08691): no padding is ever made.

torch offers it as `torch.nn.attention.varlen`, from 2.10 on, for GPUs from Ampere on in bf16 and fp16. Where it is
missing, or gives other values when it is tried once, `attend_fused` computes the same from padded texts.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from .packed_attention import Packing, attend_fused
from .rotary import RotaryPositions, rotary_angles

_TOLERANCE = 0.05  # of values around 1, in bf16; another result is off by more


def attend_varlen(qkv: Tensor, packing: Packing, heads: int, positions: RotaryPositions | None = None) -> Tensor:
    """Every token attends to its text: (N, 3H) queries, keys and values side by side -> (N, H)."""
    width = qkv.shape[1] // (3 * heads)
    window = None if positions is None else positions.window_within(packing.length)
    if packing.position_bias is not None or not _agrees(qkv.device, qkv.dtype, width, window is not None):
        return attend_fused(qkv, packing, heads, positions)
    return _attend(qkv, packing, heads, positions)


def _attend(qkv: Tensor, packing: Packing, heads: int, positions: RotaryPositions | None) -> Tensor:
    q, k, v = qkv[: packing.tokens].view(packing.tokens, 3, heads, -1).unbind(1)  # (tokens, heads, d)
    window = None
    if positions is not None:
        window = positions.window_within(packing.length)
        q, k = (_rotated_rows(each, packing, positions) for each in (q, k))
    begins = packing.begins  # (B + 1,)
    more = {} if window is None else {"window_size": (window, window)}
    out: Tensor = _kernel()(q, k, v, begins, begins, packing.length, packing.length, **more).flatten(1)
    return torch.cat([out, out.new_zeros(packing.size - packing.tokens, out.shape[1])])  # unused rows


def _rotated_rows(x: Tensor, packing: Packing, positions: RotaryPositions) -> Tensor:
    """Turn vectors (tokens, heads, d) by their positions in their texts, with a gradient by autograd."""
    cos, sin = rotary_angles(positions.theta, packing.length, x.shape[-1], x.dtype, x.device)
    at = packing.rows[: packing.tokens] % packing.length
    cos, sin = cos[at].unsqueeze(1), sin[at].unsqueeze(1)  # (tokens, 1, d / 2)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def _kernel() -> Any:
    return import_module("torch.nn.attention.varlen").varlen_attn


@cache
def _agrees(device: torch.device, dtype: torch.dtype, width: int, window: bool) -> bool:
    """Whether the kernel is here and gives, forward and backward, what `attend_fused` gives: tried once."""
    if dtype not in (torch.bfloat16, torch.float16):
        return False
    heads, lengths = 2, torch.tensor([5, 12, 9])
    positions = RotaryPositions(10_000.0, 4 if window else None)
    try:
        packing = Packing((torch.arange(12) < lengths[:, None]).long().to(device))
        generator = torch.Generator().manual_seed(0)
        rows = torch.randn(packing.size, 3 * heads * width, generator=generator).to(device, dtype)
        grad = torch.randn(packing.size, heads * width, generator=generator).to(device, dtype)
        grad[packing.tokens :] = 0
        found = []
        for attend in (_attend, attend_fused):
            given = rows.clone().requires_grad_()
            out = attend(given, packing, heads, positions)
            out.backward(grad)
            assert given.grad is not None
            found.append(torch.cat([out.detach(), given.grad], 1)[: packing.tokens].float())
        ours, known = found
        return torch.allclose(ours, known, atol=_TOLERANCE, rtol=_TOLERANCE)
    except (ImportError, AttributeError, RuntimeError, TypeError, ValueError):
        return False
