"""Attention where only each text's first token is read: no token's key or value is computed.

One query a text and head meets the keys as q (x Wᵀ)ᵀ = (q W) xᵀ, and the values are summed as w (x Wᵀ) = (w x) Wᵀ: the
keys' matrix is absorbed into the query, as in DeepSeek-V2 (Liu et al. 2024, https://arxiv.org/abs/2405.04434, section
2.1.2). Two products with a matrix for each text replace two for each token; the result is exact but for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .exact_backward import exact_backward
from .lora_linear import LinearFactors, linear_factors, project
from .packed_attention import Packing, attend_first_packed, softmax_backward
from .varlen_attention import attend_first_varlen


def attend_first_token(q: Tensor, x: Tensor, modules: Sequence[nn.Module], packing: Packing, heads: int) -> Tensor:
    """Each text's first token attends to its text, without keys and values where their modules allow it.

    Args:
        q: (B, H), one query per text.
        x: (N, H) packed rows.
        modules: give the keys and the values of x.

    Returns:
        (B, H).
    """
    factors = linear_factors(x, modules)
    if factors is None:
        return attend_first_packed(q, project(x, modules), packing, heads)
    return attend_without_keys(q, x, factors, packing, heads)


def attend_first_token_on_gpu(
    q: Tensor, x: Tensor, modules: Sequence[nn.Module], packing: Packing, heads: int
) -> Tensor:
    """`attend_first_token` by Flash Attention or PyTorch's fused kernels, from keys and values."""
    return attend_first_varlen(q, project(x, modules), packing, heads)


def attend_without_keys(q: Tensor, x: Tensor, factors: LinearFactors, packing: Packing, heads: int) -> Tensor:
    """Each text's first token attends to its text.

    Args:
        q: (B, H), one query per text.
        x: (N, H) packed rows.
        factors: of the modules that give keys and values. The keys' bias adds the same number to all scores of a query,
            which does not change a softmax, so it is not read.

    Returns:
        (B, H).
    """
    key, value = factors.weights
    frozen = _Frozen(key, value, factors.biases[1], factors.mask, packing, heads)
    key_up, value_up = factors.ups or (None, None)
    out: Tensor = _FirstTokenAttention.apply(q, x, factors.down, key_up, value_up, frozen)  # type: ignore[no-untyped-call]
    return out


@dataclass(frozen=True)
class _Frozen:
    """Tensors without gradients: key and value matrices (H, H), value bias (H,), dropout mask (N, H); the batch."""

    key: Tensor
    value: Tensor
    bias: Tensor | None
    mask: Tensor | None
    packing: Packing
    heads: int


class _FirstTokenAttention(torch.autograd.Function):
    """Below, W = H + R: the adapters' inner rows are appended to x, and their ups to the matrices."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        x: Tensor,
        down: Tensor | None,
        key_up: Tensor | None,
        value_up: Tensor | None,
        frozen: _Frozen,
    ) -> Tensor:
        key, value, packing, heads, mask = frozen.key, frozen.value, frozen.packing, frozen.heads, frozen.mask
        dropped = x if mask is None else x * mask  # (N, H)
        if down is not None and key_up is not None and value_up is not None:
            x = torch.cat([x, dropped @ down.t()], 1)  # (N, W)
            key, value = torch.cat([key, key_up], 1), torch.cat([value, value_up], 1)  # (H, W)
        rows = x.index_select(0, packing.place.flatten()).view(packing.texts, packing.length, -1)  # (B, T, W)
        scaled_q = _split_heads(q, heads) * (q.shape[1] // heads) ** -0.5  # (heads, B, d)
        absorbed_q = torch.bmm(scaled_q, _head_rows(key, heads)).transpose(0, 1)  # (B, heads, W)
        scores = torch.bmm(absorbed_q, rows.transpose(1, 2))  # (B, heads, T)
        if packing.biased:
            scores += packing.bias(heads, scores.dtype, first_only=True).view(packing.texts, heads, -1)
        weights = torch.softmax(scores, -1)
        sums = torch.bmm(weights, rows).transpose(0, 1)  # (heads, B, W)
        out = _merge_heads(torch.bmm(sums, _head_rows(value, heads).transpose(1, 2)))  # (B, H)
        ctx.save_for_backward(dropped, down, mask, key, value, rows, scaled_q, absorbed_q, weights, sums)
        ctx.packing, ctx.heads = packing, heads
        return out if frozen.bias is None else out + frozen.bias

    @staticmethod
    @exact_backward
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        dropped, down, mask, key, value, rows, scaled_q, absorbed_q, weights, sums = ctx.saved_tensors
        packing, heads = ctx.packing, ctx.heads
        hidden, scale = grad.shape[1], scaled_q.shape[-1] ** -0.5
        grad_out = _split_heads(grad, heads)  # (heads, B, d)
        grad_sums = torch.bmm(grad_out, _head_rows(value, heads)).transpose(0, 1)  # (B, heads, W)
        grad_weights = torch.bmm(grad_sums, rows.transpose(1, 2))  # (B, heads, T)
        grad_scores = softmax_backward(grad_weights, weights)
        grad_absorbed = torch.bmm(grad_scores, rows).transpose(0, 1)  # (heads, B, W)
        grad_q = _merge_heads(torch.bmm(grad_absorbed, _head_rows(key, heads).transpose(1, 2))) * scale  # (B, H)
        grad_x = grad_down = grad_key_up = grad_value_up = None
        need_x = ctx.needs_input_grad[1]  # false where nothing below this layer is trained
        begin = 0 if need_x else hidden
        if begin < rows.shape[2]:
            left = torch.cat([grad_scores, weights], 1)  # (B, 2 heads, T)
            right = torch.cat([absorbed_q, grad_sums], 1)  # (B, 2 heads, W)
            grad_rows = torch.bmm(left.transpose(1, 2), right[..., begin:])  # (B, T, W)
            grad_x = grad_rows.flatten(0, 1).index_select(0, packing.rows)  # (N, W)
            grad_x[packing.tokens :] = 0  # unused rows: no gradient
        if grad_x is not None and down is not None:
            grad_x, grad_inner = grad_x[:, : hidden - begin], grad_x[:, hidden - begin :]
            grad_down = grad_inner.t() @ dropped
            if need_x:
                grad_dropped = grad_inner @ down
                grad_x = grad_x + grad_dropped if mask is None else torch.addcmul(grad_x, grad_dropped, mask)
            grad_key_up = torch.bmm(scaled_q.transpose(1, 2), grad_absorbed[..., hidden:]).flatten(0, 1)  # (H, R)
            grad_value_up = torch.bmm(grad_out.transpose(1, 2), sums[..., hidden:]).flatten(0, 1)
        return grad_q, grad_x if need_x else None, grad_down, grad_key_up, grad_value_up, None


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, H) -> (heads, B, d)."""
    return x.view(len(x), heads, -1).transpose(0, 1)


def _merge_heads(x: Tensor) -> Tensor:
    """(heads, B, d) -> (B, H)."""
    return x.transpose(0, 1).flatten(1)


def _head_rows(matrix: Tensor, heads: int) -> Tensor:
    """(H, W) -> (heads, d, W): the rows of each head."""
    return matrix.view(heads, -1, matrix.shape[1])
