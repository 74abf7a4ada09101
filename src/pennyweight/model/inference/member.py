"""One of many classifiers over a frozen backbone: its adapter, computed in addition to the backbone, and its head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from .adapter_updates import LinearUpdate


@dataclass(frozen=True)
class AdapterWeights:
    """An adapter laid out for the encoder's products.

    Attributes:
        updates: by the product's name.
        biases: biases of layer norms, by transformers' name: (H,) trained minus frozen.
        first_layer: the lowest layer that it changes, 0 also where it changes the embeddings; the number of layers
            where it changes none.
    """

    updates: Mapping[str, LinearUpdate]
    biases: Mapping[str, Tensor]
    first_layer: int


@dataclass(frozen=True, eq=False)
class Member:
    """One classifier of a `MixedEngine`.

    Attributes:
        head: from (B, H) fp32 to (B, L) logits, in evaluation mode.
        pooling: what the head reads, `cls` or `mean`.
    """

    adapter: AdapterWeights
    head: nn.Module = field(repr=False)
    pooling: str

    @property
    def first_layer(self) -> int:
        """The lowest layer that is its own."""
        return self.adapter.first_layer

    @property
    def nbytes(self) -> int:
        """The memory of its tensors, in bytes."""
        held = [tensor for update in self.adapter.updates.values() for tensor in update.tensors]
        held += [*self.adapter.biases.values(), *self.head.state_dict().values()]
        return sum(tensor.nbytes for tensor in held)
