"""The protocol of an inference encoder, as the engines use it, and the linear layers it is built from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from ..kernels.prepared_linear import PreparedLinear
from .adapter_updates import Segment
from .token_rows import TokenRows

Config = Mapping[str, Any]
# x (N, in) and perhaps an addend (N, out) -> down(act(up(x))) + addend (N, out).
FeedForward = Callable[[Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Dense:
    """A linear layer: weight (out, in), bias (out,) or None, and what transformers calls it, where that matters."""

    weight: Tensor
    bias: Tensor | None
    name: str = ""


class Products(Protocol):
    """Makes the products of one number format.

    An encoder reads no addend again: its memory may hold the result. Where it is the input, too, that is read before.
    """

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


class EncoderLayer(Protocol):
    """One layer of an inference encoder."""

    def __call__(self, x: Tensor, batch: TokenRows, positions: Any) -> Tensor:
        """(N, H) hidden states -> (N, H); `positions` as `InferenceEncoder.positions` gave them."""
        ...

    def first(self, x: Tensor, batch: TokenRows, positions: Any) -> Tensor:
        """The same for each text's first token alone: (N, H) -> (B, H)."""
        ...

    def adapted(self, rows: Sequence[Segment], after_attention: Sequence[Segment]) -> Self:
        """The layer with adapters on the rows of one batch.

        Args:
            rows: the adapters of the rows that attention reads.
            after_attention: of those behind it; the batch's texts where only first tokens are left.
        """
        ...


class InferenceEncoder(Protocol):
    """An encoder with all weights in place: nothing is trained, nothing is random, nothing is written."""

    @property
    def max_length(self) -> int:
        """The longest text in tokens that it has positions for."""
        ...

    @property
    def layers(self) -> Sequence[EncoderLayer]:
        """Lowest first."""
        ...

    def embed(self, batch: TokenRows) -> Tensor:
        """(N, H) hidden states before the first layer."""
        ...

    def positions(self, batch: TokenRows) -> Any:
        """The position biases or rotations of every layer, computed once per batch."""
        ...

    def finish(self, x: Tensor) -> Tensor:
        """(N, H) hidden states behind the last layer -> those that are pooled."""
        ...

    def adapted(self, embedded: Sequence[Segment], finished: Sequence[Segment]) -> Self:
        """The encoder with adapters on what is not in a layer, for the rows that `embed` and `finish` see."""
        ...


# From config.json, the tensors by transformers' names with the adapter merged, products, and `cls`, `mean` or `both`
# pooling; None if a config asks for what the encoder does not compute.
EncoderBuilder = Callable[[Config, Mapping[str, Tensor], Products, str], InferenceEncoder | None]
