"""The BERT family (post-norm layers) for inference: BERT, RoBERTa, XLM-R.

Devlin et al. 2018, https://arxiv.org/abs/1810.04805. The names of tensors and config fields are transformers'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..kernels.inference_attention import FirstTokenAttention, attend
from ..kernels.prepared_linear import ACTIVATIONS, PreparedLinear
from .inference_encoder import Config, Dense, FeedForward, InferenceEncoder, Products
from .token_rows import TokenRows


@dataclass(frozen=True)
class FloatNorm:
    """A layer norm in fp32: weight and bias (H,)."""

    weight: Tensor
    bias: Tensor | None
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """(N, H) -> (N, H)."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


@dataclass(frozen=True)
class Layer:
    """One layer: attention and feed-forward, each added to its input and normed."""

    qkv: PreparedLinear
    out: PreparedLinear
    attention_norm: FloatNorm
    feed_forward: FeedForward
    norm: FloatNorm

    def after_attention(self, context: Tensor, x: Tensor) -> Tensor:
        """(N, H) twice -> (N, H)."""
        x = self.attention_norm(self.out(context, x))
        return self.norm(self.feed_forward(x, x))


@dataclass(frozen=True)
class PostNormEncoder:
    """An `InferenceEncoder` of post-norm layers.

    Attributes:
        words: (V, H); `positions`: (P, H), the segment 0 added; `segments`: (S, H), what the others add to it.
        padding_id: the id that does not advance the count of positions, where these begin behind it (RoBERTa).
        layers: all of them.
        last: the last layer's attention where only first tokens are read, with `cls` pooling; else None.
    """

    weights: int
    heads: int
    words: Tensor
    positions: Tensor
    segments: Tensor | None
    norm: FloatNorm
    padding_id: int | None
    layers: tuple[Layer, ...]
    last: FirstTokenAttention | None
    dtype: torch.dtype

    @property
    def max_length(self) -> int:
        """The longest text in tokens that it has positions for."""
        return len(self.positions) - (0 if self.padding_id is None else self.padding_id + 1)

    def embed(self, batch: TokenRows) -> Tensor:
        """(N, H) hidden states before the first layer."""
        x = F.embedding(batch.ids, self.words)
        x = x.float() + F.embedding(self._position_ids(batch), self.positions)
        if self.segments is not None and batch.types is not None:
            x += F.embedding(batch.types, self.segments)
        return self.norm(x).to(self.dtype)

    def pooled(self, batch: TokenRows) -> Tensor:
        """(B, H) fp32 of B texts."""
        x = self.embed(batch)
        for layer in self.layers[:-1]:
            x = layer.after_attention(attend(layer.qkv(x), batch.groups, self.heads), x)
        layer = self.layers[-1]
        if self.last is None:
            return mean(layer.after_attention(attend(layer.qkv(x), batch.groups, self.heads), x), batch)
        first = x.index_select(0, batch.firsts)
        return layer.after_attention(self.last(first, x, batch.groups), first).float()

    def _position_ids(self, batch: TokenRows) -> Tensor:
        if self.padding_id is None:
            return batch.places
        parts = []
        for group in batch.groups:
            real = (batch.ids[group.rows].view(group.texts, -1) != self.padding_id).long()
            parts.append((real.cumsum(1) * real + self.padding_id).flatten())
        unread = len(batch.ids) - batch.groups[-1].rows.stop
        return torch.cat([*parts, batch.ids.new_zeros(unread)])


def mean(x: Tensor, batch: TokenRows) -> Tensor:
    """(N, H) -> (B, H) in fp32: the mean over each text's tokens."""
    parts = []
    for group in batch.groups:
        rows = x[group.rows].view(group.texts, group.length, -1).float()
        if group.mask is None:
            parts.append(rows.mean(1))
        else:
            real = group.mask[:, 0, 0, :, None]
            parts.append((rows * real).sum(1) / real.sum(1))
    return torch.cat(parts)


def build_bert(
    config: Config, state: Mapping[str, Tensor], products: Products, pooling: str
) -> InferenceEncoder | None:
    """BERT, RoBERTa and XLM-R; None for a config that asks for more than these layers."""
    if (
        config.get("hidden_act", "gelu") not in ACTIVATIONS
        or config.get("position_embedding_type") not in (None, "absolute")
        or config.get("is_decoder", False)
        or config.get("add_cross_attention", False)
    ):
        return None
    epsilon = float(config.get("layer_norm_eps", 1e-12))

    def dense(name: str) -> Dense:
        return Dense(state[f"{name}.weight"], state.get(f"{name}.bias"))

    def norm(name: str) -> FloatNorm:
        return FloatNorm(state[f"{name}.weight"].float(), state[f"{name}.bias"].float(), epsilon)

    layers = []
    for index in range(int(config["num_hidden_layers"])):
        at = f"encoder.layer.{index}"
        attention = [dense(f"{at}.attention.self.{part}") for part in ("query", "key", "value")]
        layers.append(
            Layer(
                products.linear(f"{index}.qkv", *attention),
                products.linear(f"{index}.out", dense(f"{at}.attention.output.dense")),
                norm(f"{at}.attention.output.LayerNorm"),
                products.feed_forward(
                    f"{index}.feed_forward", dense(f"{at}.intermediate.dense"), config.get("hidden_act", "gelu"),
                    dense(f"{at}.output.dense"),
                ),
                norm(f"{at}.output.LayerNorm"),
            )
        )  # fmt: skip
    types = state["embeddings.token_type_embeddings.weight"].float()
    heads = int(config["num_attention_heads"])
    return PostNormEncoder(
        weights=sum(
            tensor.numel() for name, tensor in state.items() if name.startswith("encoder.") and tensor.dim() == 2
        ),
        heads=heads,
        words=state["embeddings.word_embeddings.weight"].to(products.dtype),
        positions=state["embeddings.position_embeddings.weight"].float() + types[0],
        segments=types - types[0] if len(types) > 1 else None,
        norm=norm("embeddings.LayerNorm"),
        padding_id=None if config["model_type"] == "bert" else int(config.get("pad_token_id") or 0),
        layers=tuple(layers),
        last=FirstTokenAttention.of(attention, heads, products.dtype) if pooling == "cls" else None,
        dtype=products.dtype,
    )
