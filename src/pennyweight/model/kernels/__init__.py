"""The operations that differ between devices, chosen once when the model is built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from .first_token_attention import attend_first_token, attend_first_token_on_gpu
from .layer_norm import layer_norm_cast, layer_norm_mixed
from .local_attention import attend_near
from .packed_attention import Packing, attend_first_packed
from .rotary import RotaryPositions
from .varlen_attention import attend_first_varlen, attend_varlen

__all__ = ["Kernels", "choose_kernels"]


class Attend(Protocol):
    """Every token attends to its text: queries, keys and values (N, 3H) -> (N, H)."""

    def __call__(
        self, qkv: Tensor, packing: Packing, heads: int, positions: RotaryPositions | None = None
    ) -> Tensor: ...


class AttendFirst(Protocol):
    """Each text's first token attends to its text: queries (B, H), keys and values (N, 2H) -> (B, H)."""

    def __call__(
        self, q: Tensor, kv: Tensor, packing: Packing, heads: int, positions: RotaryPositions | None = None
    ) -> Tensor: ...


@dataclass(frozen=True)
class Kernels:
    """The operations of one device.

    Attributes:
        attend: every token attends to its text.
        attend_first: each text's first token attends to its text.
        attend_first_token: the same without positions, from rows (N, H) and the modules that give keys and values:
            queries (B, H), rows, modules, packing, heads -> (B, H).
        layer_norm: module, (N, H) -> (N, H).
    """

    attend: Attend
    attend_first: AttendFirst
    attend_first_token: Callable[[Tensor, Tensor, Sequence[nn.Module], Packing, int], Tensor]
    layer_norm: Callable[[nn.LayerNorm, Tensor], Tensor]


def choose_kernels(device: torch.device) -> Kernels:
    """The fastest operations for a device. Products choose theirs when weights are first read, see `frozen_linear`."""
    if device.type == "cuda":
        return Kernels(attend_varlen, attend_first_varlen, attend_first_token_on_gpu, layer_norm_cast)
    norm = layer_norm_mixed if device.type == "cpu" else layer_norm_cast
    return Kernels(attend_near, attend_first_packed, attend_first_token, norm)
