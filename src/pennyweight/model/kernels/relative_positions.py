"""MPNet's relative positions: one number per head for each distance between two tokens, in buckets."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# transformers computes with these, whatever the config says (modeling_mpnet.py, `relative_position_bucket`).
BUCKETS, LONGEST_DISTANCE = 32, 128


def relative_position_bias(table: Tensor, length: int) -> Tensor:
    """The bias of the attention scores, for every text and every layer.

    Args:
        table: (buckets, heads).
        length: T, the tokens of the longest text.

    Returns:
        (heads, T, T): of the query in each row and the key in each column.
    """
    distances = torch.arange(1 - length, length, device=table.device)  # (2T - 1,) of keys from queries
    values = table[_bucket(distances)].t()  # (heads, 2T - 1)
    # Row q reads the distances -q to T - 1 - q, which lie at T - 1 - q to 2T - 2 - q.
    return values.unfold(1, length, 1).flip(1)


def _bucket(distances: Tensor) -> Tensor:
    """Half of the buckets for keys before the query, half for those behind it.

    Each half has a bucket a distance while it is short, then buckets that widen with the logarithm (T5's scheme, Raffel
    et al. 2019, https://arxiv.org/abs/1910.10683, section 2.1).
    """
    half = BUCKETS // 2
    exact = half // 2
    far = distances.abs()
    wide = (far.float() / exact).log() / math.log(LONGEST_DISTANCE / exact) * (half - exact)
    logarithmic = (exact + wide.clamp(min=0).long()).clamp(max=half - 1)
    return torch.where(far < exact, far, logarithmic) + (distances > 0) * half
