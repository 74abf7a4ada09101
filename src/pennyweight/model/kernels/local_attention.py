"""Attention in which each token sees only those near it: in blocks, so that work and memory grow with T, not T².

Texts are cut into blocks as long as the window on one side. A block of queries meets the keys of its own block and of
the two beside it, which hold all that its tokens see (Longformer, Beltagy et al. 2020,
https://arxiv.org/abs/2004.05150, section 3.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from . import packed_attention
from .exact_backward import exact_backward
from .packed_attention import Packing, softmax, softmax_backward
from .rotary import RotaryPositions, rotate_


@dataclass(frozen=True)
class Blocks:
    """How texts of T tokens are cut: C blocks of `width` tokens, the last one perhaps padded."""

    length: int
    width: int

    @property
    def count(self) -> int:
        """C."""
        return -(-self.length // self.width)

    def own(self, x: Tensor) -> Tensor:
        """(G, T, d) -> (G * C, W, d): each block."""
        return pad(x, (0, 0, 0, self.count * self.width - self.length)).view(-1, self.width, x.shape[2])

    def whole(self, x: Tensor) -> Tensor:
        """(G * C, W, d) -> (G, T, d), the inverse."""
        return x.view(-1, self.count * self.width, x.shape[2])[:, : self.length]

    def with_neighbours(self, x: Tensor) -> Tensor:
        """(G, T, d) -> (G * C, 3W, d): each block with those beside it, zeros beyond the ends."""
        padded = pad(x, (0, 0, self.width, (self.count + 1) * self.width - self.length)).contiguous()
        groups, rows, d = padded.shape
        strides = (rows * d, self.width * d, d, 1)
        return padded.as_strided((groups, self.count, 3 * self.width, d), strides).reshape(-1, 3 * self.width, d)

    def summed(self, x: Tensor) -> Tensor:
        """(G * C, 3W, d) -> (G, T, d): what the copies of each token hold, summed."""
        d = x.shape[2]
        parts = x.view(-1, self.count, 3, self.width * d)
        out = x.new_zeros(len(parts), self.count + 2, self.width * d)
        for place in range(3):
            out[:, place : place + self.count] += parts[:, :, place]
        return out.view(len(parts), -1, d)[:, self.width : self.width + self.length]

    def bias(self, mask: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
        """(B * heads * C, W, 3W) added to scores: very negative outside of the window and at padding.

        Args:
            mask: (B, T), 1 for tokens.
        """
        real = self.with_neighbours(mask.to(dtype).unsqueeze(2)).view(len(mask), 1, self.count, 1, -1)
        at = torch.arange(3 * self.width, device=mask.device)
        far = (at - at[self.width : 2 * self.width, None]).abs() > self.width  # (W, 3W)
        least = torch.finfo(dtype).min / 4  # two of them are still a number
        bias = (1 - real) * least + far.to(dtype) * least  # (B, 1, C, W, 3W)
        return bias.expand(-1, heads, -1, -1, -1).reshape(-1, self.width, 3 * self.width)


class _LocalAttention(torch.autograd.Function):
    """Saves queries, keys and values; the weights are computed again in the backward pass, as for all long texts."""

    @staticmethod
    def forward(ctx: Any, mixed: Tensor, packing: Packing, heads: int, positions: RotaryPositions) -> Tensor:
        d = mixed.shape[1] // (3 * heads)
        per_head = mixed.view(-1, d).index_select(0, packing.to_heads(3, heads))
        per_head = per_head.view(3, packing.texts * heads, packing.length, d)
        rotate_(per_head[:-1], positions)
        out = torch.empty_like(per_head[0])  # (G, T, d)
        blocks = _blocks(packing, positions)
        for part, mask in _parts(packing, heads, blocks):
            _, _, v, weights = _attended(per_head[:, part], mask, heads, blocks)
            out[part] = blocks.whole(torch.bmm(weights, v))
        ctx.save_for_backward(per_head)
        ctx.packing, ctx.heads, ctx.positions = packing, heads, positions
        return out.view(-1, d).index_select(0, packing.from_heads(1, heads)).view(packing.size, -1)  # (N, H)

    @staticmethod
    @exact_backward
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (per_head,) = ctx.saved_tensors
        packing, heads, positions = ctx.packing, ctx.heads, ctx.positions
        blocks, grads, d = _blocks(packing, positions), torch.empty_like(per_head), per_head.shape[3]
        grad_out = grad.view(-1, d).index_select(0, packing.to_heads(1, heads)).view_as(per_head[0])
        for part, mask in _parts(packing, heads, blocks):
            q, k, v, weights = _attended(per_head[:, part], mask, heads, blocks)
            own = blocks.own(grad_out[part])  # (G * C, W, d)
            scores = softmax_backward(torch.bmm(own, v.transpose(1, 2)), weights).mul_(d**-0.5)
            grads[0, part] = blocks.whole(torch.bmm(scores, k))
            grads[1, part] = blocks.summed(torch.bmm(scores.transpose(1, 2), q))
            grads[2, part] = blocks.summed(torch.bmm(weights.transpose(1, 2), own))
        rotate_(grads[:-1], positions, back=True)
        mixed = grads.view(-1, d).index_select(0, packing.from_heads(3, heads)).view(packing.size, -1)
        mixed[packing.tokens :] = 0  # unused rows: no gradient
        return mixed, None, None, None


def _attended(per_head: Tensor, mask: Tensor, heads: int, blocks: Blocks) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Blocks of queries (G * C, W, d), of keys and values (G * C, 3W, d), and weights (G * C, W, 3W)."""
    q, k, v = blocks.own(per_head[0]), blocks.with_neighbours(per_head[1]), blocks.with_neighbours(per_head[2])
    bias = blocks.bias(mask, heads, q.dtype)
    return q, k, v, softmax(torch.baddbmm(bias, q, k.transpose(1, 2), alpha=q.shape[2] ** -0.5))


def _blocks(packing: Packing, positions: RotaryPositions) -> Blocks:
    assert positions.window is not None
    return Blocks(packing.length, positions.window)


def _parts(packing: Packing, heads: int, blocks: Blocks) -> Iterator[tuple[slice, Tensor]]:
    """Groups that are computed together, with the mask (B, T) of their texts."""
    weights = heads * blocks.count * 3 * blocks.width**2  # of one text
    step = max(1, packed_attention.MOST_WEIGHTS // weights)
    for begin in range(0, packing.texts, step):
        mask = packing.mask[begin : begin + step]
        yield slice(begin * heads, (begin + len(mask)) * heads), mask


def attend_near(qkv: Tensor, packing: Packing, heads: int, positions: RotaryPositions | None = None) -> Tensor:
    """Every token attends to its text, or to what is near it: (N, 3H) queries, keys and values -> (N, H).

    In blocks where texts are longer than three of them and the whole text's weights would not be saved.
    """
    window = None if positions is None else positions.window
    if positions is None or not window or packing.save_weights or packing.length <= 3 * window:
        return packed_attention.attend_packed(qkv, packing, heads, positions)
    out: Tensor = _LocalAttention.apply(qkv, packing, heads, positions)  # type: ignore[no-untyped-call]
    return out
