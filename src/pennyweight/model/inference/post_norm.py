"""Post-norm layers for inference: BERT, RoBERTa, XLM-R, ELECTRA, DistilBERT and MPNet.

Devlin et al. 2018, https://arxiv.org/abs/1810.04805. The names of tensors are transformers', from the budget's
description of a family.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from ...budget.architecture import describe
from ..kernels.inference_attention import FirstTokenAttention, attend, attend_first
from ..kernels.prepared_linear import ACTIVATIONS, PreparedLinear
from ..kernels.relative_positions import relative_position_bias
from .adapted_first_attention import AdaptedFirstAttention
from .adapter_updates import AdaptedLinear, Segment, on
from .float_norm import FloatNorm
from .inference_encoder import Config, Dense, FeedForward, InferenceEncoder, Products
from .token_rows import TokenRows

# Of each group what is added to its scores, see `PostNormEncoder.positions`; None if nothing is.
Biases = list[Tensor] | None


@dataclass(frozen=True)
class PostNormLayer:
    """One layer: attention and feed-forward, each added to its input and normed.

    Attributes:
        first_attention: for first tokens alone, in the last layer where they may be all that is read; otherwise None.
    """

    heads: int
    qkv: PreparedLinear
    out: PreparedLinear
    attention_norm: FloatNorm
    feed_forward: FeedForward
    norm: FloatNorm
    first_attention: FirstTokenAttention | AdaptedFirstAttention | None = None

    def __call__(self, x: Tensor, batch: TokenRows, positions: Biases) -> Tensor:
        """(N, H) -> (N, H)."""
        return self._after_attention(attend(self.qkv(x), batch.groups, self.heads, biases=positions), x)

    def first(self, x: Tensor, batch: TokenRows, positions: Biases) -> Tensor:
        """(N, H) -> (B, H)."""
        first = x.index_select(0, batch.firsts)
        if self.first_attention is not None:
            context = self.first_attention(first, x, batch.groups, positions)
        else:
            context = attend_first(self.qkv(x), batch.groups, self.heads, biases=positions)
        return self._after_attention(context, first)

    def adapted(self, rows: Sequence[Segment], after_attention: Sequence[Segment]) -> Self:
        """The layer with adapters on the rows of one batch."""
        return replace(
            self,
            qkv=on(self.qkv, rows),
            out=on(self.out, after_attention),
            attention_norm=self.attention_norm.on(after_attention),
            feed_forward=on(self.feed_forward, after_attention),
            norm=self.norm.on(after_attention),
            first_attention=self._first_attention(after_attention),
        )

    def _first_attention(self, texts: Sequence[Segment]) -> AdaptedFirstAttention | None:
        if not isinstance(self.first_attention, FirstTokenAttention) or not isinstance(self.qkv, AdaptedLinear):
            return None
        made = AdaptedFirstAttention(self.first_attention, self.qkv.name, texts)
        return made if made.possible else None

    def _after_attention(self, context: Tensor, x: Tensor) -> Tensor:
        """(N, H) twice -> (N, H)."""
        x = self.attention_norm(self.out(context, x))
        return self.norm(self.feed_forward(x, x))


@dataclass(frozen=True)
class PostNormEncoder:
    """An `InferenceEncoder` of post-norm layers.

    Attributes:
        words: (V, E); `table`: (P, E) positions, the segment 0 added; `segments`: (S, E), what the others add to it.
        padding_id: the id that does not advance the count of positions, where these begin behind it (RoBERTa).
        widen: from E to H, where the embeddings are narrower (ELECTRA).
        relative: (buckets, heads), the table of relative positions that all layers share (MPNet).
    """

    words: Tensor
    table: Tensor
    segments: Tensor | None
    norm: FloatNorm
    padding_id: int | None
    layers: tuple[PostNormLayer, ...]
    widen: PreparedLinear | None
    relative: Tensor | None
    dtype: torch.dtype

    @property
    def max_length(self) -> int:
        """The longest text in tokens that it has positions for."""
        return len(self.table) - (0 if self.padding_id is None else self.padding_id + 1)

    def embed(self, batch: TokenRows) -> Tensor:
        """(N, H) hidden states before the first layer."""
        x = F.embedding(batch.ids, self.words)
        x = x.float() + F.embedding(self._position_ids(batch), self.table)
        if self.segments is not None and batch.types is not None:
            x += F.embedding(batch.types, self.segments)
        x = self.norm(x).to(self.dtype)
        return x if self.widen is None else self.widen(x)

    def positions(self, batch: TokenRows) -> Biases:
        """Of each group what is added to its scores, (1 or texts, heads, T, T): relative positions, -inf at padding."""
        if self.relative is None:
            return None
        biases = [
            relative_position_bias(self.relative, group.length).to(self.dtype).unsqueeze(0) for group in batch.groups
        ]
        return [
            bias if group.mask is None else bias.masked_fill(~group.mask, -torch.inf)
            for bias, group in zip(biases, batch.groups, strict=True)
        ]

    def finish(self, x: Tensor) -> Tensor:
        """The last layer's norm was the last."""
        return x

    def adapted(self, embedded: Sequence[Segment], finished: Sequence[Segment]) -> Self:
        """The encoder with adapters on what is not in a layer."""
        return replace(self, norm=self.norm.on(embedded), widen=on(self.widen, embedded))

    def _position_ids(self, batch: TokenRows) -> Tensor:
        if self.padding_id is None:
            return batch.places
        parts = []
        for group in batch.groups:
            real = (batch.ids[group.rows].view(group.texts, -1) != self.padding_id).long()
            parts.append((real.cumsum(1) * real + self.padding_id).flatten())
        unread = len(batch.ids) - batch.groups[-1].rows.stop
        return torch.cat([*parts, batch.ids.new_zeros(unread)])


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
        return Dense(state[f"{name}.weight"], state.get(f"{name}.bias"), name)

    def norm(name: str) -> FloatNorm:
        return FloatNorm(state[f"{name}.weight"].float(), state[f"{name}.bias"].float(), described.norm_epsilon, name)

    layers = []
    for index in range(described.layers):
        at = f"{described.stack}.{index}"
        of = {role: dense(f"{at}.{path}") for role, path in paths.items()}
        attention = of["query"], of["key"], of["value"]
        attention_norm, last_norm = (norm(f"{at}.{each.path}") for each in described.norms)
        only_first = pooling == "cls" and index == described.layers - 1
        layers.append(
            PostNormLayer(
                described.heads,
                products.linear(f"{index}.qkv", *attention),
                products.linear(f"{index}.out", of["attention_output"]),
                attention_norm,
                products.feed_forward(f"{index}.feed_forward", of["ffn_input"], described.activation, of["ffn_output"]),
                last_norm,
                FirstTokenAttention.of(attention, described.heads, products.dtype) if only_first else None,
            )
        )
    positions, types = state["embeddings.position_embeddings.weight"].float(), None
    if "embeddings.token_type_embeddings.weight" in state:
        types = state["embeddings.token_type_embeddings.weight"].float()
        positions = positions + types[0]
    wider = "embeddings_project.weight" in state
    return PostNormEncoder(
        words=state["embeddings.word_embeddings.weight"].to(products.dtype),
        table=positions,
        segments=types - types[0] if types is not None and len(types) > 1 else None,
        norm=norm("embeddings.LayerNorm"),
        padding_id=described.reserved_positions - 1 if described.reserved_positions else None,
        layers=tuple(layers),
        widen=products.linear("widen", dense("embeddings_project")) if wider else None,
        relative=state.get("encoder.relative_attention_bias.weight"),
        dtype=products.dtype,
    )
