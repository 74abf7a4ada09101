"""What the engine asks of an inference encoder, and the linear layers it is given to build one of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..kernels.prepared_linear import PreparedLinear
from .token_rows import TokenRows

Config = Mapping[str, Any]
# x (N, in) and perhaps an addend (N, out) -> down(act(up(x))) + addend (N, out).
FeedForward = Callable[[Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Dense:
    """A linear layer: weight (out, in), bias (out,) or None."""

    weight: Tensor
    bias: Tensor | None


class Products(Protocol):
    """Makes the products of one number format."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the hidden states between products."""
        ...

    def linear(self, name: str, *layers: Dense) -> PreparedLinear:
        """Layers that read the same rows, as one product; `name` is the same for a place in every model of a family."""
        ...

    def feed_forward(self, name: str, up: Dense, activation: str, down: Dense) -> FeedForward:
        """Two layers with an activation between."""
        ...


class InferenceEncoder(Protocol):
    """An encoder with all weights in place: nothing is trained, nothing is random, nothing is written."""

    @property
    def max_length(self) -> int:
        """The longest text in tokens that it has positions for."""
        ...

    def pooled(self, batch: TokenRows) -> Tensor:
        """(B, H) fp32 of B texts, pooled as it was built for; with `cls` the last layer runs for first tokens alone.

        With `both`, (B, 2H): the first token's vector, then the mean.
        """
        ...


# From config.json, the tensors by transformers' names with the adapter merged, products, and `cls`, `mean` or `both`
# pooling; None where a config asks for what the encoder does not compute.
EncoderBuilder = Callable[[Config, Mapping[str, Tensor], Products, str], InferenceEncoder | None]
