"""Post-norm layers for inference: BERT, RoBERTa, XLM-R, ELECTRA, DistilBERT and MPNet.

Devlin et al. 2018, https://arxiv.org/abs/1810.04805. The names of tensors are transformers', from the budget's
description of a family.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...budget.architecture import describe
from ..kernels.inference_attention import FirstTokenAttention, attend
from ..kernels.prepared_linear import ACTIVATIONS, PreparedLinear
from ..kernels.relative_positions import relative_position_bias
from .inference_encoder import Config, Dense, FeedForward, InferenceEncoder, Products
from .token_rows import Group, TokenRows


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
        words: (V, E); `positions`: (P, E), the segment 0 added; `segments`: (S, E), what the others add to it.
        padding_id: the id that does not advance the count of positions, where these begin behind it (RoBERTa).
        layers: all of them.
        last: the last layer's attention where only first tokens are read, with `cls` pooling; else None.
        both: whether each text's first vector stands before its mean.
        widen: from E to H, where the embeddings are narrower (ELECTRA).
        relative: (buckets, heads), the table of relative positions that all layers share (MPNet).
    """

    heads: int
    words: Tensor
    positions: Tensor
    segments: Tensor | None
    norm: FloatNorm
    padding_id: int | None
    layers: tuple[Layer, ...]
    last: FirstTokenAttention | None
    both: bool
    widen: PreparedLinear | None
    relative: Tensor | None
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
        x = self.norm(x).to(self.dtype)
        return x if self.widen is None else self.widen(x)

    def pooled(self, batch: TokenRows) -> Tensor:
        """(B, H) fp32 of B texts; (B, 2H) with `both`."""
        x, biases = self.embed(batch), self._biases(batch.groups)
        for layer in self.layers[:-1]:
            x = layer.after_attention(attend(layer.qkv(x), batch.groups, self.heads, biases=biases), x)
        layer = self.layers[-1]
        if self.last is None:
            x = layer.after_attention(attend(layer.qkv(x), batch.groups, self.heads, biases=biases), x)
            return first_and_mean(x, batch) if self.both else mean(x, batch)
        first = x.index_select(0, batch.firsts)
        return layer.after_attention(self.last(first, x, batch.groups, biases), first).float()

    def _biases(self, groups: Sequence[Group]) -> list[Tensor] | None:
        """Of each group what is added to its scores, (1 or texts, heads, T, T): relative positions, -inf at padding."""
        if self.relative is None:
            return None
        biases = [relative_position_bias(self.relative, group.length).to(self.dtype).unsqueeze(0) for group in groups]
        return [
            bias if group.mask is None else bias.masked_fill(~group.mask, -torch.inf)
            for bias, group in zip(biases, groups, strict=True)
        ]

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


def first_and_mean(x: Tensor, batch: TokenRows) -> Tensor:
    """(N, H) -> (B, 2H) in fp32: each text's first row, then its mean."""
    return torch.cat([x.index_select(0, batch.firsts).float(), mean(x, batch)], 1)


def build_post_norm(
    config: Config, state: Mapping[str, Tensor], products: Products, pooling: str
) -> InferenceEncoder | None:
    """Any of the families; None for a config that asks for more than these layers."""
    described = describe(config)
    if (
        described.activation not in ACTIVATIONS
        or config.get("position_embedding_type") not in (None, "absolute")
        or config.get("is_decoder", False)
        or config.get("add_cross_attention", False)
    ):
        return None
    paths = {matrix.role: matrix.path for matrix in described.matrices}

    def dense(name: str) -> Dense:
        return Dense(state[f"{name}.weight"], state.get(f"{name}.bias"))

    def norm(name: str) -> FloatNorm:
        return FloatNorm(state[f"{name}.weight"].float(), state[f"{name}.bias"].float(), described.norm_epsilon)

    layers = []
    for index in range(described.layers):
        at = f"{described.stack}.{index}"
        of = {role: dense(f"{at}.{path}") for role, path in paths.items()}
        attention = of["query"], of["key"], of["value"]
        attention_norm, last_norm = (norm(f"{at}.{each.path}") for each in described.norms)
        layers.append(
            Layer(
                products.linear(f"{index}.qkv", *attention),
                products.linear(f"{index}.out", of["attention_output"]),
                attention_norm,
                products.feed_forward(f"{index}.feed_forward", of["ffn_input"], described.activation, of["ffn_output"]),
                last_norm,
            )
        )
    positions, types = state["embeddings.position_embeddings.weight"].float(), None
    if "embeddings.token_type_embeddings.weight" in state:
        types = state["embeddings.token_type_embeddings.weight"].float()
        positions = positions + types[0]
    wider = "embeddings_project.weight" in state
    return PostNormEncoder(
        heads=described.heads,
        words=state["embeddings.word_embeddings.weight"].to(products.dtype),
        positions=positions,
        segments=types - types[0] if types is not None and len(types) > 1 else None,
        norm=norm("embeddings.LayerNorm"),
        padding_id=described.reserved_positions - 1 if described.reserved_positions else None,
        layers=tuple(layers),
        last=FirstTokenAttention.of(attention, described.heads, products.dtype) if pooling == "cls" else None,
        both=pooling == "both",
        widen=products.linear("widen", dense("embeddings_project")) if wider else None,
        relative=state.get("encoder.relative_attention_bias.weight"),
        dtype=products.dtype,
    )
