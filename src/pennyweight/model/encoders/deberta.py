"""DeBERTa-v2 and v3 (He et al. 2021, https://arxiv.org/abs/2111.09543): the reference encoder."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .encoder import Config, EncoderFamily, StockHead
from .reference import BertLayers, ReferenceLoader


class DebertaLayers(BertLayers):
    """DeBERTa-v2 and v3: attention over relative positions, and perhaps a convolution parallel to the lowest layer."""

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
        return self.after_attention(layer, layer.attention.self(hidden, attention_mask, **positions)[0], hidden)

    def has_first_token(self, module: Any, index: int) -> bool:
        return index > 0 or module.encoder.conv is None  # the convolution reads all of the lowest layer's output


def stock_head(config: Config) -> StockHead:
    """The head of transformers' `DebertaV2ForSequenceClassification`."""
    return StockHead(
        activation=config.get("pooler_hidden_act", "gelu"),
        dense="pooler.dense",
        output="classifier",
        modules_to_save=("pooler", "classifier"),
        encoder_attribute="deberta",
    )


DEBERTA = EncoderFamily(reference=ReferenceLoader(DebertaLayers()), stock_head=stock_head)
