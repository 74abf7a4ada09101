"""From token rows to one vector per text."""

from __future__ import annotations

import torch
from torch import Tensor

from .inference_encoder import InferenceEncoder
from .token_rows import TokenRows


def pooled(encoder: InferenceEncoder, batch: TokenRows, pooling: str) -> Tensor:
    """B texts -> (B, H) fp32.

    Args:
        pooling: `cls`, each text's first vector, for which the last layer runs for first tokens alone; `mean`, over its
            tokens; `both`, (B, 2H), one behind the other.
    """
    x, positions = encoder.embed(batch), encoder.positions(batch)
    for layer in encoder.layers[:-1]:
        x = layer(x, batch, positions)
    if pooling == "cls":
        return encoder.finish(encoder.layers[-1].first(x, batch, positions)).float()
    x = encoder.finish(encoder.layers[-1](x, batch, positions))
    return first_and_mean(x, batch) if pooling == "both" else mean(x, batch)


def mean(x: Tensor, batch: TokenRows) -> Tensor:
    """(N, H) -> (B, H) in fp32: the mean over each text's tokens."""
    parts = []
    for group in batch.groups:
        rows = x[group.rows].view(group.texts, group.length, -1).float()
        if group.mask is None:
            parts.append(rows.mean(1))
        else:
            real = group.mask[:, 0, 0, :, None]
            parts.append((rows * real).sum(1) / real.sum(1))
    return torch.cat(parts)


def first_and_mean(x: Tensor, batch: TokenRows) -> Tensor:
    """(N, H) -> (B, 2H) in fp32: each text's first row, then its mean."""
    return torch.cat([x.index_select(0, batch.firsts).float(), mean(x, batch)], 1)
