"""ModernBERT and its relatives (pre-norm layers) for inference.

Warner et al. 2024, https://arxiv.org/abs/2412.13663. The names of tensors and config fields are transformers'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from ..encoders.modernbert import GELUS, positions_of, unsupported
from ..kernels.gated_gelu import gated_gelu
from ..kernels.inference_attention import attend, attend_first
from ..kernels.prepared_linear import PreparedLinear
from ..kernels.rotary import RotaryPositions, rotary_angles, turn_
from .adapter_updates import Segment, on
from .float_norm import FloatNorm
from .inference_encoder import Config, Dense, InferenceEncoder, Products
from .token_rows import TokenRows

# By the base of their wavelengths: cosines and sines of each row's position, see `PreNormEncoder.positions`.
Angles = dict[float, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class PreNormLayer:
    """One layer: attention and a gated feed-forward, each of normed rows and added to them.

    Attributes:
        attention_norm: None in the lowest layer, which reads normed embeddings.
        rotary: how attention reads positions.
        gelu: how it is computed, `none` or `tanh`, as in `torch.nn.functional.gelu`.
    """

    heads: int
    attention_norm: FloatNorm | None
    qkv: PreparedLinear
    out: PreparedLinear
    norm: FloatNorm
    up: PreparedLinear
    down: PreparedLinear
    rotary: RotaryPositions
    gelu: str

    def __call__(self, x: Tensor, batch: TokenRows, positions: Angles) -> Tensor:
        """(N, H) -> (N, H)."""
        context = attend(self._qkv(x, positions), batch.groups, self.heads, window=self.rotary.window)
        return self._after_attention(context, x)

    def first(self, x: Tensor, batch: TokenRows, positions: Angles) -> Tensor:
        """(N, H) -> (B, H)."""
        context = attend_first(self._qkv(x, positions), batch.groups, self.heads, window=self.rotary.window)
        return self._after_attention(context, x.index_select(0, batch.firsts))

    def adapted(self, rows: Sequence[Segment], after_attention: Sequence[Segment]) -> Self:
        """The layer with adapters on the rows of one batch."""
        return replace(
            self,
            attention_norm=on(self.attention_norm, rows),
            qkv=on(self.qkv, rows),
            out=on(self.out, after_attention),
            norm=self.norm.on(after_attention),
            up=on(self.up, after_attention),
            down=on(self.down, after_attention),
        )

    def _qkv(self, x: Tensor, positions: Angles) -> Tensor:
        """(N, 3H), queries and keys turned."""
        qkv = self.qkv(x if self.attention_norm is None else self.attention_norm(x))
        turn_(qkv.view(len(qkv), 3 * self.heads, -1)[:, : 2 * self.heads], *positions[self.rotary.theta])
        return qkv

    def _after_attention(self, context: Tensor, x: Tensor) -> Tensor:
        """(N, H) twice -> (N, H)."""
        x = self.out(context, x)
        return self.down(gated_gelu(self.up(self.norm(x)), self.gelu), x)


@dataclass(frozen=True)
class PreNormEncoder:
    """An `InferenceEncoder` of pre-norm layers with rotary positions.

    Attributes:
        words: (V, H), the token embeddings.
        norm: of the embeddings; `final_norm`: of the last layer's output.
    """

    hidden_size: int
    max_length: int
    heads: int
    words: Tensor
    norm: FloatNorm
    layers: tuple[PreNormLayer, ...]
    final_norm: FloatNorm
    dtype: torch.dtype

    def embed(self, batch: TokenRows) -> Tensor:
        """(N, H) hidden states before the first layer."""
        return self.norm(F.embedding(batch.ids, self.words).float()).to(self.dtype)

    def positions(self, batch: TokenRows) -> Angles:
        """The rotations of queries and keys, twice (N, 1, d / 2) for each base of wavelengths."""
        return {theta: self._angles(batch, theta) for theta in {layer.rotary.theta for layer in self.layers}}

    def finish(self, x: Tensor) -> Tensor:
        """The last norm."""
        return self.final_norm(x)

    def adapted(self, embedded: Sequence[Segment], finished: Sequence[Segment]) -> Self:
        """The encoder with adapters on what is not in a layer."""
        return replace(self, norm=self.norm.on(embedded), final_norm=self.final_norm.on(finished))

    def _angles(self, batch: TokenRows, theta: float) -> tuple[Tensor, Tensor]:
        """Cosines and sines of each row's position, each (N, 1, d / 2)."""
        longest, width = max(group.length for group in batch.groups), self.hidden_size // self.heads
        cos, sin = rotary_angles(theta, longest, width, self.dtype, batch.ids.device)
        return cos[batch.places].unsqueeze(1), sin[batch.places].unsqueeze(1)


def build_modernbert(
    config: Config, state: Mapping[str, Tensor], products: Products, pooling: str
) -> InferenceEncoder | None:
    """ModernBERT; None for a config that asks for more than these layers."""
    if unsupported(config) is not None:
        return None
    epsilon = float(config.get("norm_eps", 1e-5))

    def dense(name: str) -> Dense:
        return Dense(state[f"{name}.weight"], state.get(f"{name}.bias"), name)

    def norm(name: str) -> FloatNorm:
        bias = state.get(f"{name}.bias")
        return FloatNorm(state[f"{name}.weight"].float(), None if bias is None else bias.float(), epsilon, name)

    layers = tuple(
        PreNormLayer(
            int(config["num_attention_heads"]),
            norm(f"layers.{index}.attn_norm") if index else None,
            products.linear(f"{index}.qkv", dense(f"layers.{index}.attn.Wqkv")),
            products.linear(f"{index}.out", dense(f"layers.{index}.attn.Wo")),
            norm(f"layers.{index}.mlp_norm"),
            products.linear(f"{index}.up", dense(f"layers.{index}.mlp.Wi")),
            products.linear(f"{index}.down", dense(f"layers.{index}.mlp.Wo")),
            rotary,
            GELUS[config.get("hidden_activation", "gelu")],
        )
        for index, rotary in enumerate(positions_of(config))
    )
    return PreNormEncoder(
        hidden_size=int(config["hidden_size"]),
        max_length=int(config["max_position_embeddings"]),
        heads=int(config["num_attention_heads"]),
        words=state["embeddings.tok_embeddings.weight"].to(products.dtype),
        norm=norm("embeddings.norm"),
        layers=layers,
        final_norm=norm("final_norm"),
        dtype=products.dtype,
    )
