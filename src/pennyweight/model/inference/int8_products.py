"""Linear layers of an inference encoder in int8, and the measurement of the ranges that they need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...errors import ArtifactError
from ..kernels.int8_linear import ByteRange, Int8Linear
from ..kernels.prepared_linear import ACTIVATIONS, PreparedLinear, prepare_linear
from .inference_encoder import Dense, FeedForward
from .products import stacked

# Of each product by its name: (in,) the largest absolute value of each input channel, and for the layer behind an
# activation (2,) its least and largest input.
Ranges = Mapping[str, Tensor]


@dataclass(frozen=True)
class Int8Products:
    """`Products` in int8, between hidden states in fp32.

    Attributes:
        ranges: as `RangeRecorder` measured them.

    Raises:
        ArtifactError: when layers are made that the ranges do not fit.
    """

    ranges: Ranges
    dtype: torch.dtype = torch.float32

    def linear(self, name: str, *layers: Dense) -> PreparedLinear:
        """Layers that read the same rows, as one product."""
        layer = stacked(layers)
        return Int8Linear(layer.weight, layer.bias, largest=self._range(name, layer.weight.shape[1]))

    def feed_forward(self, name: str, up: Dense, activation: str, down: Dense) -> FeedForward:
        """Two layers with an activation between, whose output is rounded inside the first product."""
        low, high = self._range(f"{name}.inner", 2).tolist()
        inner = ByteRange.between(low, high)
        largest = self._range(name, up.weight.shape[1])
        first = Int8Linear(up.weight, up.bias, largest=largest, target=inner, activation=activation)
        second = Int8Linear(down.weight, down.bias, source=inner)

        def run(x: Tensor, addend: Tensor | None) -> Tensor:
            return second.from_bytes(first(x), addend)

        return run

    def _range(self, name: str, numbers: int) -> Tensor:
        found = self.ranges.get(name)
        if found is None or found.shape != (numbers,):
            raise ArtifactError(
                f"the ranges that int8 rounds by do not fit the model: {name}",
                expected=f"{numbers} numbers",
                received="none" if found is None else f"{found.numel()}",
                remedy="train it again, or use --precision fp32",
            )
        return found


@dataclass(frozen=True)
class RangeRecorder:
    """`Products` in fp32 that keep the ranges of their inputs; for one thread.

    Attributes:
        ranges: filled by each product that is computed.
    """

    ranges: dict[str, Tensor] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32

    def linear(self, name: str, *layers: Dense) -> PreparedLinear:
        """Layers that read the same rows, as one product."""
        layer = stacked(layers)
        product = prepare_linear(layer.weight, layer.bias)

        def run(x: Tensor, addend: Tensor | None = None) -> Tensor:
            self._keep(name, x)
            return product(x, addend)

        return run

    def feed_forward(self, name: str, up: Dense, activation: str, down: Dense) -> FeedForward:
        """Two layers with an activation between."""
        first, second = prepare_linear(up.weight, up.bias), prepare_linear(down.weight, down.bias)

        def run(x: Tensor, addend: Tensor | None) -> Tensor:
            self._keep(name, x)
            inner = ACTIVATIONS[activation][0](first(x))
            known = self.ranges.get(f"{name}.inner", inner.new_zeros(2))
            self.ranges[f"{name}.inner"] = torch.stack([inner.min().minimum(known[0]), inner.max().maximum(known[1])])
            return second(inner, addend)

        return run

    def _keep(self, name: str, x: Tensor) -> None:
        largest = x.abs().amax(0)
        self.ranges[name] = largest.maximum(self.ranges.get(name, largest))
