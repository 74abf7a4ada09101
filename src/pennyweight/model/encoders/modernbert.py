"""ModernBERT (Warner et al. 2024, https://arxiv.org/abs/2412.13663): the reference encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .encoder import Config, EncoderFamily, StockHead
from .reference import BertLayers, ReferenceLoader


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


MODERNBERT = EncoderFamily(
    reference=ReferenceLoader(ModernbertLayers(), ("mlp_dropout", "embedding_dropout"), "attention_dropout"),
    stock_head=stock_head,
)
