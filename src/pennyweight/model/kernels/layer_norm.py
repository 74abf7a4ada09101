"""Layer norm with fp32 weights on rows of any type."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def layer_norm_mixed(module: nn.LayerNorm, x: Tensor) -> Tensor:
    """(N, H) -> (N, H): a CPU's kernels take a half-precision input with fp32 weights."""
    return F.layer_norm(x, module.normalized_shape, module.weight, module.bias, module.eps)


def layer_norm_cast(module: nn.LayerNorm, x: Tensor) -> Tensor:
    """(N, H) -> (N, H): other devices' kernels need weights of the input's type."""
    bias = None if module.bias is None else module.bias.to(x.dtype)
    return F.layer_norm(x, module.normalized_shape, module.weight.to(x.dtype), bias, module.eps)
