"""Texts of different lengths as one block of rows without padding, and attention over them.

Every layer but attention treats tokens one by one, so it can work on packed rows (N, H): no padding is multiplied.
Attention wants (texts, heads, T, d); one row gather goes there and its inverse comes back, which is cheaper than the
products it saves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
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
        full: whether there is no padding.
        keep_weights: whether attention weights are kept for the backward pass.
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
        self.mask = attention_mask
        self.keep_weights = self.length <= KEEP_WEIGHTS_UP_TO
        self._made: dict[Any, Tensor] = {}

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
        weights = self.mask / self.mask.sum(1, keepdim=True).clamp(min=1)  # (B, T)
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

    def _once(self, key: Any, make: Callable[[], Tensor]) -> Tensor:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _to_heads(self, parts: int, heads: int) -> Tensor:
        blocks = _range(parts * heads, 1, self.place.device).view(parts, 1, heads, 1)
        place = self._once("place", lambda: self.place.int().view(self.texts, 1, self.length))
        return (place * (parts * heads) + blocks).flatten()  # (parts, B, heads, T)

    def _from_heads(self, parts: int, heads: int) -> Tensor:
        begins = self._once(("begins", heads), lambda: self._begins(heads))  # (N, 1)
        part = _range(parts, self.texts * heads * self.length, self.rows.device).view(-1, 1)
        return (begins + (part + _range(heads, self.length, self.rows.device)).view(-1)).flatten()  # (N, parts * heads)

    def _begins(self, heads: int) -> Tensor:
        """(N, 1) where among the first part's positions each packed row is found, in its first head."""
        rows = self.rows.int()  # half the bytes of the default
        return (rows + rows // self.length * (self.length * (heads - 1))).view(-1, 1)

    def _bias(self, heads: int, dtype: torch.dtype) -> Tensor:
        padding = (1 - self.mask.to(dtype)) * torch.finfo(dtype).min  # (B, T)
        return padding.repeat_interleave(heads, 0).unsqueeze(1)


@lru_cache(256)  # a server sees batches of every size
def _range(count: int, step: int, device: torch.device) -> Tensor:
    """(count,) multiples of `step`."""
    return torch.arange(0, count * step, step, device=device, dtype=torch.int32)


def _rounded(tokens: int) -> int:
    """Up to a multiple of 32, or of a 32nd of the size where that is more: few shapes, little waste."""
    step = max(32, 1 << max(0, tokens.bit_length() - 6))
    return -(-tokens // step) * step


class _Attention(torch.autograd.Function):
    """softmax(q kᵀ / sqrt(d) + bias) v as two batched products, from packed rows to packed rows.

    Below, G = texts * heads. Queries are (N, H) inside `mixed`, or (B, H) apart from it, one a text.
    """

    @staticmethod
    def forward(ctx: Any, mixed: Tensor, firsts: Tensor | None, packing: Packing, heads: int) -> Tensor:
        parts = 3 if firsts is None else 2
        groups, d = packing.texts * heads, mixed.shape[1] // (parts * heads)
        apart = mixed.view(-1, d).index_select(0, packing.to_heads(parts, heads)).view(parts, groups, -1, d)
        *queries, k, v = apart.unbind()  # (G, T, d)
        q = queries[0] if firsts is None else firsts.reshape(groups, 1, d)  # (G, Q, d)
        weights = _weights(q, k, packing, heads)  # (G, Q, T)
        ctx.save_for_backward(apart, None if firsts is None else q, weights if packing.keep_weights else None)
        ctx.packing, ctx.heads = packing, heads
        out = torch.bmm(weights, v)  # (G, Q, d)
        if firsts is not None:
            return out.view(packing.texts, -1)  # (B, H)
        return out.view(-1, d).index_select(0, packing.from_heads(1, heads)).view(packing.size, -1)  # (N, H)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        apart, q, weights = ctx.saved_tensors
        packing, heads = ctx.packing, ctx.heads
        parts, groups, _, d = apart.shape
        *queries, k, v = apart.unbind()
        grads = torch.empty_like(apart)  # (parts, G, T, d)
        *of_queries, grad_k, grad_v = grads.unbind()
        if q is None:
            q, grad_q = queries[0], of_queries[0]
            grad_out = grad.view(-1, d).index_select(0, packing.to_heads(1, heads)).view(groups, -1, d)
        else:
            grad_q, grad_out = torch.empty_like(q), grad.reshape(groups, 1, d)
        if weights is None:
            weights = _weights(q, k, packing, heads)
        scale = d**-0.5
        torch.bmm(weights.transpose(1, 2), grad_out, out=grad_v)  # (G, T, d)
        grad_weights = torch.bmm(grad_out, v.transpose(1, 2))  # (G, Q, T)
        scores = softmax_backward(grad_weights, weights)
        torch.baddbmm(grad_q, scores, k, beta=0, alpha=scale, out=grad_q)
        torch.baddbmm(grad_k, scores.transpose(1, 2), q, beta=0, alpha=scale, out=grad_k)
        mixed = grads.view(-1, d).index_select(0, packing.from_heads(parts, heads)).view(packing.size, -1)
        mixed[packing.tokens :] = 0  # spare rows are nobody's: no gradient
        return mixed, grad_q.view(packing.texts, -1) if parts == 2 else None, None, None


# What torch's own softmax goes back through, in one pass over memory; but no public name.
_SOFTMAX_BACKWARD = getattr(torch, "_softmax_backward_data", None)


def softmax_backward(grad: Tensor, weights: Tensor) -> Tensor:
    """The gradient of the scores: of softmax over the last dimension, from what it gave and that gradient."""
    if _SOFTMAX_BACKWARD is None:
        return (grad - (grad * weights).sum(-1, keepdim=True)) * weights
    out: Tensor = _SOFTMAX_BACKWARD(grad, weights, -1, weights.dtype)
    return out


def _weights(q: Tensor, k: Tensor, packing: Packing, heads: int) -> Tensor:
    scale = q.shape[-1] ** -0.5
    if packing.full:
        scores = torch.baddbmm(q.new_zeros(1), q, k.transpose(1, 2), beta=0, alpha=scale)
    else:
        scores = torch.baddbmm(packing.bias(heads, q.dtype), q, k.transpose(1, 2), alpha=scale)
    # The CPU's bf16 kernel takes two to three times as long as the way through fp32, unless T is a multiple of 32: then
    # an eighth to a quarter less (benchmarks/kernels.py). The bits are the same: that kernel computes in fp32 too.
    if scores.shape[-1] % 32 == 0:
        return torch.softmax(scores, -1)
    wide = scores.float()
    return torch.softmax(wide, -1, out=wide).to(scores.dtype)


def attend_all(qkv: Tensor, packing: Packing, heads: int) -> Tensor:
    """Every token attends to its text: (N, 3H) queries, keys and values side by side -> (N, H)."""
    if qkv.is_cuda:
        q, k, v = _apart(packing.unpack(qkv), 3, heads)
        return packing.pack(_flash(q, k, v, packing))
    out: Tensor = _Attention.apply(qkv, None, packing, heads)  # type: ignore[no-untyped-call]
    return out


def attend_firsts(q: Tensor, kv: Tensor, packing: Packing, heads: int) -> Tensor:
    """Only each text's first token attends: queries (B, H), keys and values (N, 2H) -> (B, H)."""
    if kv.is_cuda:
        k, v = _apart(packing.unpack(kv), 2, heads)
        return _flash(q.view(packing.texts, heads, 1, -1), k, v, packing).squeeze(1)
    out: Tensor = _Attention.apply(kv, q, packing, heads)  # type: ignore[no-untyped-call]
    return out


def _apart(mixed: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    split = mixed.view(*mixed.shape[:2], parts, heads, -1)  # (B, T, parts, heads, d)
    return split.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, T, d)


def _flash(q: Tensor, k: Tensor, v: Tensor, packing: Packing) -> Tensor:
    """A GPU has kernels that never form the weights; a CPU's take 20 times our backward pass. -> (B, Q, H)."""
    mask = None if packing.full else packing.mask.bool()[:, None, None, :]  # (B, 1, 1, T)
    return scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
