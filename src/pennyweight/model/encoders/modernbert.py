"""ModernBERT (Warner et al. 2024, https://arxiv.org/abs/2412.13663): our own forward pass, and the reference encoder.

`FastModernbert` also computes what shares the architecture: mmBERT, Ettin, gte-modernbert. It supports no dropout
inside the backbone.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...budget.architecture import describe
from ...errors import BackboneError
from ..backbone import Backbone
from ..inference.merge import backbone_state
from ..kernels import choose_kernels
from ..kernels.gated_gelu import gated_gelu
from ..kernels.lora_linear import project, project_columns
from ..kernels.packed_attention import Packing
from ..kernels.rotary import RotaryPositions
from .encoder import Config, Encoder, EncoderFamily, EncoderSettings, StockHead
from .gradient_checkpointing import run_layer
from .parameter_tree import load_state, parameter_tree
from .reference import BertLayers, ReferenceLoader

CPU = torch.device("cpu")
# transformers' names of the activation, and torch's of how the gelu is computed.
GELUS = {
    "gelu": "none",
    "gelu_python": "none",
    "gelu_new": "tanh",
    "gelu_fast": "tanh",
    "gelu_pytorch_tanh": "tanh",
}
# By transformers' name of a kind of layer: the older field of config.json that held its theta, and the default.
THETAS = {"full_attention": ("global_rope_theta", 160_000.0), "sliding_attention": ("local_rope_theta", 10_000.0)}


def unsupported(config: Config) -> str | None:
    """What of a config.json of a ModernBERT `FastModernbert` does not compute as transformers does; None if nothing."""
    activation, heads = config.get("hidden_activation", "gelu"), int(config["num_attention_heads"])
    hidden = int(config["hidden_size"])
    if config.get("model_type") != "modernbert":
        return f"the architecture {config.get('model_type')}"
    if activation not in GELUS:
        return f"the activation {activation}"
    if hidden % (2 * heads) != 0 or config.get("head_dim") not in (None, hidden // heads):
        return "a hidden_size that cannot be divided into pairs of numbers for each attention head"
    if config.get("rope_scaling") is not None:
        return "scaled rotary positions"
    kinds = {str(_rope(config, kind).get("rope_type", "default")) for kind in THETAS}
    return None if kinds == {"default"} else f"rotary positions of type {', '.join(sorted(kinds - {'default'}))}"


def positions_of(config: Config) -> tuple[RotaryPositions, ...]:
    """How each layer's attention reads positions, from the fields of older and of newer configs."""
    architecture = describe(config)
    theta = {kind: float(_rope(config, kind).get("rope_theta") or config.get(field) or default)
             for kind, (field, default) in THETAS.items()}  # fmt: skip
    whole = RotaryPositions(theta["full_attention"])
    # transformers counts a token's neighbours on both sides in the window, halved and rounded down.
    local = RotaryPositions(theta["sliding_attention"], int(config.get("local_attention", 128)) // 2)
    return tuple(whole if layer in architecture.global_layers else local for layer in range(architecture.layers))


def _rope(config: Config, kind: str) -> Mapping[str, Any]:
    """The rotary positions of a kind of layer, as in newer configs."""
    return (config.get("rope_parameters") or {}).get(kind) or {}


class FastModernbert:
    """An `Encoder` that computes no padding and only what the head reads.

    Args:
        config: the backbone's config.json.
        dtype: dtype of the frozen matrices, the products and the hidden states; biases and norms are kept in fp32.
        device: where it will compute.

    Raises:
        BackboneError: when the config is one that it does not support.
    """

    def __init__(self, config: Config, dtype: torch.dtype = torch.float32, device: torch.device = CPU) -> None:
        limit = unsupported(config)
        if limit is not None:
            raise BackboneError(f"the fast encoder does not support {limit}", remedy="use the reference encoder")
        self.hidden_size = int(config["hidden_size"])
        self.num_layers = int(config["num_hidden_layers"])
        self.heads = int(config["num_attention_heads"])
        self.dtype = dtype
        self.gradient_checkpointing = False
        self.gelu = GELUS[config.get("hidden_activation", "gelu")]
        self.module: nn.Module = parameter_tree(config, dtype)
        self._positions = positions_of(config)
        self._kernels = choose_kernels(device)

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Copy the weights of transformers' `AutoModel`.

        Raises:
            BackboneError: when a weight is missing or has another shape.
        """
        load_state(self.module, state)

    def embed(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """(B, T) token ids to (B, T, H) hidden states before layer 0; there are no segments."""
        embeddings: Any = self.module.embeddings
        with torch.autocast(input_ids.device.type, enabled=False):
            out: Tensor = embeddings.norm(embeddings.tok_embeddings(input_ids).float()).to(self.dtype)
        return out

    def run(self, hidden: Tensor, attention_mask: Tensor, first: int, last: int) -> Tensor:
        """Hidden states (B, T, H) after layers [first, last); zeros at padding positions.

        States after all layers are normed, since the final norm belongs to the last.
        """
        if first >= last:
            return hidden
        with torch.autocast(hidden.device.type, enabled=False):
            packing = Packing(attention_mask)
            x = self._run(packing.pack(hidden.to(self.dtype)), packing, first, last)
            return packing.unpack(self._finish(x) if last == self.num_layers else x)

    def pooled(
        self, hidden: Tensor, attention_mask: Tensor, first: int, pooling: str, tokens: int | None = None
    ) -> Tensor:
        """Run the layers from `first` on and pool, `cls` or `mean`: (B, T, H) -> (B, H).

        With `cls` the last layer computes keys and values of all tokens, and all else for the first token only.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            packing = Packing(attention_mask, tokens=tokens)
            if first >= self.num_layers:
                x = packing.pack(hidden)
                return packing.mean(x) if pooling == "mean" else packing.first_tokens(x)
            x = packing.pack(hidden.to(self.dtype))  # (N, H)
            if pooling == "mean":
                return packing.mean(self._finish(self._run(x, packing, first, self.num_layers)))
            x = self._run(x, packing, first, self.num_layers - 1)
            return self._finish(self._last(x, packing))

    def _layer(self, index: int) -> Any:
        """Looked up in each pass, because adapters replace modules."""
        layers: Any = self.module.layers
        return layers[index]

    def _run(self, x: Tensor, packing: Packing, first: int, last: int) -> Tensor:
        """Layers [first, last): packed rows (N, H) -> (N, H)."""
        for index in range(first, last):
            recompute = self.gradient_checkpointing and index < self.num_layers - 1
            x = run_layer(partial(self._one, index, packing), x, recompute)
        return x

    def _one(self, index: int, packing: Packing, x: Tensor) -> Tensor:
        """One layer: packed rows (N, H) -> (N, H)."""
        layer = self._layer(index)
        qkv = project(self._attention_input(index, x), [layer.attn.Wqkv])  # (N, 3H)
        context = self._kernels.attend(qkv, packing, self.heads, self._positions[index])  # (N, H)
        return self._after_attention(layer, context, x)

    def _last(self, x: Tensor, packing: Packing) -> Tensor:
        """The last layer for the first tokens alone: (N, H) -> (B, H)."""
        index, hidden = self.num_layers - 1, self.hidden_size
        layer, normed = self._layer(index), self._attention_input(index, x)
        q = project_columns(packing.first_tokens(normed), layer.attn.Wqkv, slice(0, hidden))  # (B, H)
        kv = project_columns(normed, layer.attn.Wqkv, slice(hidden, 3 * hidden))  # (N, 2H)
        context = self._kernels.attend_first(q, kv, packing, self.heads, self._positions[index])  # (B, H)
        return self._after_attention(layer, context, packing.first_tokens(x))

    def _attention_input(self, index: int, x: Tensor) -> Tensor:
        """The input of a layer's attention, (N, H) -> (N, H): normed; in layer 0 x already is."""
        return x if index == 0 else self._kernels.layer_norm(self._layer(index).attn_norm, x)

    def _after_attention(self, layer: Any, context: Tensor, x: Tensor) -> Tensor:
        """Attention's output and the feed-forward, each added to the states: (N, H) twice -> (N, H)."""
        x = project(context, [layer.attn.Wo], x)
        inner = project(self._kernels.layer_norm(layer.mlp_norm, x), [layer.mlp.Wi])  # (N, 2F)
        return project(gated_gelu(inner, self.gelu), [layer.mlp.Wo], x)

    def _finish(self, x: Tensor) -> Tensor:
        norm: Any = self.module.final_norm
        return self._kernels.layer_norm(norm, x)


class ModernbertLayers(BertLayers):
    """ModernBERT: pre-norm layers, local and global ones, rotary positions, a norm after the last."""

    stack = "layers"

    def embed(self, module: Any, ids: Tensor, mask: Tensor, types: Tensor | None) -> Tensor:
        hidden: Tensor = module.embeddings(input_ids=ids)
        return hidden

    def shared(self, module: Any, hidden: Tensor, mask: Tensor) -> Any:
        from transformers.masking_utils import create_bidirectional_mask, create_bidirectional_sliding_window_mask

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


def stock_head(config: Config) -> StockHead:
    """The head of transformers' `ModernBertForSequenceClassification`."""
    return StockHead(
        activation=config.get("classifier_activation", "gelu"),
        dense="head.dense",
        output="classifier",
        modules_to_save=("head", "classifier"),
        encoder_attribute="model",
        dense_bias=bool(config.get("classifier_bias", False)),
        norm="head.norm",
        norm_eps=config.get("norm_eps", 1e-5),
        norm_bias=bool(config.get("norm_bias", False)),
        pooling=config.get("classifier_pooling", "cls"),
    )


def load_fast(backbone: Backbone, settings: EncoderSettings) -> Encoder:
    """A backbone's weights, as transformers loads them, in a `FastModernbert`.

    Raises:
        BackboneError: when the backbone cannot be loaded or is not supported.
    """
    encoder = FastModernbert(backbone.config, settings.dtype, settings.device)
    encoder.load_weights(backbone_state(backbone))
    return encoder


def fast_limit(config: Config, settings: EncoderSettings) -> str | None:
    """The first part of a config and settings that `FastModernbert` does not support, in words; or None."""
    return unsupported(config) or settings.beyond_fast


MODERNBERT = EncoderFamily(
    ReferenceLoader(ModernbertLayers(), ("mlp_dropout", "embedding_dropout"), "attention_dropout"),
    stock_head,
    load_fast,
    fast_limit,
)
