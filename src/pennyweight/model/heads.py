"""Classification heads on one pooled vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..budget.specs import HeadSpec
from .encoders import stock_head_of

# The stock heads' activations; transformers, which knows more, takes a second to import.
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "tanh": nn.Tanh}


class Head(nn.Module):
    """Logits from a pooled vector: (B, H) -> (B, L).

    linear:    out(x)
    full:      out(norm(act(dense(x))))            the architecture's own head
    low_rank:  out(norm(act(up(down(x)))))         its dense layer as a product of rank k

    Dropout is applied before each linear map, as the stock heads do.
    """

    def __init__(
        self,
        kind: str,
        config: dict[str, Any],
        labels: int,
        *,
        rank: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        size = int(config.get("hidden_size", config.get("dim", 0)))
        self.kind = kind
        self.dropout = nn.Dropout(dropout)
        self.down: nn.Linear | None = None
        self.dense: nn.Linear | None = None
        self.norm: nn.LayerNorm | None = None
        self.act: nn.Module = nn.Identity()
        if kind != "linear":
            stock = stock_head_of(config)
            if kind == "low_rank":
                self.down = nn.Linear(size, rank, bias=False)
                self.dense = nn.Linear(rank, size, bias=stock.dense_bias)
            else:
                self.dense = nn.Linear(size, size, bias=stock.dense_bias)
            self.act = _activation(stock.activation)
            if stock.norm:
                self.norm = nn.LayerNorm(size, eps=stock.norm_eps, bias=stock.norm_bias)
        self.out = nn.Linear(size, labels)
        self._initialize(float(config.get("initializer_range", 0.02)))

    def _initialize(self, std: float) -> None:
        for module in self.children():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.down is not None:
            # Two matrices of small values would give almost nothing; rows of unit norm keep the input's size.
            nn.init.normal_(self.down.weight, std=self.down.in_features**-0.5)

    def forward(self, pooled: Tensor) -> Tensor:
        hidden: Tensor = self.dropout(pooled)  # (B, H)
        if self.down is not None:
            hidden = self.down(hidden)  # (B, k)
        if self.dense is not None:
            hidden = self.act(self.dense(hidden))  # (B, H)
            if self.norm is not None:
                hidden = self.norm(hidden)
            hidden = self.dropout(hidden)
        logits: Tensor = self.out(hidden)  # (B, L)
        return logits

    @torch.no_grad()
    def start_from_pooler(self, tensors: dict[str, Tensor]) -> None:
        """Begin a full head at the checkpoint's own pretrained pooler, where shapes agree."""
        if self.kind != "full" or self.dense is None or not tensors.keys() >= {"weight", "bias"}:
            return
        if tensors["weight"].shape == self.dense.weight.shape:
            self.dense.weight.copy_(tensors["weight"])
            self.dense.bias.copy_(tensors["bias"])


def head_of(spec: HeadSpec, config: dict[str, Any], labels: int) -> Head:
    """A head whose values are about to be replaced by saved ones: torch's generator stays as it is."""
    with torch.random.fork_rng(devices=[]):
        return Head(spec.kind, config, labels, rank=spec.rank).eval()


def _activation(name: str) -> nn.Module:
    """An activation by transformers' name."""
    if name in _ACTIVATIONS:
        return _ACTIVATIONS[name]()
    from transformers.activations import ACT2FN

    found: nn.Module = ACT2FN[name]
    return found
