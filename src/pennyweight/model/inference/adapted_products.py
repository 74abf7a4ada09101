"""Linear layers of an inference encoder that stay frozen while the rows of a batch have adapters of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..kernels.prepared_linear import activate_, prepare_linear
from .adapter_updates import AdaptedLinear, Segment
from .inference_encoder import Dense
from .products import stacked


@dataclass(frozen=True)
class AdaptedFeedForward:
    """Two products with an activation between; a `FeedForward`."""

    up: AdaptedLinear
    activation: str
    down: AdaptedLinear

    def __call__(self, x: Tensor, addend: Tensor | None = None) -> Tensor:
        return self.down(activate_(self.up(x), self.activation), addend)

    def on(self, segments: Sequence[Segment]) -> AdaptedFeedForward:
        """The products for the rows of one batch."""
        return AdaptedFeedForward(self.up.on(segments), self.activation, self.down.on(segments))


@dataclass(frozen=True)
class AdaptedProducts:
    """`Products` in one floating-point format, for adapters that are not merged.

    Attributes:
        dtype: dtype of weights, biases and hidden states.
        layers: filled as products are made: of each, by its name, its layers as transformers calls them, with their
            columns of its output.
        biases: likewise, of each layer, by transformers' name, its frozen bias in fp32.
    """

    dtype: torch.dtype
    layers: dict[str, dict[str, slice]] = field(default_factory=dict)
    biases: dict[str, Tensor] = field(default_factory=dict)

    def linear(self, name: str, *layers: Dense) -> AdaptedLinear:
        """Layers that read the same rows, as one product."""
        columns, start = {}, 0
        for layer in layers:
            columns[layer.name] = slice(start, start + len(layer.weight))
            start += len(layer.weight)
            if layer.bias is not None:
                self.biases[layer.name] = layer.bias.float()
        self.layers[name] = columns
        whole = stacked(layers)
        bias = None if whole.bias is None else whole.bias.to(self.dtype)
        return AdaptedLinear(name, prepare_linear(whole.weight.to(self.dtype), bias), bias)

    def feed_forward(self, name: str, up: Dense, activation: str, down: Dense) -> AdaptedFeedForward:
        """Two layers with an activation between."""
        return AdaptedFeedForward(self.linear(f"{name}.up", up), activation, self.linear(f"{name}.down", down))
