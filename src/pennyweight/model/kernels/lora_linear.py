"""Products with frozen weights and the low-rank update of PEFT's plain LoRA, fused.

y = x Wᵀ + b + s · drop(x) Aᵀ Bᵀ    (Hu et al. 2021, https://arxiv.org/abs/2106.09685, section 4.1)

Products go through rank r; the d x d update B A is never formed. Modules that read the same x (query, key, value) are
one product, and so are their A.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from .exact_backward import exact_backward
from .frozen_linear import (
    FrozenMatrix,
    FrozenProduct,
    frozen_matrix,
    frozen_rows,
    is_quantized,
    joined_bias,
    stacked_weight,
)

# Dropout masks are slices of a pool of so many elements, 16 MB in bf16; they start at multiples of a cache line.
POOL_SIZE, ALIGNMENT = 1 << 23, 32


@dataclass(frozen=True)
class LoraUpdate:
    """One adapter on one module: down (r, in), up (out, r), and the factor of the update."""

    down: Tensor
    up: Tensor
    scale: float


@dataclass(frozen=True)
class LoraLinear:
    """A linear module whose adapters, if any, are plain LoRA; `merged` where PEFT has added them to its weight."""

    base: nn.Linear
    updates: tuple[LoraUpdate, ...]
    dropout: float
    merged: bool = False


@dataclass(frozen=True)
class LinearFactors:
    """The factors of linear modules over the same rows x, y = x Wᵀ + b + (mask ⊙ x) downᵀ upᵀ, with one `down` for all.

    Attributes:
        weights: frozen, each (out, in).
        biases: frozen, each (out,).
        down: (R, in), all updates stacked and multiplied by their scales; None without updates.
        ups: each (out, R), zero for the other modules' updates.
        mask: (N, in), the dropout mask.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor | None, ...]
    down: Tensor | None = None
    ups: tuple[Tensor, ...] = ()
    mask: Tensor | None = None


def read_lora(module: nn.Module) -> LoraLinear | None:
    """The linear layer and LoRA updates of a module; None if only its own forward computes it (DoRA, ...)."""
    if isinstance(module, nn.Linear):
        return LoraLinear(module, (), 0.0)
    layer: Any = module
    # By name, because importing PEFT takes seconds and a model without adapters does not need it.
    if type(layer).__module__ != "peft.tuners.lora.layer" or type(layer).__name__ != "Linear":
        return None
    if not isinstance(layer.base_layer, nn.Linear) or layer.fan_in_fan_out:
        return None
    if layer.merged:
        return None if layer.disable_adapters else LoraLinear(layer.base_layer, (), 0.0, merged=True)
    active = [] if layer.disable_adapters else [name for name in layer.active_adapters if name in layer.lora_A]
    if any(name in layer.lora_variant or layer.lora_bias[name] for name in active):
        return None
    dropouts = {float(getattr(layer.lora_dropout[name], "p", 0.0)) for name in active} if layer.training else {0.0}
    if len(dropouts) > 1:
        return None
    updates = tuple(LoraUpdate(layer.lora_A[n].weight, layer.lora_B[n].weight, layer.scaling[n]) for n in active)
    return LoraLinear(layer.base_layer, updates, dropouts.pop() if dropouts else 0.0)


def project(x: Tensor, modules: Sequence[nn.Module], addend: Tensor | None = None) -> Tensor:
    """Apply linear modules to the same rows and add `addend` (N, sum of out): x (N, in) -> (N, sum of out).

    LoRA dropout draws one mask for modules that are computed together, where PEFT draws one for each.
    """
    return project_with_input(x, modules, addend)[0]


def project_with_input(x: Tensor, modules: Sequence[nn.Module], addend: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """`project`, and x for a residual connection: the gradients of both are summed inside one product."""
    readings = [read_lora(module) for module in modules]
    parts = [reading for reading in readings if reading is not None]
    if len(parts) < len(modules) or len({part.dropout for part in parts if part.updates}) > 1:
        # At least one is a variant: one product a module, and PEFT's own forward where needed.
        out = torch.cat(
            [_project_one(x, module, reading) for module, reading in zip(modules, readings, strict=True)], -1
        )
        return out if addend is None else out + addend, x
    bases = [part.base for part in parts]
    bias = joined_bias(bases, x.dtype)  # (out,)
    updates, begin = [], 0
    for part in parts:
        end = begin + part.base.out_features
        updates += [(update, begin, end) for update in part.updates]
        begin = end
    rate = max(part.dropout for part in parts)
    trained_base = any(base.weight.requires_grad for base in bases if not is_quantized(base))
    if trained_base or (not updates and bias is not None and bias.requires_grad):
        out = _unfused(x, linear(x, stacked_weight(bases), bias), updates, rate)
        return out if addend is None else out + addend, x
    weight = frozen_matrix(bases, prepack=not any(part.merged for part in parts))
    if not updates:
        frozen: tuple[Tensor, Tensor] = FrozenProduct.apply(x, weight, bias, addend)  # type: ignore[no-untyped-call]
        return frozen
    places = tuple((begin, end, update.scale / (1 - rate)) for update, begin, end in updates)
    trained = [each for update, _, _ in updates for each in (update.down, update.up)]
    both: tuple[Tensor, Tensor] = _LoraProduct.apply(  # type: ignore[no-untyped-call]
        x, weight, bias, addend, places, rate, *trained
    )
    return both


def project_columns(x: Tensor, module: nn.Module, columns: slice) -> Tensor:
    """Some columns of what a linear module gives: x (N, in) -> (N, columns).

    For rows of which not all columns are read, where one matrix gives several things: ModernBERT's queries, keys and
    values.
    """
    reading = read_lora(module)
    if reading is None or any(parameter.requires_grad for parameter in reading.base.parameters()):
        return project(x, [module])[:, columns].contiguous()
    base, rate = reading.base, reading.dropout
    bias = None if base.bias is None else base.bias[columns].to(x.dtype)
    weight = frozen_rows(base, columns, prepack=not reading.merged)
    if not reading.updates:
        out: Tensor = FrozenProduct.apply(x, weight, bias, None)[0]  # type: ignore[no-untyped-call]
        return out
    width = len(range(*columns.indices(base.out_features)))
    places = tuple((0, width, update.scale / (1 - rate)) for update in reading.updates)
    trained = [each for update in reading.updates for each in (update.down, update.up[columns])]
    out, _ = _LoraProduct.apply(x, weight, bias, None, places, rate, *trained)  # type: ignore[no-untyped-call]
    return out


def linear_factors(x: Tensor, modules: Sequence[nn.Module]) -> LinearFactors | None:
    """The factors that `project` multiplies the rows x (N, in) with, for a product in another order.

    None if the backbone is trained, or where a variant (DoRA, ...) is not such a sum.
    """
    parts = [part for part in map(read_lora, modules) if part is not None]
    if len(parts) < len(modules) or any(each.requires_grad for part in parts for each in part.base.parameters()):
        return None
    weights = tuple(part.base.weight for part in parts)
    biases = tuple(joined_bias([part.base], x.dtype) for part in parts)
    rates = {part.dropout for part in parts if part.updates}
    if len(rates) > 1:
        return None
    if not rates:
        return LinearFactors(weights, biases)
    rate = rates.pop()
    downs = [update.down * (update.scale / (1 - rate)) for part in parts for update in part.updates]
    ups, rank, begin = [], sum(map(len, downs)), 0
    for part in parts:
        own = [update.up for update in part.updates] or [part.base.weight[:, :0]]
        width = sum(up.shape[1] for up in own)
        before, after = (own[0].new_zeros(len(own[0]), count) for count in (begin, rank - begin - width))
        ups.append(torch.cat([before, *own, after], 1).to(x.dtype))
        begin += width
    return LinearFactors(
        weights, biases, torch.cat(downs).to(x.dtype), tuple(ups), dropout_mask(x, rate) if rate else None
    )


def _unfused(x: Tensor, out: Tensor, updates: Sequence[tuple[LoraUpdate, int, int]], rate: float) -> Tensor:
    """The same by autograd, for a backbone that is trained: adds the updates to out (N, sum of out)."""
    if not updates:
        return out
    dropped, parts = x if rate == 0 else x * dropout_mask(x, rate), out.clone()
    for update, begin, end in updates:
        inner = linear(dropped, update.down.to(out.dtype))  # (N, r)
        parts[:, begin:end] += linear(inner, update.up.to(out.dtype)) * (update.scale / (1 - rate))
    return parts


def _project_one(x: Tensor, module: nn.Module, reading: LoraLinear | None) -> Tensor:
    out: Tensor = module(x) if reading is None else project(x, [module])
    return out


def dropout_mask(x: Tensor, rate: float) -> Tensor:
    """A dropout mask of x's shape and type, 0 with probability `rate` and else 1: a slice of a pool at a random place.

    Only the place is drawn, from torch's generator, whose state checkpoints hold; `torch.nn.functional.dropout` draws
    for each element, which on a CPU takes a hundred times as long. In x's own type, because a product with it takes a
    seventh of `masked_fill`'s time.
    """
    return draw_mask(x, rate).tensor()


@dataclass(frozen=True)
class DropoutMask:
    """A dropout mask as its pieces of the pool: a backward pass keeps these, and not the mask.

    Attributes:
        shape: of the mask.
        pieces: of the pool, one behind the other.
    """

    pool: Tensor
    shape: torch.Size
    pieces: tuple[slice, ...]

    def tensor(self) -> Tensor:
        """The mask; a view of the pool where it is one piece."""
        parts = [self.pool[piece] for piece in self.pieces]
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).view(self.shape)


def draw_mask(x: Tensor, rate: float) -> DropoutMask:
    """Draw a dropout mask of x's shape and type, see `dropout_mask`."""
    count, most = x.numel(), POOL_SIZE // 2  # half of the pool leaves as many places to start at
    pieces = []
    for begin in range(0, max(1, count), most):
        size = min(most, count - begin)
        place = int(torch.randint((POOL_SIZE - size) // ALIGNMENT + 1, ())) * ALIGNMENT
        pieces.append(slice(place, place + size))
    return DropoutMask(_mask_pool(rate, x.dtype, x.device), x.shape, tuple(pieces))


@lru_cache(8)
def _mask_pool(rate: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode(False):  # a backward pass may save the mask, whoever asks first
        return torch.empty(POOL_SIZE).bernoulli_(1 - rate, generator=generator).to(device, dtype)


def _factors(places: Sequence[tuple[int, int, float]], ranks: Sequence[int], like: Tensor) -> Tensor | float:
    """The factor of each row of the stacked A: one number, or (R, 1)."""
    each = [factor for _, _, factor in places]
    if len(set(each)) == 1:
        return each[0]
    rows = tuple(factor for factor, rank in zip(each, ranks, strict=True) for _ in range(rank))
    return _column(rows, like.dtype, like.device)


@lru_cache(256)  # copied to a device once, and not in each step
def _column(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """(R, 1)."""
    with torch.inference_mode(False):  # a training step may come after a prediction
        return torch.tensor(values, dtype=dtype, device=device).unsqueeze(1)


class _LoraProduct(torch.autograd.Function):
    """`FrozenProduct` with the down (r, in) and up (out_i, r) of each update.

    `places` holds, for each update, the columns [begin, end) of the output that it adds to, and its factor. Gradients
    are written out, not left to autograd, because the overhead of many small operations exceeds their arithmetic.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: FrozenMatrix,
        bias: Tensor | None,
        addend: Tensor | None,
        places: tuple[tuple[int, int, float], ...],
        rate: float,
        *matrices: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ranks = [matrix.shape[0] for matrix in matrices[::2]]
        factors = _factors(places, ranks, matrices[0])  # multiplied into A, the smallest of the factors
        down = (torch.cat(matrices[::2]) * factors).to(x.dtype)  # (R, in)
        ups = [matrix.to(x.dtype) for matrix in matrices[1::2]]
        mask = draw_mask(x, rate) if rate else None
        dropped = x if mask is None else x * mask.tensor()  # (N, in)
        inner = dropped @ down.t()  # (N, R)
        ctx.save_for_backward(down, dropped, inner, *ups)
        ctx.mask = mask
        ctx.weight, ctx.places, ctx.ranks, ctx.factors = weight, places, ranks, factors
        ctx.set_materialize_grads(False)
        out = weight.multiply(x, bias, addend)
        for part, up, (begin, end, _) in zip(inner.split(ranks, 1), ups, places, strict=True):
            out[:, begin:end].addmm_(part, up.t())  # one block-diagonal product would be two thirds zeros
        return out, x

    @staticmethod
    @exact_backward
    def backward(
        ctx: Any, grad: Tensor | None, grad_passed: Tensor | None
    ) -> tuple[Tensor | None, ...]:  # grad (N, out)
        if grad is None:
            return grad_passed, *[None] * (5 + 2 * len(ctx.places))
        down, dropped, inner, *ups = ctx.saved_tensors
        mask = ctx.mask
        need_x, _, need_bias, need_addend = ctx.needs_input_grad[:4]
        grads_out = [grad[:, begin:end] for begin, end, _ in ctx.places]  # each (N, out_i)
        grad_inner = torch.cat([part @ up for part, up in zip(grads_out, ups, strict=True)], 1)  # (N, R)
        grad_x = None
        if need_x:  # not in the lowest adapted layer: nothing below it is trained
            grad_x = ctx.weight.input_gradient(grad, grad_passed)  # (N, in)
            if mask is None:
                grad_x.addmm_(grad_inner, down)
            else:
                grad_x.addcmul_(grad_inner @ down, mask.tensor())
        grad_bias = grad.sum(0) if need_bias else None
        grads_down = (grad_inner.t() @ dropped).float().mul_(ctx.factors).split(ctx.ranks)  # each (r, in)
        grads: list[Tensor] = []
        for grad_down, part, grad_out in zip(grads_down, inner.split(ctx.ranks, 1), grads_out, strict=True):
            # As (r, out_i) and then transposed: a ninth faster than the direct product. In B's own layout, so that
            # autograd need not copy it.
            grad_up = (part.t() @ grad_out).t()
            grads += [grad_down, grad_up.to(torch.float32, memory_format=torch.contiguous_format)]
        return grad_x, None, grad_bias, grad if need_addend else None, None, None, *grads
