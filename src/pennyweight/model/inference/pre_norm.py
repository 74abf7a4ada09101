"""ModernBERT and its relatives (pre-norm layers) for inference.

Warner et al. 2024, https://arxiv.org/abs/2412.13663. The names of tensors and config fields are transformers'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..encoders.modernbert import GELUS, positions_of, unsupported
from ..kernels.gated_gelu import gated_gelu
from ..kernels.inference_attention import attend, attend_first
from ..kernels.prepared_linear import PreparedLinear
from ..kernels.rotary import RotaryPositions, rotary_angles, turn_
from .inference_encoder import Config, Dense, InferenceEncoder, Products
from .post_norm import FloatNorm, first_and_mean, mean
from .token_rows import TokenRows


@dataclass(frozen=True)
class PreNormLayer:
    """One layer: attention and a gated feed-forward, each of normed rows and added to them.

    Attributes:
        attention_norm: None in the lowest layer, which reads normed embeddings.
        positions: how attention reads positions.
    """

    attention_norm: FloatNorm | None
    qkv: PreparedLinear
    out: PreparedLinear
    norm: FloatNorm
    up: PreparedLinear
    down: PreparedLinear
    positions: RotaryPositions


@dataclass(frozen=True)
class PreNormEncoder:
    """An `InferenceEncoder` of pre-norm layers with rotary positions.

    Attributes:
        words: (V, H), the token embeddings.
        norm: of the embeddings; `final_norm`: of the last layer's output.
        gelu: how it is computed, `none` or `tanh`, as in `torch.nn.functional.gelu`.
        first_only: whether only first tokens are read; `both`: whether each text's first vector stands before its mean.
    """

    hidden_size: int
    max_length: int
    heads: int
    words: Tensor
    norm: FloatNorm
    layers: tuple[PreNormLayer, ...]
    final_norm: FloatNorm
    gelu: str
    first_only: bool
    both: bool
    dtype: torch.dtype

    def pooled(self, batch: TokenRows) -> Tensor:
        """(B, H) fp32 of B texts; (B, 2H) with `both`."""
        x = self.norm(F.embedding(batch.ids, self.words).float()).to(self.dtype)
        angles = {layer.positions.theta: self._angles(batch, layer.positions.theta) for layer in self.layers}
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            normed = x if layer.attention_norm is None else layer.attention_norm(x)
            qkv = layer.qkv(normed)  # (N, 3H)
            turn_(qkv.view(len(qkv), 3 * self.heads, -1)[:, : 2 * self.heads], *angles[layer.positions.theta])
            if self.first_only and index == last:
                context = attend_first(qkv, batch.groups, self.heads, window=layer.positions.window)  # (B, H)
                x = x.index_select(0, batch.firsts)
            else:
                context = attend(qkv, batch.groups, self.heads, window=layer.positions.window)  # (N, H)
            x = layer.out(context, x)
            x = layer.down(gated_gelu(layer.up(layer.norm(x)), self.gelu), x)
        x = self.final_norm(x)
        if self.both:
            return first_and_mean(x, batch)
        return x.float() if self.first_only else mean(x, batch)

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
        return Dense(state[f"{name}.weight"], state.get(f"{name}.bias"))

    def norm(name: str) -> FloatNorm:
        bias = state.get(f"{name}.bias")
        return FloatNorm(state[f"{name}.weight"].float(), None if bias is None else bias.float(), epsilon)

    layers = tuple(
        PreNormLayer(
            norm(f"layers.{index}.attn_norm") if index else None,
            products.linear(f"{index}.qkv", dense(f"layers.{index}.attn.Wqkv")),
            products.linear(f"{index}.out", dense(f"layers.{index}.attn.Wo")),
            norm(f"layers.{index}.mlp_norm"),
            products.linear(f"{index}.up", dense(f"layers.{index}.mlp.Wi")),
            products.linear(f"{index}.down", dense(f"layers.{index}.mlp.Wo")),
            positions,
        )
        for index, positions in enumerate(positions_of(config))
    )
    return PreNormEncoder(
        hidden_size=int(config["hidden_size"]),
        max_length=int(config["max_position_embeddings"]),
        heads=int(config["num_attention_heads"]),
        words=state["embeddings.tok_embeddings.weight"].to(products.dtype),
        norm=norm("embeddings.norm"),
        layers=layers,
        final_norm=norm("final_norm"),
        gelu=GELUS[config.get("hidden_activation", "gelu")],
        first_only=pooling == "cls",
        both=pooling == "both",
        dtype=products.dtype,
    )
