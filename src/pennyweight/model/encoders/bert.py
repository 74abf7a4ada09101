"""The BERT family: our own forward pass for frozen weights, and the reference encoder.

`FastEncoder` computes post-norm BERT (Devlin et al. 2018, https://arxiv.org/abs/1810.04805), RoBERTa, XLM-R and what
shares their architecture: DistilRoBERTa, MiniLM, E5, BGE. Its parameters have transformers' names, so that weights load
unchanged and PEFT can inject into the module. It supports no dropout inside the backbone, no relative positions and no
cross attention.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from ...errors import BackboneError, DataError
from ..backbone import Backbone, load_module
from ..kernels import choose_kernels
from ..kernels.frozen_linear import Linear, stacked_weight
from ..kernels.lora_linear import project, project_with_input
from ..kernels.packed_attention import Packing
from .encoder import Config, Encoder, EncoderFamily, EncoderSettings, StockHead
from .reference import BertLayers, ReferenceLoader

CPU = torch.device("cpu")
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_python": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_fast": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
}


def unsupported(config: Config) -> str | None:
    """What of a config.json of the BERT family `FastEncoder` does not compute as transformers does; None if nothing."""
    activation, positions = config.get("hidden_act", "gelu"), config.get("position_embedding_type")
    if config.get("model_type") not in ("bert", "roberta", "xlm-roberta"):
        return f"the architecture {config.get('model_type')}"
    if activation not in ACTIVATIONS:
        return f"the activation {activation}"
    if positions not in (None, "absolute"):
        return f"{positions} positions"
    if config.get("is_decoder", False) or config.get("add_cross_attention", False):
        return "decoders"
    if config["hidden_size"] % config["num_attention_heads"] != 0:
        return "a hidden_size that the attention heads do not divide"
    return None


class FastEncoder:
    """An `Encoder` that computes no padding and only what the head reads.

    Args:
        config: the backbone's config.json.
        dtype: of the frozen matrices, the products and the hidden states; biases and norms are kept in fp32.
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
        # RoBERTa numbers positions from one past the padding id, and padding itself does not advance the count.
        self.padding_id = int(config.get("pad_token_id") or 0) if config["model_type"] != "bert" else None
        self.activation = ACTIVATIONS[config.get("hidden_act", "gelu")]
        self.module: nn.Module = _tree(config, dtype)
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
        with torch.no_grad():
            for name, parameter in self.module.named_parameters():
                if name not in state or state[name].shape != parameter.shape:
                    received = f"shape {tuple(state[name].shape)}" if name in state else "nothing"
                    raise BackboneError(
                        "the weights do not fit the config",
                        where=name,
                        expected=f"shape {tuple(parameter.shape)}",
                        received=received,
                    )
                parameter.copy_(state[name])
        for layer in self._layers:
            attention = layer.attention.self
            stacked_weight([attention.query, attention.key, attention.value])

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
            x = embeddings.word_embeddings(input_ids).float()  # (B, T, H)
            types = embeddings.token_type_embeddings
            segments = types.weight[0] if token_type_ids is None or len(types.weight) < 2 else types(token_type_ids)
            x = x + embeddings.position_embeddings(positions) + segments
            out: Tensor = embeddings.LayerNorm(x).to(self.dtype)
        return out

    def run(self, hidden: Tensor, attention_mask: Tensor, first: int, last: int) -> Tensor:
        """Hidden states (B, T, H) after layers [first, last); zeros at padding positions."""
        with torch.autocast(hidden.device.type, enabled=False):
            packing = Packing(attention_mask)
            return packing.unpack(self._run(packing.pack(hidden.to(self.dtype)), packing, first, last))

    def pooled(self, hidden: Tensor, attention_mask: Tensor, first: int, pooling: str) -> Tensor:
        """Run the layers from `first` on and pool, `cls` or `mean`: (B, T, H) -> (B, H).

        With `cls` the last layer runs for the first token only, see kernels/first_token_attention.py.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            packing = Packing(attention_mask)
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

    @property
    def _layers(self) -> Any:
        encoder: Any = self.module.encoder
        return encoder.layer

    def _run(self, x: Tensor, packing: Packing, first: int, last: int) -> Tensor:
        """Layers [first, last): packed rows (N, H) -> (N, H)."""
        for layer in self._layers[first:last]:
            attention = layer.attention.self
            qkv, x = project_with_input(x, [attention.query, attention.key, attention.value])  # (N, 3H)
            x = self._after_attention(layer, self._kernels.attend(qkv, packing, self.heads), x)  # (N, H)
        return x

    def _last(self, x: Tensor, packing: Packing) -> Tensor:
        """The last layer for the first tokens alone: (N, H) -> (B, H)."""
        layer = self._layers[self.num_layers - 1]
        attention = layer.attention.self
        q, first = project_with_input(packing.first_tokens(x), [attention.query])  # (B, H)
        context = self._kernels.attend_first_token(q, x, [attention.key, attention.value], packing, self.heads)
        return self._after_attention(layer, context, first)

    def _after_attention(self, layer: Any, context: Tensor, x: Tensor) -> Tensor:
        """Attention's output and the feed-forward, each added to its input and normed: (N, H) twice -> (N, H)."""
        output, norm = layer.attention.output, self._kernels.layer_norm
        x = norm(output.LayerNorm, project(context, [output.dense], x))
        inner, x = project_with_input(x, [layer.intermediate.dense])  # (N, F)
        return norm(layer.output.LayerNorm, project(self.activation(inner), [layer.output.dense], x))


def _tree(config: Config, dtype: torch.dtype) -> nn.Module:
    """Modules that only hold parameters, under transformers' names; values are set by `load_weights`."""
    hidden, inner = int(config["hidden_size"]), int(config["intermediate_size"])

    def linear(inputs: int, outputs: int) -> nn.Module:
        made: nn.Module = skip_init(Linear, inputs, outputs)
        made.weight = nn.Parameter(torch.empty(outputs, inputs, dtype=dtype))
        return made

    def table(rows: int, kind: torch.dtype = torch.float32) -> nn.Module:
        made: nn.Module = skip_init(nn.Embedding, rows, hidden, dtype=kind)
        return made

    def norm() -> nn.Module:
        return nn.LayerNorm(hidden, eps=float(config.get("layer_norm_eps", 1e-12)))

    def layer() -> nn.Module:
        attention = {name: linear(hidden, hidden) for name in ("query", "key", "value")}
        return _node(
            attention=_node(self=_node(**attention), output=_node(dense=linear(hidden, hidden), LayerNorm=norm())),
            intermediate=_node(dense=linear(hidden, inner)),
            output=_node(dense=linear(inner, hidden), LayerNorm=norm()),
        )

    embeddings = _node(
        word_embeddings=table(int(config["vocab_size"]), dtype),
        position_embeddings=table(int(config["max_position_embeddings"])),
        token_type_embeddings=table(int(config.get("type_vocab_size", 2))),
        LayerNorm=norm(),
    )
    layers = nn.ModuleList(layer() for _ in range(int(config["num_hidden_layers"])))
    return _node(embeddings=embeddings, encoder=_node(layer=layers)).requires_grad_(False)


def _node(**children: nn.Module) -> nn.Module:
    node = nn.Module()
    for name, child in children.items():
        node.add_module(name, child)
    return node


def load_fast(backbone: Backbone, settings: EncoderSettings) -> Encoder:
    """A backbone's weights, as transformers loads them, in a `FastEncoder`.

    Raises:
        BackboneError: when the backbone cannot be loaded or is not supported.
    """
    encoder = FastEncoder(backbone.config, settings.dtype, settings.device)
    encoder.load_weights(load_module(backbone).state_dict())
    return encoder


def fast_limit(config: Config, settings: EncoderSettings) -> str | None:
    """What `FastEncoder` does not support of a config and settings, in words; None if nothing."""
    limit = unsupported(config)
    if limit is None and (settings.hidden_dropout or settings.attention_dropout):
        return "dropout inside the backbone"
    if limit is None and settings.trained_bias != "none":
        return f"bias {settings.trained_bias}"
    return limit


def _bert_head(config: Config) -> StockHead:
    return StockHead("tanh", "bert.pooler.dense", "classifier", ("pooler", "classifier"), "bert", pretrained=True)


def _roberta_head(config: Config) -> StockHead:
    return StockHead("tanh", "classifier.dense", "classifier.out_proj", ("classifier",), "roberta")


def _electra_head(config: Config) -> StockHead:
    return StockHead("gelu", "classifier.dense", "classifier.out_proj", ("classifier",), "electra")


BERT = EncoderFamily(ReferenceLoader(BertLayers()), _bert_head, load_fast, fast_limit)
ROBERTA = EncoderFamily(ReferenceLoader(BertLayers()), _roberta_head, load_fast, fast_limit)  # and XLM-R
ELECTRA = EncoderFamily(ReferenceLoader(BertLayers()), _electra_head)
