"""The protocol of an encoder, as the rest of the package uses it, and the description of a family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..backbone import Backbone

Config = Mapping[str, Any]  # the fields of a backbone's config.json


class Encoder(Protocol):
    """A pretrained stack of layers that can be entered and left between two layers.

    It computes in its own number format, inside or outside of autocast, so that training, validation, cached hidden
    states and prediction agree. A forward pass changes nothing in it: several threads may run one at the same time.

    Attributes:
        module: holds every parameter under transformers' names; adapters are injected into it.
        hidden_size: H.
        num_layers: how many layers there are.
        dtype: dtype of the hidden states between layers; stored in it, they lose nothing.
        gradient_checkpointing: whether training keeps only the layers' inputs and computes all but the last layer again
            in the backward pass, where the last layer's activations are read at once.
    """

    module: nn.Module
    hidden_size: int
    num_layers: int
    dtype: torch.dtype
    gradient_checkpointing: bool

    def embed(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """(B, T) token ids to (B, T, H) hidden states before layer 0.

        Segments (B, T) are 0 where none are given, and ignored by architectures that know only one.
        """
        ...

    def run(self, hidden: Tensor, attention_mask: Tensor, first: int, last: int) -> Tensor:
        """Hidden states (B, T, H) after layers [first, last). Values at padding positions are undefined.

        A norm behind the last layer belongs to it: states after all layers are final, and no layers change nothing.
        """
        ...

    def pooled(
        self, hidden: Tensor, attention_mask: Tensor, first: int, pooling: str, tokens: int | None = None
    ) -> Tensor:
        """Run the layers from `first` on and pool, `cls` or `mean`: (B, T, H) -> (B, H).

        When `first` is the number of layers, vectors of any type are pooled as they are.

        Args:
            tokens: how many ones the mask has, where the host knows it and need not ask the mask's device.
        """
        ...


@dataclass(frozen=True)
class EncoderSettings:
    """How an encoder computes.

    Attributes:
        dtype: number format of the products.
        device: where it will compute.
        hidden_dropout: dropout inside the backbone; the checkpoint's own value is never used.
        attention_dropout: dropout on attention weights.
        trained_bias: which biases of the backbone are trained: `none`, `lora_only` or `all`.
        quantization: quantization of the layers' frozen matrices: `none`, `int8` (fast encoders) or `nf4`.
    """

    dtype: torch.dtype
    device: torch.device
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    trained_bias: str = "none"
    quantization: str = "none"

    @property
    def beyond_fast(self) -> str | None:
        """The first of these that no fast encoder supports, in words; or None."""
        if self.hidden_dropout or self.attention_dropout:
            return "dropout inside the backbone"
        return None if self.trained_bias == "none" else f"bias {self.trained_bias}"


@dataclass(frozen=True)
class StockHead:
    """How an architecture's own sequence classifier in transformers ends.

    Attributes:
        activation: between the dense layer and the output, by transformers' name.
        dense: name of the dense layer. For BERT it is the pooler inside the backbone.
        output: name of the output layer.
        modules_to_save: PEFT's `modules_to_save` for the whole head.
        encoder_attribute: the attribute that holds the encoder.
        dense_bias: whether the dense layer has a bias.
        norm: name of a norm after the activation, if there is one.
        norm_eps: the norm's epsilon.
        norm_bias: whether the norm has a bias.
        pooling: what the head reads, `cls` or `mean`.
        pretrained: whether checkpoints hold trained weights of the dense layer, as BERT's pooler.
    """

    activation: str
    dense: str
    output: str
    modules_to_save: tuple[str, ...]
    encoder_attribute: str
    dense_bias: bool = True
    norm: str | None = None
    norm_eps: float = 1e-5
    norm_bias: bool = False
    pooling: str = "cls"
    pretrained: bool = False


Loader = Callable[[Backbone, EncoderSettings], Encoder]


@dataclass(frozen=True)
class EncoderFamily:
    """One family of encoders: how to load it and how its own classifier ends.

    Attributes:
        reference: loads the encoder that every setting works with.
        stock_head: describes the head of the architecture's own classifier; None if there is none.
        fast: loads a faster encoder of the same results; None if there is none.
        fast_limit: what the faster encoder does not support of a config and settings, in words; None if all.
    """

    reference: Loader
    stock_head: Callable[[Config], StockHead] | None = None
    fast: Loader | None = None
    fast_limit: Callable[[Config, EncoderSettings], str | None] = lambda config, settings: None
