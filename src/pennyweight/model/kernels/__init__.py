"""The operations that differ between devices, chosen once when the model is built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .first_token_attention import attend_first_token, attend_first_token_on_gpu
from .layer_norm import layer_norm_cast, layer_norm_mixed
from .packed_attention import Packing, attend_fused, attend_packed

__all__ = ["Kernels", "choose_kernels"]


@dataclass(frozen=True)
class Kernels:
    """The operations of one device.

    Attributes:
        attend: every token attends to its text: queries, keys and values (N, 3H), packing, heads -> (N, H).
        attend_first_token: each text's first token attends to its text: queries (B, H), rows (N, H), the modules that
            give keys and values, packing, heads -> (B, H).
        layer_norm: module, (N, H) -> (N, H).
    """

    attend: Callable[[Tensor, Packing, int], Tensor]
    attend_first_token: Callable[[Tensor, Tensor, Sequence[nn.Module], Packing, int], Tensor]
    layer_norm: Callable[[nn.LayerNorm, Tensor], Tensor]


def choose_kernels(device: torch.device) -> Kernels:
    """The fastest operations for a device. Products choose theirs when weights are first read, see `frozen_linear`."""
    if device.type == "cuda":
        return Kernels(attend_fused, attend_first_token_on_gpu, layer_norm_cast)
    norm = layer_norm_mixed if device.type == "cpu" else layer_norm_cast
    return Kernels(attend_packed, attend_first_token, norm)
