"""What the rest of the house asks of an encoder, whoever computes it."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn


class Encoder(Protocol):
    """A pretrained stack of layers that can be entered and left between two layers.

    It computes in its own number format, inside or outside of autocast, so that training, validation, what is kept of
    frozen layers and prediction agree. A pass changes nothing in it: several threads may run one at once.

    Attributes:
        module: holds every parameter under transformers' names; PEFT injects adapters into it.
        hidden_size: H.
        num_layers: how many layers there are.
        dtype: of the hidden states between layers; kept in it, they lose nothing.
    """

    module: nn.Module
    hidden_size: int
    num_layers: int
    dtype: torch.dtype

    def embed(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """(B, T) token ids to (B, T, H) hidden states before layer 0.

        Segments (B, T) are 0 where none are given, and left alone by architectures that know only one.
        """
        ...

    def run(self, hidden: Tensor, attention_mask: Tensor, first: int, last: int) -> Tensor:
        """Hidden states (B, T, H) after layers [first, last). What stands at padding positions is undefined.

        A norm behind the last layer belongs to it: states after all layers are final, and no layers change nothing.
        """
        ...

    def pooled(self, hidden: Tensor, attention_mask: Tensor, first: int, pooling: str) -> Tensor:
        """Run the layers from `first` on and pool, `cls` or `mean`: (B, T, H) -> (B, H).

        With all layers behind them, vectors of any type are pooled as they are.
        """
        ...
