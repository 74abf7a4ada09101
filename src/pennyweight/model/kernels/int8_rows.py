"""Products with a frozen matrix in int8, for training steps: both factors are rounded to 8 bits, row by row.

A row of the input has a scale of its own, its largest absolute value over 127, and so has a row of the matrix. Sums are
in int32. The same is done with gradients, whose rows differ by orders of magnitude (SwitchBack, Wortsman et al. 2023,
https://arxiv.org/abs/2304.13013, which keeps the gradients of weights in 16 bits; frozen weights have none). A text's
numbers do not depend on its neighbours in the batch. The product is oneDNN's, see `int8_linear`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from ...errors import ResourceError
from .int8_linear import MIDDLE, ByteRange, has_int8

LARGEST = MIDDLE - 1
# Products have a multiple of so many rows: oneDNN compiles a kernel for each other number, and keeps a limited number.
STEP = 16
SMALLEST_SCALE = 1e-30  # of a row of zeros
_BYTES = ByteRange(1.0, MIDDLE)


class Int8Rows:
    """x Wᵀ + b + addend for one matrix W.

    Args:
        weight: (out, in) fp32, copied.
    """

    def __init__(self, weight: Tensor) -> None:
        weight = weight.detach()
        scales = weight.abs().amax(1).clamp(min=SMALLEST_SCALE) / LARGEST  # (out,)
        rounded = (weight / scales[:, None]).round().to(torch.int8).contiguous()
        packed = torch.ops.onednn.qlinear_prepack(rounded, None)
        zeros = torch.zeros(len(weight), dtype=torch.int64)
        self._matrix = (_BYTES.scale, _BYTES.zero, packed, scales, zeros, None)
        self._to_fp32: tuple[Any, ...] = (1.0, 0, torch.float32, "none", [], "")
        self._product = torch.ops.onednn.qlinear_pointwise.default

    def __call__(self, x: Tensor, bias: Tensor | None = None, addend: Tensor | None = None) -> Tensor:
        """(N, in) fp32 and perhaps (out,) and (N, out) -> (N, out); a row that is not finite gives none that is."""
        # Two passes that read take less time than one that writes absolute values.
        scale = x.amax(1, keepdim=True).maximum(x.amin(1, keepdim=True).neg_())
        scale.clamp_(min=SMALLEST_SCALE).div_(LARGEST)  # (N, 1)
        rows = len(x)
        scaled = x.new_empty(-(-rows // STEP) * STEP, x.shape[1])
        torch.div(x, scale, out=scaled[:rows])
        scaled[rows:].zero_()
        out: Tensor = self._product(_BYTES.bytes_of(scaled), *self._matrix, *self._to_fp32)[:rows]
        out.mul_(scale)
        if bias is not None:
            out.add_(bias)
        return out if addend is None else out.add_(addend)


def check_int8_rows() -> None:
    """Refuse int8 where `has_int8` is false.

    Raises:
        ResourceError: naming the remedy.
    """
    if not has_int8():
        raise ResourceError(
            "this CPU does not compute in int8 without overflow",
            where="train -> quantization",
            remedy="use --quantization auto",
        )


@cache
def int8_rows_are_faster() -> bool:
    """Whether the product, rounding included, is faster than one in fp32: timed once (a twentieth of a second)."""
    if not has_int8():
        return False
    x, weight = torch.ones(1024, 384), torch.ones(1536, 384)
    int8, fp32 = _seconds([partial(Int8Rows(weight), x), partial(linear, x, weight)])
    return int8 < 0.8 * fp32


def _seconds(products: Sequence[Callable[[], Tensor]]) -> list[float]:
    """The best of eight of each, in turn: what else the machine does then disturbs all of them."""
    times: list[list[float]] = [[] for _ in products]
    for _ in range(8):
        for product, kept in zip(products, times, strict=True):
            began = time.perf_counter()
            product()
            kept.append(time.perf_counter() - began)
    return list(map(min, times))
