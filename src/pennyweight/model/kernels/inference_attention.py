"""Attention without gradients over token rows in groups of one length.

A group's rows are read as (texts, heads, length, d) without a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

# Keys that torch's kernel takes in one step: what is left of a text's behind the last whole step costs as much as two
# to four steps (docs/log.md).
STEP = 16


class RowGroup(Protocol):
    """Texts side by side, padded to one length; see `model.inference.token_rows.Group`."""

    @property
    def start(self) -> int: ...
    @property
    def rows(self) -> slice: ...
    @property
    def texts(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def mask(self) -> Tensor | None: ...
    @property
    def apart(self) -> bool: ...


def attend(
    qkv: Tensor,
    groups: Sequence[RowGroup],
    heads: int,
    *,
    biases: Sequence[Tensor] | None = None,
    window: int | None = None,
) -> Tensor:
    """Every token attends to its text: (N, 3H) queries, keys and values side by side -> (N, H).

    Rows of no group are 0, or, behind a last group of one text, some finite numbers.

    Args:
        biases: of each group what is added to its scores, (1 or texts, heads, length, length), -inf at padding.
        window: how many tokens before and after its own a token sees; None if it sees its whole text. Not for use
            with biases.
    """
    (rows, width), outs, end = qkv.shape, [], 0
    for number, group in enumerate(groups):
        if biases is None and (window is None or group.length <= window + 1):
            q, k, v, mask = _whole_steps(qkv, group, heads, last=number == len(groups) - 1)
        else:
            mask = _near(group, window, group.length) if biases is None else biases[number]
            q, k, v = _of_group(qkv, group, heads)
        out = scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (texts, heads, length, d)
        out = out.transpose(1, 2).reshape(-1, width // 3)
        outs.append(out)
        end = group.start + out.shape[0]
    if end < rows:
        outs.append(qkv.new_zeros(rows - end, width // 3))
    return outs[0] if len(outs) == 1 else torch.cat(outs)


def _of_group(qkv: Tensor, group: RowGroup, heads: int) -> tuple[Tensor, ...]:
    """Queries, keys and values of a group, each (texts, heads, length, d)."""
    return qkv[group.rows].view(group.texts, group.length, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def _whole_steps(
    qkv: Tensor, group: RowGroup, heads: int, *, last: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Queries, keys, values (texts, heads, ..., d) and mask of a group whose tokens see their whole texts.

    Keys and values are read in whole steps: behind a text's last the rows that come next are read, too, and masked.
    One text that is the last group and reads to the end of the block has the queries of these rows computed, which
    nobody reads.
    """
    (rows, width), stride = qkv.shape, qkv.stride(0)
    read = -(-group.length // STEP) * STEP
    if group.apart or group.start + (group.texts - 1) * group.length + read > rows:
        read = group.length
    size = width // 3 // heads
    shape = (3, group.texts, heads, read, size)
    strides = (width // 3, group.length * stride, size, stride, 1)
    q, k, v = qkv.as_strided(shape, strides, qkv.storage_offset() + group.start * stride).unbind(0)
    if read == group.length:
        return q, k, v, group.mask
    if not last or group.texts > 1 or group.start + read < rows:
        q = q[:, :, : group.length]
    if group.mask is not None:
        return q, k, v, pad(group.mask, (0, read - group.length))
    return q, k, v, _behind(group.length, read, qkv.dtype)


@lru_cache(maxsize=1024)
def _behind(length: int, read: int, dtype: torch.dtype) -> Tensor:
    """The bias of `read` keys for a text of `length` tokens: 0, and -inf behind its end."""
    scores = torch.zeros(1, 1, 1, read, dtype=dtype)
    scores[..., length:] = -torch.inf
    return scores


def attend_first(
    qkv: Tensor,
    groups: Sequence[RowGroup],
    heads: int,
    *,
    biases: Sequence[Tensor] | None = None,
    window: int | None = None,
) -> Tensor:
    """Only each text's first token attends: (N, 3H) -> (B, H); `biases` and `window` as for `attend`."""
    outs = []
    for number, group in enumerate(groups):
        mask = _near(group, window, 1) if biases is None else biases[number][:, :, :1]
        q, k, v = _of_group(qkv, group, heads)
        out = scaled_dot_product_attention(q[:, :, :1], k, v, attn_mask=mask)
        outs.append(out.flatten(1))  # (texts, H)
    return torch.cat(outs)


def _near(group: RowGroup, window: int | None, queries: int) -> Tensor | None:
    """What the first tokens of each text may see, (texts or 1, 1, 1 or Q, T); None if that is everything."""
    if window is None or group.length <= window + 1:
        return group.mask
    at = torch.arange(group.length)
    distance = (at - at[:queries, None]).abs()  # (Q, T)
    near = (distance <= window)[None, None]
    # Each token sees itself, padding too: a softmax over nothing is not a number.
    return near if group.mask is None else near & group.mask | (distance == 0)


@dataclass(frozen=True)
class FirstTokenAttention:
    """Attention where only each text's first token is read: no token's key or value is computed.

    The keys' matrix is absorbed into the query and the values' matrix comes after the weighted sum, as in
    kernels/first_token_attention.py. The keys' bias adds one number to all scores of a query, which changes no softmax.

    Attributes:
        query: (H, H), bias (H,), both times d^-0.5; key: (heads, d, H); value: (heads, H, d), bias (H,).
    """

    query: Tensor
    query_bias: Tensor | None
    key: Tensor
    value: Tensor
    value_bias: Tensor | None
    heads: int

    @classmethod
    def of(cls, layers: Sequence[LinearTensors], heads: int, dtype: torch.dtype) -> FirstTokenAttention:
        """From the weights (H, H) and biases of the layers that give queries, keys and values."""
        query, key, value = layers
        width = key.weight.shape[0] // heads
        scale = width**-0.5
        return cls(
            (query.weight.float() * scale).to(dtype),
            None if query.bias is None else (query.bias.float() * scale).to(dtype),
            key.weight.to(dtype).view(heads, width, -1).contiguous(),
            value.weight.to(dtype).view(heads, width, -1).transpose(1, 2).contiguous(),
            None if value.bias is None else value.bias.to(dtype),
            heads,
        )

    def __call__(
        self, first: Tensor, x: Tensor, groups: Sequence[RowGroup], biases: Sequence[Tensor] | None = None
    ) -> Tensor:
        """First tokens (B, H) and all rows (N, H) -> (B, H); `biases` as for `attend`."""
        return self.values(self.weighted(self.absorbed(self.queries(first)), x, groups, biases))

    def queries(self, first: Tensor) -> Tensor:
        """(B, H) first tokens -> (B, H), times d^-0.5."""
        return torch.nn.functional.linear(first, self.query, self.query_bias)

    def absorbed(self, queries: Tensor) -> Tensor:
        """(B, H) -> (B, heads, H): a token's score is its product with this."""
        q = queries.view(len(queries), self.heads, -1).transpose(0, 1)  # (heads, B, d)
        return torch.bmm(q, self.key).transpose(0, 1)

    def weighted(
        self, absorbed: Tensor, x: Tensor, groups: Sequence[RowGroup], biases: Sequence[Tensor] | None = None
    ) -> Tensor:
        """(B, heads, H) and all rows (N, H) -> (B, heads, H): the rows of each text, weighted by the softmax."""
        sums, begin = [], 0
        for number, group in enumerate(groups):
            rows = x[group.rows].view(group.texts, group.length, -1)
            scores = torch.bmm(absorbed[begin : begin + group.texts], rows.transpose(1, 2)).float()  # (b, heads, T)
            if biases is not None:
                scores += biases[number][:, :, 0]
            elif group.mask is not None:
                scores.masked_fill_(~group.mask[:, 0], -torch.inf)
            sums.append(torch.bmm(torch.softmax(scores, -1).to(x.dtype), rows))  # (b, heads, H)
            begin += group.texts
        return sums[0] if len(sums) == 1 else torch.cat(sums)

    def values(self, weighted: Tensor) -> Tensor:
        """(B, heads, H) -> (B, H)."""
        out = torch.bmm(weighted.transpose(0, 1), self.value).transpose(0, 1).flatten(1)
        return out if self.value_bias is None else out + self.value_bias


class LinearTensors(Protocol):
    """A linear layer's tensors."""

    @property
    def weight(self) -> Tensor: ...
    @property
    def bias(self) -> Tensor | None: ...
