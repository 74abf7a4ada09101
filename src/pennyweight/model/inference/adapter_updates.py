"""The term that an unmerged adapter adds to the outputs of frozen layers, for some rows of a batch.

LoRA    W x + b + s B A x
DoRA    c (W x) + b + c s B A x, with c = m / ||W + s B A||, the norm of each row

As `merge` computes them, with the products through the rank instead of through a merged matrix, so that rows of many
adapters share the product with W (Sheng et al. 2023, https://arxiv.org/abs/2311.03285, section 5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor
from torch.nn import functional as F

from ..kernels.prepared_linear import PreparedLinear

Part = TypeVar("Part")


@dataclass(frozen=True)
class LowRank:
    """The update of one layer in a product of several.

    Attributes:
        columns: the layer's outputs among the product's.
        ranks: its rows of the product's `LinearUpdate.down`.
        up: (out, r), the scale multiplied in.
        ratio: (out,) DoRA's c - 1; None in plain LoRA.
    """

    columns: slice
    ranks: slice
    up: Tensor
    ratio: Tensor | None = None


@dataclass(frozen=True)
class LinearUpdate:
    """The update of one product by one adapter.

    Attributes:
        down: (sum of r, in), the A of every layer, one below the other; None if only biases change.
        parts: parts of the layers that are adapted.
        bias: (out,) trained minus frozen biases; None if they stay.
    """

    down: Tensor | None
    parts: tuple[LowRank, ...]
    bias: Tensor | None = None

    @property
    def tensors(self) -> list[Tensor]:
        """All that it holds."""
        each = [self.down, self.bias, *(part.up for part in self.parts), *(part.ratio for part in self.parts)]
        return [tensor for tensor in each if tensor is not None]

    def add_(self, out: Tensor, x: Tensor, rows: slice, frozen: tuple[Tensor | None, Tensor | None]) -> None:
        """Change the product's output for some rows, in place.

        Args:
            out: (N, out) W x + b + addend.
            x: (N, in) its input.
            frozen: the product's bias (out,) and its addend (N, out), which DoRA does not scale.
        """
        if self.down is not None:
            inner = F.linear(x[rows], self.down)  # (n, sum of r)
            for part in self.parts:
                own = out[rows, part.columns]
                if part.ratio is not None:
                    _scale_(own, rows, part, frozen)
                own.addmm_(inner[:, part.ranks], part.up.t())
        if self.bias is not None:
            out[rows] += self.bias


@dataclass(frozen=True)
class Segment:
    """Rows of one batch that lie side by side, and the adapter they are computed with.

    Attributes:
        updates: by the name of the product; what is not there stays frozen.
        biases: biases of layer norms, by transformers' name: (H,) trained minus frozen.
    """

    rows: slice
    updates: Mapping[str, LinearUpdate]
    biases: Mapping[str, Tensor]


def on(part: Part, segments: Sequence[Segment]) -> Part:
    """A part of an encoder for the rows of one batch; what no adapter changes is the same in all."""
    bind = getattr(part, "on", None)  # isinstance of a protocol takes 4 microseconds, of which a text has fifty
    return part if bind is None else bind(segments)


@dataclass(frozen=True)
class AdaptedLinear:
    """A frozen product, and the adapters that change its output; a `PreparedLinear`.

    Attributes:
        name: name of the product.
        product: without an activation inside, since what adapters add comes before it.
        bias: (out,) the product's, or None.
    """

    name: str
    product: PreparedLinear
    bias: Tensor | None
    segments: Sequence[Segment] = ()

    def __call__(self, x: Tensor, addend: Tensor | None = None) -> Tensor:
        out = self.product(x, addend)
        for segment in self.segments:
            update = segment.updates.get(self.name)
            if update is not None:
                update.add_(out, x, segment.rows, (self.bias, addend))
        return out

    def on(self, segments: Sequence[Segment]) -> AdaptedLinear:
        """The product for the rows of one batch."""
        return AdaptedLinear(self.name, self.product, self.bias, segments)


def _scale_(own: Tensor, rows: slice, part: LowRank, frozen: tuple[Tensor | None, Tensor | None]) -> None:
    """own (n, out) += (c - 1) W x."""
    bias, addend = frozen
    plain = own if bias is None else own - bias[part.columns]
    if addend is not None:
        plain = plain - addend[rows, part.columns]
    assert part.ratio is not None
    own += plain * part.ratio
