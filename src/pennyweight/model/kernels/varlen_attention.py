"""Attention on packed rows by Flash Attention (Dao 2023, https://arxiv.org/abs/2307.08691): no padding is ever made.

torch offers it as `torch.nn.attention.varlen`, from 2.10 on, for GPUs from Ampere on in bf16 and fp16. Where it is
missing, or gives other values when it is tried once, PyTorch's fused attention computes the same from padded texts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from .packed_attention import Packing, attend_first_fused, attend_fused
from .rotary import RotaryPositions, rotary_angles

_TOLERANCE = 0.05  # of values around 1, in bf16; another result is off by more
HEADS = 2  # of the trial


def attend_varlen(qkv: Tensor, packing: Packing, heads: int, positions: RotaryPositions | None = None) -> Tensor:
    """Every token attends to its text: (N, 3H) queries, keys and values side by side -> (N, H)."""
    width = qkv.shape[1] // (3 * heads)
    window = None if positions is None else positions.window_within(packing.length)
    if packing.position_bias is not None or not _agrees(qkv.device, qkv.dtype, width, window is not None):
        return attend_fused(qkv, packing, heads, positions)
    return _attend(qkv, packing, heads, positions)


def attend_first_varlen(
    q: Tensor, kv: Tensor, packing: Packing, heads: int, positions: RotaryPositions | None = None
) -> Tensor:
    """Each text's first token attends to its text: queries (B, H), keys and values (N, 2H) -> (B, H)."""
    width = q.shape[1] // heads
    # One query has no window on both sides of its text's tokens that the kernel could count from the end.
    windowed = positions is not None and positions.window_within(packing.length) is not None
    if packing.position_bias is not None or windowed or not _agrees_for_first(q.device, q.dtype, width):
        return attend_first_fused(q, kv, packing, heads, positions)
    return _attend_first(q, kv, packing, heads, positions)


def _attend_first(q: Tensor, kv: Tensor, packing: Packing, heads: int, positions: RotaryPositions | None) -> Tensor:
    k, v = kv[: packing.tokens].view(packing.tokens, 2, heads, -1).unbind(1)  # (tokens, heads, d)
    if positions is not None:  # the queries are at position 0, where the angle is 0
        k = _rotated_rows(k, packing, positions)
    queries = torch.arange(packing.texts + 1, device=q.device, dtype=torch.int32)  # each text has one
    rows = q.view(packing.texts, heads, -1)
    out: Tensor = _kernel()(rows, k, v, queries, packing.begins, 1, packing.length)
    return out.flatten(1)


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
    positions = RotaryPositions(10_000.0, 4 if window else None)
    ours, known = (
        lambda packing, qkv, attend=attend: attend(qkv, packing, HEADS, positions) for attend in (_attend, attend_fused)
    )
    return _gives_the_same(ours, known, (3 * HEADS * width,), device, dtype)


@cache
def _agrees_for_first(device: torch.device, dtype: torch.dtype, width: int) -> bool:
    """The same of one query a text and `attend_first_fused`."""
    positions = RotaryPositions(10_000.0)
    ours, known = (
        lambda packing, kv, q, attend=attend: attend(q[: packing.texts], kv, packing, HEADS, positions)
        for attend in (_attend_first, attend_first_fused)
    )
    return _gives_the_same(ours, known, (2 * HEADS * width, HEADS * width), device, dtype)


def _gives_the_same(
    ours: Callable[..., Tensor], known: Callable[..., Tensor], widths: tuple[int, ...], device: torch.device,
    dtype: torch.dtype,
) -> bool:  # fmt: skip
    """Whether two ways give the same values and gradients for texts of three lengths; False if the first one fails.

    Args:
        ours, known: from a `Packing` and packed rows of each of the `widths` to rows.
    """
    if dtype not in (torch.bfloat16, torch.float16):
        return False
    try:
        # The first use may be a prediction, in which there are no gradients.
        with torch.inference_mode(False), torch.enable_grad():
            return _compare(ours, known, widths, device, dtype)
    except (ImportError, AttributeError, RuntimeError, TypeError, ValueError):
        return False


def _compare(
    ours: Callable[..., Tensor], known: Callable[..., Tensor], widths: tuple[int, ...], device: torch.device,
    dtype: torch.dtype,
) -> bool:  # fmt: skip
    packing = Packing((torch.arange(12) < torch.tensor([5, 12, 9])[:, None]).long().to(device))
    found = []
    for attend in (ours, known):
        generator = torch.Generator().manual_seed(0)
        given = [
            torch.randn(packing.size, width, generator=generator).to(device, dtype).requires_grad_() for width in widths
        ]
        out = attend(packing, *given)
        grad = torch.randn(out.shape, generator=generator).to(device, dtype)
        grad[packing.tokens :] = 0
        gradients = torch.autograd.grad(out, given, grad)
        found.append([each.detach()[: packing.tokens].float() for each in (out, *gradients)])
    return all(
        torch.allclose(mine, other, atol=_TOLERANCE, rtol=_TOLERANCE) for mine, other in zip(*found, strict=True)
    )
