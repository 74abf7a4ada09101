"""Attention where only each text's first token is read, with adapters that are not merged.

As in `FirstTokenAttention`, no token's key or value is computed. What LoRA adds to keys is absorbed into the query with
them, q (K + s B A) = q K + (q s B) A; what it adds to values comes after the weighted sum. Each runs for the texts of
its adapter alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..kernels.inference_attention import FirstTokenAttention, RowGroup
from .adapter_updates import LinearUpdate, LowRank, Segment


@dataclass(frozen=True)
class AdaptedFirstAttention:
    """The frozen attention, and the texts that have adapters.

    Attributes:
        name: name of the product of queries, keys and values, by which adapters know it.
        texts: segments of the batch's texts, whose rows are text numbers.
    """

    frozen: FirstTokenAttention
    name: str
    texts: Sequence[Segment] = ()

    @property
    def possible(self) -> bool:
        """Whether no adapter scales outputs, as DoRA does."""
        changes = (segment.updates.get(self.name) for segment in self.texts)
        return all(part.ratio is None for change in changes if change is not None for part in change.parts)

    def __call__(
        self, first: Tensor, x: Tensor, groups: Sequence[RowGroup], biases: Sequence[Tensor] | None = None
    ) -> Tensor:
        """First tokens (B, H) and all rows (N, H) -> (B, H); `biases` as for `attend`."""
        size, heads = first.shape[1], self.frozen.heads
        scale = (size // heads) ** -0.5
        changes = [
            (segment.rows, _Parts.of(segment.updates[self.name], size))
            for segment in self.texts
            if self.name in segment.updates
        ]
        q = self.frozen.queries(first)
        for texts, change in changes:
            if change.query is not None:
                down, up = change.query
                q[texts].addmm_(F.linear(first[texts], down), up.t(), alpha=scale)
            if change.query_bias is not None:
                q[texts] += change.query_bias * scale
        # The keys' biases add one number to all scores of a query, which changes no softmax.
        absorbed = self.frozen.absorbed(q).contiguous()  # (B, heads, H)
        for texts, change in changes:
            if change.key is not None:
                down, up = change.key
                inner = torch.einsum(
                    "bhd,hdr->bhr", q[texts].view(-1, heads, size // heads), up.view(heads, -1, len(down))
                )
                absorbed[texts] += inner @ down
        weighted = self.frozen.weighted(absorbed, x, groups, biases)
        out = self.frozen.values(weighted)
        for texts, change in changes:
            if change.value is not None:
                down, up = change.value
                inner = F.linear(weighted[texts], down)  # (b, heads, r)
                out[texts] += torch.einsum("bhr,hdr->bhd", inner, up.view(heads, -1, len(down))).flatten(1)
            if change.value_bias is not None:
                out[texts] += change.value_bias
        return out


@dataclass(frozen=True)
class _Parts:
    """An update of queries, keys and values, taken apart: A (r, H) and s B (H, r) of each, and biases (H,)."""

    query: tuple[Tensor, Tensor] | None
    key: tuple[Tensor, Tensor] | None
    value: tuple[Tensor, Tensor] | None
    query_bias: Tensor | None
    value_bias: Tensor | None

    @classmethod
    def of(cls, update: LinearUpdate, size: int) -> _Parts:
        by_start: dict[int, LowRank] = {part.columns.start: part for part in update.parts}

        def matrices(start: int) -> tuple[Tensor, Tensor] | None:
            part = by_start.get(start)
            if part is None:
                return None
            assert update.down is not None
            return update.down[part.ranks], part.up

        query_bias = None if update.bias is None else update.bias[:size]
        value_bias = None if update.bias is None else update.bias[2 * size :]
        return cls(matrices(0), matrices(size), matrices(2 * size), query_bias, value_bias)
