"""The reference encoder: transformers' own modules behind the `Encoder` protocol.

Layers and embeddings are transformers' own modules, called one by one, so that the stack can be entered and left
between two layers. What surrounds them in a model's `forward` (masks, relative positions, rotary angles, final norms)
is written in one class a family, of which `BertLayers` is the default. A forward pass changes nothing in a module:
threads may share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..backbone import Backbone, load_module
from .encoder import Encoder, EncoderSettings
from .gradient_checkpointing import run_layer


class BertLayers:
    """How the layers of BERT, RoBERTa, XLM-R and ELECTRA are called; other families override what differs.

    Attributes:
        stack: path of the list of layers inside the model.
    """

    stack = "encoder.layer"

    def embed(self, module: Any, ids: Tensor, mask: Tensor, types: Tensor | None) -> Tensor:
        """(B, T) ids, mask and segments to what the lowest layer reads, (B, T, H)."""
        hidden: Tensor = module.embeddings(input_ids=ids, token_type_ids=types)
        project = getattr(module, "embeddings_project", None)  # ELECTRA's, where the embeddings are narrower
        return hidden if project is None else project(hidden)

    def shared(self, module: Any, hidden: Tensor, mask: Tensor) -> Any:
        """Inputs of all layers except the hidden states (B, T, H), made once per pass: here the attention mask."""
        from transformers.masking_utils import create_bidirectional_mask, create_causal_mask

        make = create_causal_mask if getattr(module.config, "is_decoder", False) else create_bidirectional_mask
        return make(config=module.config, inputs_embeds=hidden, attention_mask=mask, past_key_values=None)

    def layer(self, module: Any, layer: Any, hidden: Tensor, shared: Any) -> Tensor:
        """One whole layer: (B, T, H) -> (B, T, H)."""
        out: Tensor = layer(hidden, shared)
        return out

    def first_token(self, layer: Any, hidden: Tensor, shared: Any) -> Tensor:
        """One layer's output for each text's first token: (B, T, H) -> (B, 1, H).

        It attends to all tokens; what follows attention treats tokens one by one and runs for the first alone.
        """
        return self.after_attention(layer, layer.attention.self(hidden, attention_mask=shared)[0], hidden)

    def has_first_token(self, module: Any, index: int) -> bool:
        """Whether `first_token` gives what the layer of this index gives for the first token."""
        return True

    def finish(self, module: Any, hidden: Tensor) -> Tensor:
        """The operations after the last layer: (B, T, H) -> (B, T, H)."""
        return hidden

    @staticmethod
    def after_attention(layer: Any, attended: Tensor, hidden: Tensor) -> Tensor:
        """A layer's output for the first token, from what attention gives: (B, T, H) twice -> (B, 1, H)."""
        x = layer.attention.output(attended[:, :1], hidden[:, :1])
        out: Tensor = layer.output(layer.intermediate(x), x)
        return out


class ReferenceEncoder:
    """An `Encoder` made of transformers' own modules.

    Args:
        module: transformers' `AutoModel`, in fp32.
        layers: how the family's layers are called.
        products: number format of the products; in bf16 and fp16 forward passes run under autocast, inside a caller's
            autocast or not.
    """

    # Autocast keeps sums and norms of all these architectures, and so the states between layers, in fp32.
    dtype = torch.float32

    def __init__(self, module: Any, layers: BertLayers, products: torch.dtype = torch.float32) -> None:
        config = module.config
        self.module: nn.Module = module
        self.hidden_size = int(config.hidden_size)
        self.num_layers = int(config.num_hidden_layers)
        self.products = products
        self.gradient_checkpointing = False
        self._calls = layers
        self._segments = int(getattr(config, "type_vocab_size", 0) or 0) > 1

    def embed(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """(B, T) token ids and perhaps segments to (B, T, H) hidden states before layer 0."""
        with self._autocast(input_ids):
            types = token_type_ids if self._segments else None
            return self._calls.embed(self.module, input_ids, attention_mask, types).to(self.dtype)

    def run(self, hidden: Tensor, attention_mask: Tensor, first: int, last: int) -> Tensor:
        """Hidden states (B, T, H) after layers [first, last); what follows the last layer belongs to it."""
        if first >= last:
            return hidden
        with self._autocast(hidden):
            hidden = hidden.to(self.dtype)
            hidden = self._run(hidden, self._calls.shared(self.module, hidden, attention_mask), first, last)
            return (self._calls.finish(self.module, hidden) if last == self.num_layers else hidden).to(self.dtype)

    def pooled(
        self, hidden: Tensor, attention_mask: Tensor, first: int, pooling: str, tokens: int | None = None
    ) -> Tensor:
        """Run the layers from `first` on and pool: (B, T, H) -> (B, H).

        With `cls` the last layer's feed-forward runs for the first token alone.
        """
        last = self.num_layers - 1
        if pooling != "cls" or first > last or not self._calls.has_first_token(self.module, last):
            return pool(self.run(hidden, attention_mask, first, self.num_layers), attention_mask, pooling)
        with self._autocast(hidden):
            hidden = hidden.to(self.dtype)
            shared = self._calls.shared(self.module, hidden, attention_mask)
            hidden = self._run(hidden, shared, first, last)
            hidden = self._calls.first_token(self._layers[last], hidden, shared)  # (B, 1, H)
            return self._calls.finish(self.module, hidden).to(self.dtype)[:, 0]

    @property
    def _layers(self) -> list[Any]:
        stack: Any = self.module.get_submodule(self._calls.stack)
        return list(stack)

    def _run(self, hidden: Tensor, shared: Any, first: int, last: int) -> Tensor:
        for index, layer in enumerate(self._layers[first:last], first):
            recompute = self.gradient_checkpointing and index < self.num_layers - 1
            hidden = run_layer(partial(self._layer, layer, shared), hidden, recompute)
        return hidden

    def _layer(self, layer: Any, shared: Any, hidden: Tensor) -> Tensor:
        return self._calls.layer(self.module, layer, hidden, shared)

    def _autocast(self, like: Tensor) -> torch.autocast:
        """The one place that sets the number format this encoder computes in, in training as in prediction.

        Autocast's cache stays off: it never holds frozen weights, and all threads share it.
        """
        half = self.products != torch.float32
        return torch.autocast(like.device.type, self.products if half else None, enabled=half, cache_enabled=False)


@dataclass(frozen=True)
class ReferenceLoader:
    """Loads a backbone as transformers' own model behind a `ReferenceEncoder`.

    Attributes:
        layers: how the family's layers are called.
        hidden_dropouts: the fields of config.json that hold dropouts inside the backbone.
        attention_dropout: the field that holds the dropout on attention weights.
    """

    layers: BertLayers
    hidden_dropouts: tuple[str, ...] = ("hidden_dropout_prob",)
    attention_dropout: str = "attention_probs_dropout_prob"

    def __call__(self, backbone: Backbone, settings: EncoderSettings) -> Encoder:
        """The encoder, with the settings' dropouts instead of the checkpoint's.

        Raises:
            BackboneError: when transformers cannot load the backbone.
        """
        dropouts = dict.fromkeys(self.hidden_dropouts, settings.hidden_dropout)
        dropouts[self.attention_dropout] = settings.attention_dropout
        return ReferenceEncoder(load_module(backbone, **dropouts), self.layers, settings.dtype)


def pool(hidden: Tensor, attention_mask: Tensor, pooling: str) -> Tensor:
    """(B, T, H) and its mask (B, T) to one vector per text: the first token's, or the mean over real tokens."""
    if pooling == "cls":
        return hidden[:, 0]
    weights = attention_mask.unsqueeze(-1).to(hidden.dtype)  # (B, T, 1)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
