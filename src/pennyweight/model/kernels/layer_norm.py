"""Layer norm with fp32 weights on rows of any type."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .frozen_linear import cached


def layer_norm_mixed(module: nn.LayerNorm, x: Tensor) -> Tensor:
    """(N, H) -> (N, H): a CPU's kernels take a half-precision input with fp32 weights."""
    return F.layer_norm(x, module.normalized_shape, module.weight, module.bias, module.eps)


def layer_norm_cast(module: nn.LayerNorm, x: Tensor) -> Tensor:
    """(N, H) -> (N, H): other devices' kernels need weights of the input's type; frozen ones are cast once."""
    weight, bias = _cast(module, x.dtype)
    return F.layer_norm(x, module.normalized_shape, weight, bias, module.eps)


def _cast(module: nn.LayerNorm, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Weight and bias (H,) of a norm in a type."""
    weight, bias = module.weight, module.bias
    held = [each for each in (weight, bias) if each is not None]
    if any(each.requires_grad or each.is_inference() for each in held):  # trained, or without a version
        return weight.to(dtype), None if bias is None else bias.to(dtype)
    made: tuple[Tensor, Tensor | None] = cached(
        [module], held, ("norm", dtype), lambda: (weight.detach().to(dtype), None if bias is None else bias.to(dtype))
    )
    return made
