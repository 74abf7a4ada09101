"""Texts of different lengths as one block of rows without padding, and attention over them.

Every layer but attention treats tokens one by one, so it can work on packed rows (N, H): no padding is multiplied.
Attention wants (texts, heads, T, d); one row gather goes there and its inverse comes back, which is cheaper than the
products it saves.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention

# Above this length the attention weights are computed anew in the backward pass rather than kept: they grow with T².
KEEP_WEIGHTS_UP_TO = 256


class Packing:
    """Where each token of a padded batch stands among the packed rows.

    Args:
        attention_mask: (B, T), 1 for tokens and 0 for padding.

    Attributes:
        tokens: how many rows are tokens; at least one spare row follows, which all padding positions read.
        size: N, the number of packed rows: rounded up, because each new shape makes oneDNN build new kernels.
        rows: (N,) the position in the flattened (B * T) batch that each packed row comes from.
        place: (B, T) the packed row of each position.
    """

    def __init__(self, attention_mask: Tensor) -> None:
        self.texts, self.length = attention_mask.shape
        kept = attention_mask.flatten().nonzero().squeeze(1)  # (tokens,)
        self.tokens = len(kept)
        self.full = self.tokens == self.texts * self.length
        self.size = _rounded(self.tokens + 1)
        device = attention_mask.device
        self.rows = torch.cat([kept, kept.new_zeros(self.size - self.tokens)])
        place = torch.full((self.texts * self.length,), self.tokens, device=device)
        place[kept] = torch.arange(self.tokens, device=device)
        self.place = place.view(self.texts, self.length)
        self._mask = attention_mask
        self._made: dict[tuple[Any, ...], Tensor] = {}

    def pack(self, hidden: Tensor) -> Tensor:
        """(B, T, H) -> (N, H)."""
        return hidden.flatten(0, 1).index_select(0, self.rows)

    def unpack(self, x: Tensor) -> Tensor:
        """(N, H) -> (B, T, H), zeros at padding."""
        out = x.new_zeros(self.texts * self.length, x.shape[1])
        return out.index_copy(0, self.rows[: self.tokens], x[: self.tokens]).view(self.texts, self.length, -1)

    def firsts(self, x: Tensor) -> Tensor:
        """(N, H) -> (B, H): the first token of each text."""
        return x.index_select(0, self.place[:, 0])

    def mean(self, x: Tensor) -> Tensor:
        """(N, H) -> (B, H) in fp32: the mean over each text's tokens, as a product with an averaging matrix."""
        weights = self._mask / self._mask.sum(1, keepdim=True).clamp(min=1)  # (B, T)
        owner = self.rows[: self.tokens] // self.length  # (tokens,)
        averaging = torch.zeros(self.texts, self.size, device=x.device)
        columns = torch.arange(self.tokens, device=x.device)
        averaging[owner, columns] = weights.flatten()[self.rows[: self.tokens]].float()
        return averaging @ x.float()

    def to_heads(self, parts: int, heads: int) -> Tensor:
        """(parts * B * heads * T,) which of the N * parts * heads rows of length d each position reads."""
        return self._once(("to", parts, heads), lambda: self._to_heads(parts, heads))

    def from_heads(self, parts: int, heads: int) -> Tensor:
        """(N * parts * heads,) the way back; spare rows read the first token's."""
        return self._once(("from", parts, heads), lambda: self._from_heads(parts, heads))

    def bias(self, heads: int, dtype: torch.dtype) -> Tensor:
        """(B * heads, 1, T) what is added to attention scores: 0, or very negative at padding."""
        return self._once(("bias", heads, dtype), lambda: self._bias(heads, dtype))

    def _once(self, key: tuple[Any, ...], make: Any) -> Tensor:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _to_heads(self, parts: int, heads: int) -> Tensor:
        part = torch.arange(parts, device=self.rows.device).view(-1, 1, 1, 1)
        head = torch.arange(heads, device=self.rows.device).view(1, 1, -1, 1)
        place = self.place.view(1, self.texts, 1, self.length)
        return ((place * parts + part) * heads + head).flatten()  # (parts, B, heads, T)

    def _from_heads(self, parts: int, heads: int) -> Tensor:
        part = torch.arange(parts, device=self.rows.device).view(1, -1, 1)
        head = torch.arange(heads, device=self.rows.device).view(1, 1, -1)
        text, position = (self.rows // self.length).view(-1, 1, 1), (self.rows % self.length).view(-1, 1, 1)
        return (((part * self.texts + text) * heads + head) * self.length + position).flatten()  # (N, parts, heads)

    def _bias(self, heads: int, dtype: torch.dtype) -> Tensor:
        padding = (1 - self._mask.to(dtype)) * torch.finfo(dtype).min  # (B, T)
        return padding.repeat_interleave(heads, 0).unsqueeze(1)


def _rounded(tokens: int) -> int:
    """Up to a multiple of 32, or of a 32nd of the size where that is more: few shapes, little waste."""
    step = max(32, 1 << max(0, tokens.bit_length() - 6))
    return -(-tokens // step) * step


class _Regroup(torch.autograd.Function):
    """A permutation of rows of length d with its inverse known, so that the way back is a gather and not a scatter.

    Spare rows and padding positions carry no gradient: they are set to zero on the way back to packed rows.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor, real: int) -> Tensor:  # x (rows, d)
        ctx.save_for_backward(inverse)
        ctx.real = real
        return x.index_select(0, index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (inverse,) = ctx.saved_tensors
        out = grad.index_select(0, inverse)
        if ctx.real >= 0:
            out[ctx.real :] = 0
        return out, None, None, None


class _Attention(torch.autograd.Function):
    """softmax(q kᵀ / sqrt(d) + bias) v as two batched products; q (G, Q, d), k and v (G, T, d), G = texts * heads."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        weights = _weights(q, k, bias)  # (G, Q, T)
        ctx.save_for_backward(q, k, v, bias, weights if k.shape[1] <= KEEP_WEIGHTS_UP_TO else None)
        return torch.bmm(weights, v)  # (G, Q, d)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, bias, weights = ctx.saved_tensors
        if weights is None:
            weights = _weights(q, k, bias)
        grad_v = torch.bmm(weights.transpose(1, 2), grad)  # (G, T, d)
        grad_weights = torch.bmm(grad, v.transpose(1, 2))  # (G, Q, T)
        grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
        scale = q.shape[-1] ** -0.5
        grad_q = torch.baddbmm(q, grad_scores, k, beta=0, alpha=scale)
        grad_k = torch.baddbmm(k, grad_scores.transpose(1, 2), q, beta=0, alpha=scale)
        return grad_q, grad_k, grad_v, None


def _weights(q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
    scale = q.shape[-1] ** -0.5
    if bias is None:
        scores = torch.baddbmm(q.new_empty(1), q, k.transpose(1, 2), beta=0, alpha=scale)
    else:
        scores = torch.baddbmm(bias, q, k.transpose(1, 2), alpha=scale)
    return torch.softmax(scores, -1)


def _attend(q: Tensor, k: Tensor, v: Tensor, packing: Packing, heads: int) -> Tensor:
    bias = None if packing.full else packing.bias(heads, q.dtype)
    if q.is_cuda:
        # A GPU has flash kernels that never form the weights; a CPU's took 20 times our backward pass.
        return scaled_dot_product_attention(q, k, v, attn_mask=bias)
    out: Tensor = _Attention.apply(q, k, v, bias)  # type: ignore[no-untyped-call]
    return out


def attend_all(qkv: Tensor, packing: Packing, heads: int) -> Tensor:
    """Every token attends to its text: (N, 3H) queries, keys and values side by side -> (N, H)."""
    rows = qkv.view(-1, qkv.shape[1] // (3 * heads))  # (N * 3 * heads, d)
    to, back = packing.to_heads(3, heads), packing.from_heads(3, heads)
    apart: Tensor = _Regroup.apply(rows, to, back, packing.tokens * 3 * heads)  # type: ignore[no-untyped-call]
    q, k, v = apart.view(3, packing.texts * heads, packing.length, -1).unbind(0)
    out = _attend(q, k, v, packing, heads).view(-1, q.shape[-1])  # (B * heads * T, d)
    to, back = packing.to_heads(1, heads), packing.from_heads(1, heads)
    context: Tensor = _Regroup.apply(out, back, to, -1)  # type: ignore[no-untyped-call]
    return context.view(packing.size, -1)


def attend_firsts(q: Tensor, kv: Tensor, packing: Packing, heads: int) -> Tensor:
    """Only each text's first token attends: queries (B, H), keys and values (N, 2H) -> (B, H)."""
    rows = kv.view(-1, kv.shape[1] // (2 * heads))  # (N * 2 * heads, d)
    to, back = packing.to_heads(2, heads), packing.from_heads(2, heads)
    apart: Tensor = _Regroup.apply(rows, to, back, packing.tokens * 2 * heads)  # type: ignore[no-untyped-call]
    k, v = apart.view(2, packing.texts * heads, packing.length, -1).unbind(0)
    return _attend(q.view(packing.texts * heads, 1, -1), k, v, packing, heads).view(packing.texts, -1)
