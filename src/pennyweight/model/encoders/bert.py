"""BERT and what shares its block: our own forward pass for frozen weights, and the reference encoder.

`FastEncoder` computes post-norm BERT (Devlin et al. 2018, https://arxiv.org/abs/1810.04805) and its relatives: RoBERTa,
XLM-R, DistilRoBERTa, MiniLM, E5, BGE; ELECTRA, whose embeddings may be narrower; DistilBERT, under other names; MPNet,
whose attention has relative positions. Its parameters have transformers' names, read from the budget's description of
the family, so that weights load unchanged and PEFT can inject into the module. It supports no dropout inside the
backbone and no cross attention, and relative positions are frozen.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial, reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...budget.architecture import describe
from ...budget.families import Architecture
from ...errors import BackboneError, DataError
from ..backbone import Backbone
from ..inference.merge import backbone_state
from ..kernels import choose_kernels
from ..kernels.frozen_linear import stacked_weight
from ..kernels.lora_linear import project, project_with_input
from ..kernels.packed_attention import Packing
from ..kernels.prepared_linear import ACTIVATIONS
from ..kernels.relative_positions import relative_position_bias
from .encoder import Config, Encoder, EncoderFamily, EncoderSettings, StockHead
from .gradient_checkpointing import run_layer
from .parameter_tree import load_state, parameter_tree
from .reference import BertLayers, ReferenceLoader

CPU = torch.device("cpu")
POST_NORM = ("bert", "roberta", "xlm-roberta", "electra", "distilbert", "mpnet")  # by transformers' `model_type`


class Block(NamedTuple):
    """The modules of one layer by what they do; those that are adapted are PEFT's."""

    query: Any
    key: Any
    value: Any
    attention_output: Any
    attention_norm: Any
    ffn_input: Any
    ffn_output: Any
    ffn_norm: Any


def unsupported(config: Config) -> str | None:
    """The part of a config.json that `FastEncoder` does not compute as transformers does; None if all is equal."""
    positions = config.get("position_embedding_type")
    if config.get("model_type") not in POST_NORM:
        return f"the architecture {config.get('model_type')}"
    if describe(config).activation not in ACTIVATIONS:
        return f"the activation {describe(config).activation}"
    if positions not in (None, "absolute"):
        return f"{positions} positions"
    if config.get("is_decoder", False) or config.get("add_cross_attention", False):
        return "decoders"
    return None


class FastEncoder:
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
        described = describe(config)
        self.hidden_size, self.num_layers, self.heads = described.hidden, described.layers, described.heads
        self.dtype = dtype
        self.gradient_checkpointing = False
        # RoBERTa and MPNet number positions from one past the padding id, and padding does not advance the count.
        self.padding_id = described.reserved_positions - 1 if described.reserved_positions else None
        self.activation = ACTIVATIONS[described.activation][0]
        self.module: nn.Module = parameter_tree(config, dtype)
        self._stack = described.stack
        self._paths = [path.split(".") for path in _block_paths(described)]
        self._kernels = choose_kernels(device)

    @property
    def max_length(self) -> int:
        """The longest text in tokens that the positions allow."""
        positions = int(self._embeddings.position_embeddings.num_embeddings)
        return positions if self.padding_id is None else positions - self.padding_id - 1

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Copy the weights of transformers' `AutoModel`; its pooler, if any, is left out.

        Raises:
            BackboneError: when a weight is missing or has another shape.
        """
        load_state(self.module, state)
        for block in self._blocks(0, self.num_layers):
            stacked_weight([block.query, block.key, block.value])

    def embed(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """(B, T) token ids and perhaps segments to (B, T, H) hidden states before layer 0.

        Raises:
            DataError: when T is more than the backbone has positions for.
        """
        length = input_ids.shape[1]
        if length > self.max_length:
            raise DataError(
                f"a text of {length} tokens is longer than the backbone's positions",
                expected=f"at most {self.max_length} tokens",
                remedy=f"set max_length to {self.max_length} or less",
            )
        embeddings = self._embeddings
        if self.padding_id is None:
            positions = torch.arange(length, device=input_ids.device)  # (T,)
        else:
            tokens = (input_ids != self.padding_id).long()
            positions = tokens.cumsum(1) * tokens + self.padding_id  # (B, T)
        with torch.autocast(input_ids.device.type, enabled=False):
            x = embeddings.word_embeddings(input_ids).float()  # (B, T, E)
            x = x + embeddings.position_embeddings(positions)
            types = getattr(embeddings, "token_type_embeddings", None)
            if types is not None:
                known = token_type_ids is not None and len(types.weight) > 1
                x = x + (types(token_type_ids) if known else types.weight[0])
            out: Tensor = embeddings.LayerNorm(x).to(self.dtype)
            widen = getattr(self.module, "embeddings_project", None)  # ELECTRA's, where E < H
        return out if widen is None else widen(out)

    def run(self, hidden: Tensor, attention_mask: Tensor, first: int, last: int) -> Tensor:
        """Hidden states (B, T, H) after layers [first, last); zeros at padding positions."""
        with torch.autocast(hidden.device.type, enabled=False):
            packing = self._packing(attention_mask)
            return packing.unpack(self._run(packing.pack(hidden.to(self.dtype)), packing, first, last))

    def pooled(
        self, hidden: Tensor, attention_mask: Tensor, first: int, pooling: str, tokens: int | None = None
    ) -> Tensor:
        """Run the layers from `first` on and pool, `cls` or `mean`: (B, T, H) -> (B, H).

        With `cls` the last layer runs for the first token only, see kernels/first_token_attention.py.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            packing = self._packing(attention_mask, tokens)
            if first >= self.num_layers:
                x = packing.pack(hidden)
                return packing.mean(x) if pooling == "mean" else packing.first_tokens(x)
            x = packing.pack(hidden.to(self.dtype))  # (N, H)
            if pooling == "mean":
                return packing.mean(self._run(x, packing, first, self.num_layers))
            x = self._run(x, packing, first, self.num_layers - 1)
            return self._last(x, packing)

    @property
    def _embeddings(self) -> Any:
        return self.module.embeddings

    def _packing(self, attention_mask: Tensor, tokens: int | None = None) -> Packing:
        table = getattr(getattr(self.module, "encoder", None), "relative_attention_bias", None)
        if table is None:
            return Packing(attention_mask, tokens=tokens)
        return Packing(attention_mask, relative_position_bias(table.weight.detach(), attention_mask.shape[1]), tokens)

    def _blocks(self, first: int, last: int) -> list[Block]:
        """The layers [first, last), looked up in each pass because adapters replace modules."""
        layers: Any = self.module.get_submodule(self._stack)
        return [Block(*(reduce(getattr, path, layer) for path in self._paths)) for layer in layers[first:last]]

    def _run(self, x: Tensor, packing: Packing, first: int, last: int) -> Tensor:
        """Layers [first, last): packed rows (N, H) -> (N, H)."""
        for index, block in enumerate(self._blocks(first, last), first):
            recompute = self.gradient_checkpointing and index < self.num_layers - 1
            x = run_layer(partial(self._one, block, packing), x, recompute)
        return x

    def _one(self, block: Block, packing: Packing, x: Tensor) -> Tensor:
        """One layer: packed rows (N, H) -> (N, H)."""
        qkv, x = project_with_input(x, [block.query, block.key, block.value])  # (N, 3H)
        return self._after_attention(block, self._kernels.attend(qkv, packing, self.heads), x)

    def _last(self, x: Tensor, packing: Packing) -> Tensor:
        """The last layer for the first tokens alone: (N, H) -> (B, H)."""
        (block,) = self._blocks(self.num_layers - 1, self.num_layers)
        q, first = project_with_input(packing.first_tokens(x), [block.query])  # (B, H)
        context = self._kernels.attend_first_token(q, x, [block.key, block.value], packing, self.heads)
        return self._after_attention(block, context, first)

    def _after_attention(self, block: Block, context: Tensor, x: Tensor) -> Tensor:
        """Attention's output and the feed-forward, each added to its input and normed: (N, H) twice -> (N, H)."""
        norm = self._kernels.layer_norm
        x = norm(block.attention_norm, project(context, [block.attention_output], x))
        inner, x = project_with_input(x, [block.ffn_input])  # (N, F)
        return norm(block.ffn_norm, project(self.activation(inner), [block.ffn_output], x))


def _block_paths(described: Architecture) -> tuple[str, ...]:
    """The paths below a layer of the modules of a `Block`, in its order."""
    paths = {matrix.role: matrix.path for matrix in described.matrices}
    attention_norm, ffn_norm = (norm.path for norm in described.norms)
    return Block(**paths, attention_norm=attention_norm, ffn_norm=ffn_norm)


def load_fast(backbone: Backbone, settings: EncoderSettings) -> Encoder:
    """A backbone's weights, as transformers would load them, in a `FastEncoder`.

    Raises:
        BackboneError: when the backbone cannot be loaded or is not supported.
    """
    encoder = FastEncoder(backbone.config, settings.dtype, settings.device)
    encoder.load_weights(backbone_state(backbone))
    return encoder


def fast_limit(config: Config, settings: EncoderSettings) -> str | None:
    """The first part of a config and settings that `FastEncoder` does not support, in words; or None."""
    return unsupported(config) or settings.beyond_fast


def _bert_head(config: Config) -> StockHead:
    return StockHead("tanh", "bert.pooler.dense", "classifier", ("pooler", "classifier"), "bert", pretrained=True)


def _roberta_head(config: Config) -> StockHead:
    return StockHead("tanh", "classifier.dense", "classifier.out_proj", ("classifier",), "roberta")


def _electra_head(config: Config) -> StockHead:
    return StockHead("gelu", "classifier.dense", "classifier.out_proj", ("classifier",), "electra")


BERT = EncoderFamily(ReferenceLoader(BertLayers()), _bert_head, load_fast, fast_limit)
ROBERTA = EncoderFamily(ReferenceLoader(BertLayers()), _roberta_head, load_fast, fast_limit)  # and XLM-R
ELECTRA = EncoderFamily(ReferenceLoader(BertLayers()), _electra_head, load_fast, fast_limit)
