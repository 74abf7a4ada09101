"""Linear layers of an inference encoder in fp32 or bf16."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels.prepared_linear import PreparedLinear, prepare_linear
from .inference_encoder import Dense, FeedForward


@dataclass(frozen=True)
class FloatProducts:
    """`Products` in one floating-point format.

    Attributes:
        dtype: dtype of weights, biases and hidden states.
    """

    dtype: torch.dtype

    def linear(self, name: str, *layers: Dense) -> PreparedLinear:
        """Layers that read the same rows, as one product."""
        return self._prepared(stacked(layers))

    def feed_forward(self, name: str, up: Dense, activation: str, down: Dense) -> FeedForward:
        """Two layers with an activation between."""
        first, second = self._prepared(up, activation), self._prepared(down)

        def run(x: Tensor, addend: Tensor | None) -> Tensor:
            return second(first(x), addend)

        return run

    def _prepared(self, layer: Dense, activation: str | None = None) -> PreparedLinear:
        bias = None if layer.bias is None else layer.bias.to(self.dtype)
        return prepare_linear(layer.weight.to(self.dtype), bias, activation)


def stacked(layers: tuple[Dense, ...]) -> Dense:
    """Layers that read the same rows as one: weights (sum of out, in), biases end to end."""
    if len(layers) == 1:
        return layers[0]
    biases = [layer.bias for layer in layers]
    if all(bias is None for bias in biases):
        return Dense(torch.cat([layer.weight for layer in layers]), None)
    filled = [layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias for layer in layers]
    return Dense(torch.cat([layer.weight for layer in layers]), torch.cat(filled))
