"""MPNet (Song et al. 2020, https://arxiv.org/abs/2004.09297), such as all-mpnet-base-v2: fast and reference."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .bert import fast_limit, load_fast
from .encoder import Config, EncoderFamily, StockHead
from .reference import BertLayers, ReferenceLoader


class MpnetLayers(BertLayers):
    """MPNet: BERT's layers without token types, attention with relative positions that all layers share."""

    def embed(self, module: Any, ids: Tensor, mask: Tensor, types: Tensor | None) -> Tensor:
        hidden: Tensor = module.embeddings(input_ids=ids)
        return hidden

    def shared(self, module: Any, hidden: Tensor, mask: Tensor) -> Any:
        return super().shared(module, hidden, mask), module.encoder.compute_position_bias(hidden)

    def layer(self, module: Any, layer: Any, hidden: Tensor, shared: Any) -> Tensor:
        out: Tensor = layer(hidden, *shared)[0]
        return out

    def first_token(self, layer: Any, hidden: Tensor, shared: Any) -> Tensor:
        attention = layer.attention
        attended = attention.attn(hidden, *shared)[0][:, :1]
        x = attention.LayerNorm(attention.dropout(attended) + hidden[:, :1])
        out: Tensor = layer.output(layer.intermediate(x), x)
        return out


def stock_head(config: Config) -> StockHead:
    """The head of transformers' `MPNetForSequenceClassification`."""
    return StockHead("tanh", "classifier.dense", "classifier.out_proj", ("classifier",), "mpnet")


MPNET = EncoderFamily(ReferenceLoader(MpnetLayers()), stock_head, load_fast, fast_limit)
