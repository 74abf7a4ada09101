"""Any supported transformers encoder behind our small Protocol: the reference.

Layers and embeddings are transformers' own modules, called one by one, so that the stack can be entered and left
between two layers. What stands around them in a model's `forward` (masks, relative positions, rotary angles, final
norms) is written out here, one class a family. Nothing of a module is changed by a forward pass: threads may share it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import (
    create_bidirectional_mask,
    create_bidirectional_sliding_window_mask,
    create_causal_mask,
)

from ...errors import BackboneError


class _Bert:
    """BERT, RoBERTa, XLM-R and ELECTRA: one encoder under four names."""

    stack = "encoder.layer"

    def embed(self, module: Any, ids: Tensor, mask: Tensor, types: Tensor | None) -> Tensor:
        """(B, T) to what the lowest layer reads, (B, T, H)."""
        hidden: Tensor = module.embeddings(input_ids=ids, token_type_ids=types)
        project = getattr(module, "embeddings_project", None)  # ELECTRA's, where the embeddings are narrower
        return hidden if project is None else project(hidden)

    def shared(self, module: Any, hidden: Tensor, mask: Tensor) -> Any:
        """What all layers read beside the hidden states, made once a pass: here the attention mask."""
        make = create_causal_mask if getattr(module.config, "is_decoder", False) else create_bidirectional_mask
        return make(config=module.config, inputs_embeds=hidden, attention_mask=mask, past_key_values=None)

    def layer(self, module: Any, layer: Any, hidden: Tensor, shared: Any) -> Tensor:
        """One whole layer: (B, T, H) -> (B, T, H)."""
        out: Tensor = layer(hidden, shared)
        return out

    def first_token(self, layer: Any, hidden: Tensor, shared: Any) -> Tensor:
        """One layer's output for each text's first token: (B, T, H) -> (B, 1, H).

        All tokens are attended to; what follows attention treats tokens one by one, so the others are left out there.
        """
        return self._after_attention(layer, layer.attention.self(hidden, attention_mask=shared)[0], hidden)

    def cuts(self, module: Any, index: int) -> bool:
        """Whether `first_token` can stand for the layer of this number."""
        return True

    def finish(self, module: Any, hidden: Tensor) -> Tensor:
        """What follows the last layer."""
        return hidden

    @staticmethod
    def _after_attention(layer: Any, attended: Tensor, hidden: Tensor) -> Tensor:
        x = layer.attention.output(attended[:, :1], hidden[:, :1])
        out: Tensor = layer.output(layer.intermediate(x), x)
        return out


class _Deberta(_Bert):
    """DeBERTa-v2 and v3: attention over relative positions, and perhaps a convolution beside the lowest layer."""

    def embed(self, module: Any, ids: Tensor, mask: Tensor, types: Tensor | None) -> Tensor:
        hidden: Tensor = module.embeddings(input_ids=ids, token_type_ids=types, mask=mask)
        return hidden

    def shared(self, module: Any, hidden: Tensor, mask: Tensor) -> Any:
        encoder = module.encoder
        positions = {"relative_pos": encoder.get_rel_pos(hidden), "rel_embeddings": encoder.get_rel_embedding()}
        return mask, encoder.get_attention_mask(mask), positions

    def layer(self, module: Any, layer: Any, hidden: Tensor, shared: Any) -> Tensor:
        mask, attention_mask, positions = shared
        out: Tensor = layer(hidden, attention_mask, **positions)[0]
        encoder = module.encoder
        if encoder.conv is not None and layer is encoder.layer[0]:
            out = encoder.conv(hidden, out, mask)
        return out

    def first_token(self, layer: Any, hidden: Tensor, shared: Any) -> Tensor:
        _, attention_mask, positions = shared
        return self._after_attention(layer, layer.attention.self(hidden, attention_mask, **positions)[0], hidden)

    def cuts(self, module: Any, index: int) -> bool:
        return index > 0 or module.encoder.conv is None  # the convolution reads all of the lowest layer's output


class _Distilbert(_Bert):
    """DistilBERT: BERT's layers without token types, under names of its own."""

    stack = "transformer.layer"

    def embed(self, module: Any, ids: Tensor, mask: Tensor, types: Tensor | None) -> Tensor:
        hidden: Tensor = module.embeddings(input_ids=ids)
        return hidden

    def first_token(self, layer: Any, hidden: Tensor, shared: Any) -> Tensor:
        attended = layer.attention(hidden, attention_mask=shared)[0]
        x = layer.sa_layer_norm(attended[:, :1] + hidden[:, :1])
        out: Tensor = layer.output_layer_norm(layer.ffn(x) + x)
        return out


class _Modernbert(_Bert):
    """ModernBERT: pre-norm layers, local and global ones, rotary positions, a norm after the last."""

    stack = "layers"

    def embed(self, module: Any, ids: Tensor, mask: Tensor, types: Tensor | None) -> Tensor:
        hidden: Tensor = module.embeddings(input_ids=ids)
        return hidden

    def shared(self, module: Any, hidden: Tensor, mask: Tensor) -> Any:
        known = {"config": module.config, "inputs_embeds": hidden, "attention_mask": mask}
        masks = {
            "full_attention": create_bidirectional_mask(**known),
            "sliding_attention": create_bidirectional_sliding_window_mask(**known),
        }
        positions = torch.arange(hidden.shape[1], device=hidden.device).unsqueeze(0)  # (1, T)
        return {
            kind: {"attention_mask": masks[kind], "position_embeddings": module.rotary_emb(hidden, positions, kind)}
            for kind in dict.fromkeys(module.config.layer_types)
        }

    def layer(self, module: Any, layer: Any, hidden: Tensor, shared: Any) -> Tensor:
        out: Tensor = layer(hidden, **shared[layer.attention_type])
        return out

    def first_token(self, layer: Any, hidden: Tensor, shared: Any) -> Tensor:
        attended = layer.attn(layer.attn_norm(hidden), **shared[layer.attention_type])[0]
        x = (hidden + attended)[:, :1]
        out: Tensor = x + layer.mlp(layer.mlp_norm(x))
        return out

    def finish(self, module: Any, hidden: Tensor) -> Tensor:
        out: Tensor = module.final_norm(hidden)
        return out


FAMILIES: Mapping[str, _Bert] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "electra"), _Bert()),
    "deberta-v2": _Deberta(),
    "distilbert": _Distilbert(),
    "modernbert": _Modernbert(),
}


class GenericEncoder:
    """An `Encoder` (see protocol.py) made of transformers' own modules.

    Args:
        module: transformers' `AutoModel`, in fp32.
        products: number format of the products; in bf16 and fp16 the passes run under autocast, whoever calls.

    Raises:
        BackboneError: for an architecture that is not supported.
    """

    # Autocast keeps sums and norms of all these architectures, and so the states between layers, in fp32.
    dtype = torch.float32

    def __init__(self, module: Any, products: torch.dtype = torch.float32) -> None:
        config = module.config
        kind = str(config.model_type)
        if kind not in FAMILIES:
            raise BackboneError(f"architecture {kind!r} is not supported", expected=", ".join(FAMILIES))
        self.module: nn.Module = module
        self.hidden_size = int(config.hidden_size)
        self.num_layers = int(config.num_hidden_layers)
        self.products = products
        self._family = FAMILIES[kind]
        self._segments = int(getattr(config, "type_vocab_size", 0) or 0) > 1

    def embed(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """(B, T) token ids and perhaps segments to (B, T, H) hidden states before layer 0."""
        with self._computing(input_ids):
            types = token_type_ids if self._segments else None
            return self._family.embed(self.module, input_ids, attention_mask, types).to(self.dtype)

    def run(self, hidden: Tensor, attention_mask: Tensor, first: int, last: int) -> Tensor:
        """Hidden states (B, T, H) after layers [first, last); what follows the last layer belongs to it."""
        if first >= last:
            return hidden
        with self._computing(hidden):
            hidden = hidden.to(self.dtype)
            hidden = self._run(hidden, self._family.shared(self.module, hidden, attention_mask), first, last)
            return (self._family.finish(self.module, hidden) if last == self.num_layers else hidden).to(self.dtype)

    def pooled(self, hidden: Tensor, attention_mask: Tensor, first: int, pooling: str) -> Tensor:
        """Run the layers from `first` on and pool: (B, T, H) -> (B, H).

        With `cls` the last layer's feed-forward sees the first token alone.
        """
        last = self.num_layers - 1
        if pooling != "cls" or first > last or not self._family.cuts(self.module, last):
            return pool(self.run(hidden, attention_mask, first, self.num_layers), attention_mask, pooling)
        with self._computing(hidden):
            hidden = hidden.to(self.dtype)
            shared = self._family.shared(self.module, hidden, attention_mask)
            hidden = self._run(hidden, shared, first, last)
            hidden = self._family.first_token(self._layers[last], hidden, shared)  # (B, 1, H)
            return self._family.finish(self.module, hidden).to(self.dtype)[:, 0]

    @property
    def _layers(self) -> list[Any]:
        stack: Any = self.module.get_submodule(self._family.stack)
        return list(stack)

    def _run(self, hidden: Tensor, shared: Any, first: int, last: int) -> Tensor:
        for layer in self._layers[first:last]:
            hidden = self._family.layer(self.module, layer, hidden, shared)
        return hidden

    def _computing(self, like: Tensor) -> torch.autocast:
        """The one place that says in which number format this encoder computes, in training as in prediction.

        Frozen weights would not be kept in autocast's cache anyway, and it is one for all threads: it stays off.
        """
        half = self.products != torch.float32
        return torch.autocast(like.device.type, self.products if half else None, enabled=half, cache_enabled=False)


def pool(hidden: Tensor, attention_mask: Tensor, pooling: str) -> Tensor:
    """(B, T, H) and its mask (B, T) to one vector a text: the first token's, or the mean over real tokens."""
    if pooling == "cls":
        return hidden[:, 0]
    weights = attention_mask.unsqueeze(-1).to(hidden.dtype)  # (B, T, 1)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
