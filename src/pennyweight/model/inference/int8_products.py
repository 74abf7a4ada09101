"""Linear layers of an inference encoder in int8, and the measurement of the ranges that they need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...errors import ArtifactError
from ..kernels.int8_linear import ByteRange, Int8Linear
from ..kernels.prepared_linear import ACTIVATIONS, PlainLinear, PreparedLinear, prepare_linear
from .inference_encoder import Dense, FeedForward
from .products import stacked

# Of each product by its name: (in,) the largest absolute value of each input channel; for the layer behind an
# activation the least and the largest value of each, (in,) twice.
Ranges = Mapping[str, Tensor]
# Kept beside them, (1,): texts with a smaller margin between their two best classes are computed again in fp32.
MARGIN = "margin"
# Behind an activation a few channels reach ten times as far as the others. So many are computed in fp32, so that they
# do not coarsen the rest, as LLM.int8() does (Dettmers et al. 2022, https://arxiv.org/abs/2208.07339); of narrow layers
# none.
OUTLIERS, NARROW = 32, 512


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
        largest = self._range(name, layer.weight.shape[1])
        return Int8Linear(layer.weight, layer.bias, largest=largest, into_addend=True)

    def feed_forward(self, name: str, up: Dense, activation: str, down: Dense) -> FeedForward:
        """Two layers with an activation between, whose output is rounded inside the first product."""
        width = down.weight.shape[1]
        low, high = self._range(f"{name}.inner_low", width), self._range(f"{name}.inner_high", width)
        reach = high.maximum(-low)
        count = OUTLIERS if len(reach) > NARROW else 0
        kept = reach.argsort(stable=True)[: len(reach) - count].sort().values
        inner = ByteRange.between(float(low[kept].min()), float(high[kept].max()))
        largest = self._range(name, up.weight.shape[1])
        first = Int8Linear(
            up.weight[kept], None if up.bias is None else up.bias[kept], largest=largest, target=inner,
            activation=activation,
        )  # fmt: skip
        second = Int8Linear(down.weight[:, kept], down.bias, source=inner, into_addend=True)
        if not count:
            return lambda x, addend: second.from_bytes(first(x), addend)
        wide = reach.argsort(stable=True)[len(reach) - count :]
        # Products of so few columns cost more to begin than to compute, which torch's own do faster.
        outlying = PlainLinear(up.weight[wide], None if up.bias is None else up.bias[wide], activation)
        back = down.weight[:, wide].t().contiguous()

        def run(x: Tensor, addend: Tensor | None) -> Tensor:
            inner = outlying(x)  # before the addend, which may be x, is used up
            return second.from_bytes(first(x), addend).addmm_(inner, back)

        return run

    def _range(self, name: str, numbers: int) -> Tensor:
        found = self.ranges.get(name)
        if found is None or found.shape != (numbers,):
            raise ArtifactError(
                f"the saved int8 ranges do not fit the model: {name}",
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
            low, high = inner.amin(0), inner.amax(0)
            self.ranges[f"{name}.inner_low"] = low.minimum(self.ranges.get(f"{name}.inner_low", low))
            self.ranges[f"{name}.inner_high"] = high.maximum(self.ranges.get(f"{name}.inner_high", high))
            return second(inner, addend)

        return run

    def _keep(self, name: str, x: Tensor) -> None:
        largest = x.abs().amax(0)
        self.ranges[name] = largest.maximum(self.ranges.get(name, largest))
