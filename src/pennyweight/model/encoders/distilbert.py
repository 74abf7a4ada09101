"""DistilBERT (Sanh et al. 2019, https://arxiv.org/abs/1910.01108): fast and reference."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .bert import fast_limit, load_fast
from .encoder import Config, EncoderFamily, StockHead
from .reference import BertLayers, ReferenceLoader


class DistilbertLayers(BertLayers):
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


def stock_head(config: Config) -> StockHead:
    """The head of transformers' `DistilBertForSequenceClassification`."""
    return StockHead("relu", "pre_classifier", "classifier", ("pre_classifier", "classifier"), "distilbert")


DISTILBERT = EncoderFamily(
    ReferenceLoader(DistilbertLayers(), ("dropout",), "attention_dropout"), stock_head, load_fast, fast_limit
)
