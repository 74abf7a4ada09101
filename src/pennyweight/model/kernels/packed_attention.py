"""Texts of different lengths as one block of rows without padding, and attention over them.

All of a layer but attention treats tokens one by one, so it works on packed rows (N, H) and computes no padding.
Attention needs (texts, heads, T, d): one gather of rows leads there and its inverse back, which costs less than the
products it saves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from .exact_backward import exact_backward
from .rotary import RotaryPositions, rotate_, rotated

# Above this length attention weights are recomputed in the backward pass instead of saved: they grow with T².
SAVE_WEIGHTS_UP_TO = 256
# Of longer texts, so many weights at a time: 64 MB in fp32, or those of one head of one text.
MOST_WEIGHTS = 1 << 24


class Packing:
    """The packed row of each token of a padded batch.

    Args:
        attention_mask: (B, T), 1 for tokens and 0 for padding.
        position_bias: (heads, T, T), frozen, added to the attention scores of every text; None if there is none.
        tokens: how many ones the mask has. None: the mask's device is asked, and the host waits for its answer.

    Attributes:
        tokens: how many rows are tokens; at least one unused row follows, which all padding positions read.
        size: N, the number of packed rows: rounded up, because oneDNN builds new kernels for each new shape.
        rows: (N,) the position in the flattened (B * T) batch that each packed row comes from.
        place: (B, T) the packed row of each position.
        full: whether there is no padding.
        biased: whether `bias` adds anything.
        save_weights: whether attention weights are saved for the backward pass.
    """

    def __init__(self, attention_mask: Tensor, position_bias: Tensor | None = None, tokens: int | None = None) -> None:
        self.texts, self.length = attention_mask.shape
        self.tokens = int(attention_mask.count_nonzero()) if tokens is None else tokens
        self.full = self.tokens == self.texts * self.length
        self.size = _rounded(self.tokens + 1)
        held = attention_mask.flatten() != 0  # (B * T,)
        place = torch.where(held, held.cumsum(0) - 1, self.tokens)
        # Padding writes to the unused row behind the tokens: unlike `nonzero`, no size depends on the mask's values.
        self.rows = place.new_zeros(self.size).scatter_(0, place, torch.arange(len(place), device=place.device))
        self.rows[self.tokens :] = 0
        self.place = place.view(self.texts, self.length)
        self.mask = attention_mask
        self.position_bias = position_bias
        self.biased = position_bias is not None or not self.full
        self.save_weights = self.length <= SAVE_WEIGHTS_UP_TO
        self._cache: dict[Any, Tensor] = {}

    def pack(self, hidden: Tensor) -> Tensor:
        """(B, T, H) -> (N, H)."""
        return hidden.flatten(0, 1).index_select(0, self.rows)

    def unpack(self, x: Tensor) -> Tensor:
        """(N, H) -> (B, T, H), zeros at padding."""
        out = x.new_zeros(self.texts * self.length, x.shape[1])
        return out.index_copy(0, self.rows[: self.tokens], x[: self.tokens]).view(self.texts, self.length, -1)

    def first_tokens(self, x: Tensor) -> Tensor:
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

    @property
    def begins(self) -> Tensor:
        """(B + 1,) int32: the packed row at which each text begins, and the end of the last."""
        lengths = self.mask.sum(1, dtype=torch.int32)
        return self._cached("texts", lambda: torch.nn.functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0)))

    def to_heads(self, parts: int, heads: int) -> Tensor:
        """(parts * B * heads * T,): which of the N * parts * heads rows of length d each position reads."""
        return self._cached(("to", parts, heads), lambda: self._to_heads(parts, heads))

    def from_heads(self, parts: int, heads: int) -> Tensor:
        """(N * parts * heads,): the inverse of `to_heads`; unused rows read the first token's."""
        return self._cached(("from", parts, heads), lambda: self._from_heads(parts, heads))

    def bias(self, heads: int, dtype: torch.dtype, first_only: bool = False) -> Tensor:
        """(B * heads, 1, T), or (B * heads, T, T) with relative positions: added to attention scores.

        It is very negative at padding. With `first_only` it is that of each text's first query, (B * heads, 1, T).
        """
        if self.position_bias is None:
            return self._cached(("bias", heads, dtype), lambda: self._bias(heads, dtype))
        positions = self.position_bias[:, :1] if first_only else self.position_bias
        key = ("bias", heads, dtype, first_only)
        return self._cached(key, lambda: self._bias_with_positions(positions.to(dtype)))

    def window(self, width: int, queries: int, dtype: torch.dtype) -> Tensor:
        """(1, Q, T): added to scores of the first Q tokens, 0, or very negative more than `width` tokens away."""
        return self._cached(("window", width, queries, dtype), lambda: self._window(width, queries, dtype))

    def parts(self, groups: int, queries: int) -> list[slice]:
        """Groups whose attention weights are computed together: all, where they are saved."""
        step = groups if self.save_weights else max(1, MOST_WEIGHTS // (queries * self.length))
        return [slice(begin, min(begin + step, groups)) for begin in range(0, groups, step)]

    def _cached(self, key: Any, make: Callable[[], Tensor]) -> Tensor:
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def _to_heads(self, parts: int, heads: int) -> Tensor:
        blocks = _range(parts * heads, 1, self.place.device).view(parts, 1, heads, 1)
        place = self._cached("place", lambda: self.place.int().view(self.texts, 1, self.length))
        return (place * (parts * heads) + blocks).flatten()  # (parts, B, heads, T)

    def _from_heads(self, parts: int, heads: int) -> Tensor:
        begins = self._cached(("begins", heads), lambda: self._begins(heads))  # (N, 1)
        part = _range(parts, self.texts * heads * self.length, self.rows.device).view(-1, 1)
        return (begins + (part + _range(heads, self.length, self.rows.device)).view(-1)).flatten()  # (N, parts * heads)

    def _begins(self, heads: int) -> Tensor:
        """(N, 1): the position of each packed row within the first part, in its first head."""
        rows = self.rows.int()  # half the bytes of the default
        return (rows + rows // self.length * (self.length * (heads - 1))).view(-1, 1)

    def _bias(self, heads: int, dtype: torch.dtype) -> Tensor:
        padding = (1 - self.mask.to(dtype)) * torch.finfo(dtype).min  # (B, T)
        return padding.repeat_interleave(heads, 0).unsqueeze(1)

    def _window(self, width: int, queries: int, dtype: torch.dtype) -> Tensor:
        far = ~self.near(width)[:queries]
        return torch.zeros(far.shape, dtype=dtype, device=far.device).masked_fill_(far, torch.finfo(dtype).min)[None]

    def near(self, width: int) -> Tensor:
        """(T, T): whether two positions are at most `width` tokens apart."""
        at = torch.arange(self.length, device=self.place.device)
        return (at - at.unsqueeze(1)).abs() <= width

    def _bias_with_positions(self, positions: Tensor) -> Tensor:
        padding = (self.mask == 0)[:, None, None, :]  # (B, 1, 1, T)
        each = positions.expand(self.texts, *positions.shape)  # (B, heads, Q, T)
        return each.masked_fill(padding, torch.finfo(positions.dtype).min).flatten(0, 1)


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

    Below, G = texts * heads. Queries are columns of `mixed` (N, 3H), or given as (B, H), one a text, beside (N, 2H).
    Rotary positions turn queries and keys after they are gathered; the queries of first tokens are at position 0, where
    the angle is 0.
    """

    @staticmethod
    def forward(
        ctx: Any,
        mixed: Tensor,
        queries: Tensor | None,
        packing: Packing,
        heads: int,
        positions: RotaryPositions | None,
    ) -> Tensor:
        parts = 3 if queries is None else 2
        groups, d = packing.texts * heads, mixed.shape[1] // (parts * heads)
        per_head = mixed.view(-1, d).index_select(0, packing.to_heads(parts, heads)).view(parts, groups, -1, d)
        if positions is not None:
            rotate_(per_head[:-1], positions)
        *own_queries, k, v = per_head.unbind()  # (G, T, d)
        q = own_queries[0] if queries is None else queries.reshape(groups, 1, d)  # (G, Q, d)
        out, weights = torch.empty_like(q), None
        for part in packing.parts(groups, q.shape[1]):
            weights = _weights(q[part], k[part], _bias(packing, heads, positions, q, part))  # (G, Q, T)
            torch.bmm(weights, v[part], out=out[part])
        ctx.save_for_backward(per_head, None if queries is None else q, weights if packing.save_weights else None)
        ctx.packing, ctx.heads, ctx.positions = packing, heads, positions
        if queries is not None:
            return out.view(packing.texts, -1)  # (B, H)
        return out.view(-1, d).index_select(0, packing.from_heads(1, heads)).view(packing.size, -1)  # (N, H)

    @staticmethod
    @exact_backward
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        per_head, q, weights = ctx.saved_tensors
        packing, heads, positions = ctx.packing, ctx.heads, ctx.positions
        parts, groups, _, d = per_head.shape
        *own_queries, k, v = per_head.unbind()
        grads = torch.empty_like(per_head)  # (parts, G, T, d)
        *grad_queries, grad_k, grad_v = grads.unbind()
        if q is None:
            q, grad_q = own_queries[0], grad_queries[0]
            grad_out = grad.view(-1, d).index_select(0, packing.to_heads(1, heads)).view(groups, -1, d)
        else:
            grad_q, grad_out = torch.empty_like(q), grad.reshape(groups, 1, d)
        scale = d**-0.5
        for part in packing.parts(groups, q.shape[1]):
            if not packing.save_weights:
                weights = _weights(q[part], k[part], _bias(packing, heads, positions, q, part))
            torch.bmm(weights.transpose(1, 2), grad_out[part], out=grad_v[part])  # (G, T, d)
            grad_weights = torch.bmm(grad_out[part], v[part].transpose(1, 2))  # (G, Q, T)
            scores = softmax_backward(grad_weights, weights)
            for into, left, right in ((grad_q[part], scores, k[part]), (grad_k[part], scores.transpose(1, 2), q[part])):
                torch.baddbmm(into, left, right, beta=0, alpha=scale, out=into)
        if positions is not None:
            rotate_(grads[:-1], positions, back=True)
        mixed = grads.view(-1, d).index_select(0, packing.from_heads(parts, heads)).view(packing.size, -1)
        mixed[packing.tokens :] = 0  # unused rows: no gradient
        return mixed, grad_q.view(packing.texts, -1) if parts == 2 else None, None, None, None


def softmax_backward(grad: Tensor, weights: Tensor) -> Tensor:
    """The gradient of scores (..., T), from that of `weights` = softmax(scores) over the last dimension."""
    if not _has_softmax_backward():
        return (grad - (grad * weights).sum(-1, keepdim=True)) * weights
    return _softmax_backward(grad, weights)


def _softmax_backward(grad: Tensor, weights: Tensor) -> Tensor:
    """The backward pass of torch's own softmax, in one pass over memory."""
    out: Tensor = torch._softmax_backward_data(grad, weights, -1, weights.dtype)
    return out


@cache
def _has_softmax_backward() -> bool:
    """Whether the backward pass of torch's softmax can be called: it has no public name."""
    grad, weights = torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5])
    try:
        return torch.equal(_softmax_backward(grad, weights), torch.tensor([0.25, -0.25]))
    except (AttributeError, RuntimeError, TypeError):
        return False


def _bias(
    packing: Packing, heads: int, positions: RotaryPositions | None, q: Tensor, part: slice
) -> tuple[Tensor, ...]:
    """The bias of some groups' scores, for padding and for the window, if any."""
    window = None if positions is None else positions.window_within(packing.length)
    padding = (packing.bias(heads, q.dtype, first_only=q.shape[1] == 1)[part],) if packing.biased else ()
    return padding if window is None else (*padding, packing.window(window, q.shape[1], q.dtype))


def _weights(q: Tensor, k: Tensor, bias: tuple[Tensor, ...]) -> Tensor:
    """softmax(q kᵀ / sqrt(d) + bias): (G, Q, d) and (G, T, d) -> (G, Q, T)."""
    scale = q.shape[-1] ** -0.5
    first = bias[0] if bias else q.new_zeros(1)
    scores = torch.baddbmm(first, q, k.transpose(1, 2), beta=1 if bias else 0, alpha=scale)
    for more in bias[1:]:
        scores += more
    return softmax(scores)


def softmax(scores: Tensor) -> Tensor:
    """The softmax over the last dimension: (..., T) -> (..., T)."""
    # The CPU's bf16 kernel takes two to three times as long as a softmax in fp32, unless T is a multiple of 32: then an
    # eighth to a quarter less (benchmarks/kernels.py). The bits are the same: that kernel computes in fp32, too.
    if scores.shape[-1] % 32 == 0:
        return torch.softmax(scores, -1)
    wide = scores.float()
    return torch.softmax(wide, -1, out=wide).to(scores.dtype)


def attend_packed(qkv: Tensor, packing: Packing, heads: int, positions: RotaryPositions | None = None) -> Tensor:
    """Every token attends to its text: (N, 3H) queries, keys and values side by side -> (N, H)."""
    out: Tensor = _Attention.apply(qkv, None, packing, heads, positions)  # type: ignore[no-untyped-call]
    return out


def attend_first_packed(
    q: Tensor, kv: Tensor, packing: Packing, heads: int, positions: RotaryPositions | None = None
) -> Tensor:
    """Only each text's first token attends: queries (B, H), keys and values (N, 2H) -> (B, H)."""
    out: Tensor = _Attention.apply(kv, q, packing, heads, positions)  # type: ignore[no-untyped-call]
    return out


def attend_fused(qkv: Tensor, packing: Packing, heads: int, positions: RotaryPositions | None = None) -> Tensor:
    """`attend_packed` by PyTorch's fused kernels, which on a GPU never form the weights.

    On a CPU their backward pass takes 20 times as long as ours.
    """
    q, k, v = _split_heads(packing.unpack(qkv), 3, heads)
    if positions is not None:
        q, k = rotated(q, positions), rotated(k, positions)
    return packing.pack(_fused(q, k, v, packing, positions))


def attend_first_fused(
    q: Tensor, kv: Tensor, packing: Packing, heads: int, positions: RotaryPositions | None = None
) -> Tensor:
    """`attend_first_packed` by PyTorch's fused kernels."""
    k, v = _split_heads(packing.unpack(kv), 2, heads)
    if positions is not None:
        k = rotated(k, positions)
    return _fused(q.view(packing.texts, heads, 1, -1), k, v, packing, positions).squeeze(1)


def _split_heads(mixed: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """(B, T, parts * H) -> each part (B, heads, T, d)."""
    split = mixed.view(*mixed.shape[:2], parts, heads, -1)  # (B, T, parts, heads, d)
    return split.permute(2, 0, 3, 1, 4).unbind(0)


def _fused(q: Tensor, k: Tensor, v: Tensor, packing: Packing, positions: RotaryPositions | None = None) -> Tensor:
    """Queries (B, heads, Q, d), keys and values (B, heads, T, d) -> (B, Q, H)."""
    mask = None if packing.full else packing.mask.bool()[:, None, None, :]  # (B, 1, 1, T)
    window = None if positions is None else positions.window_within(packing.length)
    if packing.position_bias is not None:
        heads, queries = q.shape[1:3]
        mask = packing.bias(heads, q.dtype, first_only=queries == 1).view(packing.texts, heads, queries, -1)
        if window is not None:
            mask = mask + packing.window(window, queries, q.dtype)
    elif window is not None:
        near = packing.near(window)[: q.shape[2]]  # (Q, T)
        # Each token sees itself, padding too: a softmax over nothing is not a number.
        mask = near if mask is None else near & mask | packing.near(0)[: q.shape[2]]
    return scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
