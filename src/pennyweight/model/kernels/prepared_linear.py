"""Linear layers whose weights will not change any more, prepared for one number format.

On a CPU the product is oneDNN's, from weights stored once in the layout that its kernels read, with the activation or
the sum inside the product. The operators have no public name (torch.compile calls them), so each is tried once and
replaced by public ones where it is missing or wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

# By transformers' names: the public function, and oneDNN's name of the same inside a product.
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], tuple[str, list[Any], str]]] = {
    "gelu": (F.gelu, ("gelu", [], "none")),
    "gelu_python": (F.gelu, ("gelu", [], "none")),
    "gelu_new": (partial(F.gelu, approximate="tanh"), ("gelu", [], "tanh")),
    "gelu_fast": (partial(F.gelu, approximate="tanh"), ("gelu", [], "tanh")),
    "gelu_pytorch_tanh": (partial(F.gelu, approximate="tanh"), ("gelu", [], "tanh")),
    "relu": (F.relu, ("relu", [], "")),
    "silu": (F.silu, ("swish", [], "")),
    "swish": (F.silu, ("swish", [], "")),
}


def activate_(x: Tensor, activation: str) -> Tensor:
    """act(x), in place where torch can: a new block of memory costs more than computing what goes into it."""
    if _has_gelu_() and activation in ("gelu", "gelu_python"):
        return torch.ops.aten.gelu_(x)  # type: ignore[no-any-return]
    return ACTIVATIONS[activation][0](x)


@cache
def _has_gelu_() -> bool:
    """Whether torch has the gelu in place; it has no public name."""
    x = torch.linspace(-3, 3, 16)
    try:
        return torch.equal(torch.ops.aten.gelu_(x.clone()), F.gelu(x))
    except (AttributeError, RuntimeError):
        return False


class PreparedLinear(Protocol):
    """act(x Wᵀ + b) + addend: (N, in) and perhaps (N, out) -> (N, out)."""

    def __call__(self, x: Tensor, addend: Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True)
class PlainLinear:
    """By torch's public functions.

    Attributes:
        weight: (out, in); `bias`: (out,) or None.
        activation: by transformers' name, or None.
    """

    weight: Tensor
    bias: Tensor | None
    activation: str | None = None

    def __call__(self, x: Tensor, addend: Tensor | None = None) -> Tensor:
        out = F.linear(x, self.weight, self.bias)
        if self.activation is not None:
            out = ACTIVATIONS[self.activation][0](out)
        return out if addend is None else out.add_(addend)


class OnednnLinear:
    """By oneDNN's product from prepacked weights, in fp32 or bf16; arguments as for `PlainLinear`."""

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: str | None = None) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
        self._bias = bias
        self._fused = ("none", [], "") if activation is None else ACTIVATIONS[activation][1]

    def __call__(self, x: Tensor, addend: Tensor | None = None) -> Tensor:
        if addend is None:
            out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, *self._fused)
            return out
        if self._fused[0] != "none":
            return self(x).add_(addend)
        out = torch.ops.mkldnn._linear_pointwise.binary(x, addend, self._weight, self._bias, "add")
        return out


def prepare_linear(weight: Tensor, bias: Tensor | None, activation: str | None = None) -> PreparedLinear:
    """The fastest that this machine has for a weight of this type, on this device."""
    if weight.device.type == "cpu" and _has_onednn(weight.dtype, activation):
        return OnednnLinear(weight, bias, activation)
    return PlainLinear(weight.contiguous(), bias, activation)


@cache
def _has_onednn(dtype: torch.dtype, activation: str | None) -> bool:
    """Whether oneDNN's product exists for this type and activation, and gives what the public functions give."""
    generator = torch.Generator().manual_seed(0)
    x, weight, bias, addend = (
        torch.randn(shape, generator=generator).to(dtype) for shape in ((8, 32), (16, 32), (16,), (8, 16))
    )
    plain, tolerance = PlainLinear(weight, bias, activation), 1e-4 if dtype == torch.float32 else 0.1
    try:
        fused = OnednnLinear(weight, bias, activation)
        pairs = [(fused(x), plain(x)), (fused(x, addend), plain(x, addend))]
    except (AttributeError, RuntimeError, TypeError, KeyError):
        return False
    return all(torch.allclose(one.float(), other.float(), atol=tolerance, rtol=0.02) for one, other in pairs)
