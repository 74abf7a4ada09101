"""Linear layers in int8: weights of 8 bits a channel, inputs of 8 bits with a fixed range, sums in int32.

An input channel's range is moved partly into the weights before both are rounded (SmoothQuant, Xiao et al. 2023,
https://arxiv.org/abs/2211.10438, equation 4). The ranges were measured on texts beforehand, so that a text's numbers do
not depend on its neighbours, which a range measured in each call would make them. The product is oneDNN's, which
torch.compile calls; it has no public name.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from .prepared_linear import ACTIVATIONS

# SmoothQuant's exponent: how much of a channel's range moves into the weights. The paper's 0.5 leaves twice the error
# of logits on AG News (docs/log.md).
SMOOTHING = 0.8
MIDDLE, TOP = 128, 255  # of an unsigned byte: zero point and largest value


@dataclass(frozen=True)
class ByteRange:
    """How numbers are rounded to unsigned bytes: round(x / scale) + zero."""

    scale: float
    zero: int

    @classmethod
    def around_zero(cls, largest: float) -> ByteRange:
        """For -largest to largest."""
        return cls(max(largest, 1e-8) / (MIDDLE - 1), MIDDLE)

    @classmethod
    def between(cls, low: float, high: float) -> ByteRange:
        """For low to high, 0 included and exact."""
        low, high = min(low, 0.0), max(high, 0.0, 1e-8)
        scale = (high - low) / TOP
        return cls(scale, round(-low / scale))

    def bytes_of(self, x: Tensor) -> Tensor:
        """fp32 to uint8, of the same shape."""
        if _has_quantizer():
            return _quantized(x, self.scale, self.zero)
        return torch.add(self.zero, x, alpha=1 / self.scale).round_().clamp_(0, TOP).to(torch.uint8)


def _quantized(x: Tensor, scale: float, zero: int) -> Tensor:
    """By torch's quantizer, in one pass; its bytes are read in place."""
    found = torch.quantize_per_tensor(x.contiguous(), scale, zero, torch.quint8)
    return torch.empty(0, dtype=torch.uint8).set_(found.untyped_storage(), 0, x.shape, found.stride())


@cache
def _has_quantizer() -> bool:
    """Whether torch has its quantizer, which it means to remove, and whether its bytes can be read in place."""
    x = torch.tensor([[0.5, -1.0], [100.0, -100.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns once a process
        try:
            return torch.equal(_quantized(x, 0.25, 128), torch.tensor([[130, 124], [255, 0]], dtype=torch.uint8))
        except (AttributeError, RuntimeError, TypeError):
            return False


class Int8Linear:
    """act(x Wᵀ + b) + addend from fp32 or, where `source` is given, from bytes.

    Args:
        weight: (out, in) fp32; bias: (out,).
        largest: (in,) the largest absolute value of each input channel; None if the input comes in bytes.
        source: how the bytes of the input are to be read, otherwise as `largest` says.
        target: the range of the output's bytes; None for an output in `dtype`.
        activation: by transformers' name.
        into_addend: whether the output may take the memory of the addend, which saves writing other.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        *,
        largest: Tensor | None = None,
        source: ByteRange | None = None,
        target: ByteRange | None = None,
        activation: str | None = None,
        into_addend: bool = False,
    ) -> None:
        self._divisor: Tensor | None = None
        if source is None:
            assert largest is not None
            factor = smoothing(largest, weight)
            self._divisor = 1 / factor
            weight = weight * factor
            source = ByteRange.around_zero(float((largest / factor).max()))
        self._source = source
        scales = weight.abs().amax(1).clamp(min=1e-8) / 127  # (out,)
        rounded = (weight / scales[:, None]).round().clamp(-127, 127).to(torch.int8)
        name, arguments, algorithm = ("none", [], "") if activation is None else ACTIVATIONS[activation][1]
        scale, zero, kind = (1.0, 0, torch.float32) if target is None else (target.scale, target.zero, torch.uint8)
        # What is the same in every call is looked up once: for one text, calling takes as long as computing.
        self._product = torch.ops.onednn.qlinear_pointwise.default
        self._product_and_sum = torch.ops.onednn.qlinear_pointwise.binary
        packed = torch.ops.onednn.qlinear_prepack(rounded, None)
        self._before = (source.scale, source.zero, packed, scales, torch.zeros(len(weight), dtype=torch.int64))
        self._behind = (bias, scale, zero, kind, name, arguments, algorithm)
        how = "sum" if into_addend else "add"
        self._added = (bias, scale, zero, kind, 1.0, 0, how, 1.0, name, arguments, algorithm)

    def __call__(self, x: Tensor, addend: Tensor | None = None) -> Tensor:
        """(N, in) and perhaps (N, out) -> (N, out)."""
        if self._divisor is not None:
            x = x * self._divisor
        return self.from_bytes(self._source.bytes_of(x), addend)

    def from_bytes(self, x: Tensor, addend: Tensor | None = None) -> Tensor:
        """The same from rounded inputs (N, in)."""
        if addend is None:
            out: Tensor = self._product(x, *self._before, *self._behind)
            return out
        out = self._product_and_sum(x, *self._before, addend, *self._added)
        return out


def smoothing(largest: Tensor, weight: Tensor) -> Tensor:
    """(in,) what each input channel is divided by, and the weights multiplied with."""
    columns = weight.abs().amax(0).clamp(min=1e-5)
    factor = largest.clamp(min=1e-5) ** SMOOTHING / columns ** (1 - SMOOTHING)
    return factor.clamp(min=1e-5)


@cache
def has_int8() -> bool:
    """Whether oneDNN's int8 product exists here and is right: without VNNI, two products may not fit into 16 bits."""
    generator = torch.Generator().manual_seed(0)
    x, weight, bias, addend = (torch.randn(shape, generator=generator) for shape in ((8, 64), (16, 64), (16,), (8, 16)))
    try:
        usual, within = (Int8Linear(weight, bias, largest=x.abs().amax(0), into_addend=each) for each in (False, True))
        found = usual(x, addend)
        same = torch.equal(found, within(x, addend.clone())) and _largest_sums_fit()
    except (AttributeError, RuntimeError, TypeError):
        return False
    return same and torch.allclose(found, F.linear(x, weight, bias) + addend, atol=0.5)


def _largest_sums_fit() -> bool:
    """Whether a product of the largest bytes is exact."""
    x, weight = torch.ones(8, 64), torch.ones(16, 64)
    product = Int8Linear(weight, None, source=ByteRange(1 / TOP, 0))
    return torch.allclose(product.from_bytes(torch.full_like(x, TOP, dtype=torch.uint8)), F.linear(x, weight))
