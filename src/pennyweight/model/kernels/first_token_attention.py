"""Attention where nothing but each text's first token is read: no token's key or value is computed.

One query a text and head meets the keys as q (x Wᵀ)ᵀ = (q W) xᵀ, and the values are summed as w (x Wᵀ) = (w x) Wᵀ: the
query absorbs the keys' matrix, as in DeepSeek-V2 (Liu et al. 2024, https://arxiv.org/abs/2405.04434, section 2.1.2).
Two products with a matrix for each text stand where there were two for each token; exact but for rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .lora_linear import Terms
from .packed_attention import Packing, softmax_backward


def attend_absorbed(q: Tensor, x: Tensor, read: Terms, packing: Packing, heads: int) -> Tensor:
    """Each text's first token attends to its text.

    Args:
        q: (B, H), one query a text.
        x: (N, H) packed rows.
        read: how keys and values come from x. The keys' bias adds the same to all scores of a query, which the softmax
            does not see, so it is not read.

    Returns:
        (B, H).
    """
    key_up, value_up = read.ups or (None, None)
    out: Tensor = _Absorbed.apply(  # type: ignore[no-untyped-call]
        q, x, *read.weights, read.biases[1], read.down, key_up, value_up, read.kept, packing, heads
    )
    return out


class _Absorbed(torch.autograd.Function):
    """Below, W = H + R: what the adapters read of x stands beside x, and their ups beside the matrices."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        x: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        down: Tensor | None,
        key_up: Tensor | None,
        value_up: Tensor | None,
        kept: Tensor | None,
        packing: Packing,
        heads: int,
    ) -> Tensor:
        seen = x if kept is None else x * kept  # (N, H)
        if down is not None and key_up is not None and value_up is not None:
            x = torch.cat([x, seen @ down.t()], 1)  # (N, W)
            key, value = torch.cat([key, key_up], 1), torch.cat([value, value_up], 1)  # (H, W)
        rows = x.index_select(0, packing.place.flatten()).view(packing.texts, packing.length, -1)  # (B, T, W)
        apart = _apart(q, heads) * (q.shape[1] // heads) ** -0.5  # (heads, B, d)
        asked = torch.bmm(apart, _blocks(key, heads)).transpose(0, 1)  # (B, heads, W)
        scores = torch.bmm(asked, rows.transpose(1, 2))  # (B, heads, T)
        if not packing.full:
            scores += packing.bias(1, scores.dtype)
        weights = torch.softmax(scores, -1)
        sums = torch.bmm(weights, rows).transpose(0, 1)  # (heads, B, W)
        out = _together(torch.bmm(sums, _blocks(value, heads).transpose(1, 2)))  # (B, H)
        ctx.save_for_backward(seen, down, kept, key, value, rows, apart, asked, weights, sums)
        ctx.packing, ctx.heads = packing, heads
        return out if bias is None else out + bias

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        seen, down, kept, key, value, rows, apart, asked, weights, sums = ctx.saved_tensors
        packing, heads = ctx.packing, ctx.heads
        hidden, scale = grad.shape[1], apart.shape[-1] ** -0.5
        of_out = _apart(grad, heads)  # (heads, B, d)
        of_sums = torch.bmm(of_out, _blocks(value, heads)).transpose(0, 1)  # (B, heads, W)
        of_weights = torch.bmm(of_sums, rows.transpose(1, 2))  # (B, heads, T)
        of_scores = softmax_backward(of_weights, weights)
        of_asked = torch.bmm(of_scores, rows).transpose(0, 1)  # (heads, B, W)
        of_q = _together(torch.bmm(of_asked, _blocks(key, heads).transpose(1, 2))) * scale  # (B, H)
        of_x = of_down = of_key_up = of_value_up = None
        need_x = ctx.needs_input_grad[1]  # not where below this layer nothing learns
        begin = 0 if need_x else hidden
        if begin < rows.shape[2]:
            both, other = torch.cat([of_scores, weights], 1), torch.cat([asked, of_sums], 1)  # (B, 2 heads, T and W)
            of_rows = torch.bmm(both.transpose(1, 2), other[..., begin:])  # (B, T, W)
            of_x = of_rows.flatten(0, 1).index_select(0, packing.rows)  # (N, W)
            of_x[packing.tokens :] = 0  # spare rows are nobody's: no gradient
        if of_x is not None and down is not None:
            of_x, of_inner = of_x[:, : hidden - begin], of_x[:, hidden - begin :]
            of_down = of_inner.t() @ seen
            if need_x:
                of_seen = of_inner @ down
                of_x = of_x + of_seen if kept is None else torch.addcmul(of_x, of_seen, kept)
            of_key_up = torch.bmm(apart.transpose(1, 2), of_asked[..., hidden:]).flatten(0, 1)  # (H, R)
            of_value_up = torch.bmm(of_out.transpose(1, 2), sums[..., hidden:]).flatten(0, 1)
        return of_q, of_x if need_x else None, None, None, None, of_down, of_key_up, of_value_up, None, None, None


def _apart(x: Tensor, heads: int) -> Tensor:
    """(B, H) -> (heads, B, d)."""
    return x.view(len(x), heads, -1).transpose(0, 1)


def _together(x: Tensor) -> Tensor:
    """(heads, B, d) -> (B, H)."""
    return x.transpose(0, 1).flatten(1)


def _blocks(matrix: Tensor, heads: int) -> Tensor:
    """(H, W) -> (heads, d, W): each head's rows."""
    return matrix.view(heads, -1, matrix.shape[1])
