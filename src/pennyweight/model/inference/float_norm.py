"""Layer norms of an inference encoder, in fp32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from .adapter_updates import Segment


@dataclass(frozen=True)
class FloatNorm:
    """A layer norm in fp32: weight and bias (H,).

    Attributes:
        name: as transformers calls it; adapters may have trained its bias.
        segments: those that did, and their rows.
    """

    weight: Tensor
    bias: Tensor | None
    eps: float
    name: str = ""
    segments: Sequence[Segment] = ()

    def __call__(self, x: Tensor) -> Tensor:
        """(N, H) -> (N, H)."""
        # Not by torch.nn.functional, which takes longer to get here than one text's rows to be normed.
        out = torch.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
        for segment in self.segments:
            out[segment.rows] += segment.biases[self.name]
        return out

    def on(self, segments: Sequence[Segment]) -> Self:
        """The norm for the rows of one batch."""
        own = tuple(each for each in segments if self.name in each.biases)
        return replace(self, segments=own) if own else self
