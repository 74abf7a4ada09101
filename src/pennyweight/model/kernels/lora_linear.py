"""Products with frozen weights and the low-rank update of PEFT's plain LoRA, fused.

y = x Wᵀ + b + s · drop(x) Aᵀ Bᵀ    (Hu et al. 2021, https://arxiv.org/abs/2106.09685, section 4.1)

Products go through rank r and the d x d update B A is never formed. Several modules that read the same x (query, key,
value) are one product, and so are their A.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from .frozen_linear import Frozen, Matrix, joined, matrix, stacked

# Elements that dropout's masks are taken from, 16 MB in bf16, and where they may begin: at cache lines.
POOL, ALIGNED = 1 << 23, 32


@dataclass(frozen=True)
class Update:
    """One adapter on one module: down (r, in), up (out, r), and what the update is multiplied by."""

    down: Tensor
    up: Tensor
    scale: float


@dataclass(frozen=True)
class Plain:
    """A linear module whose adapters, if any, are plain LoRA; `merged` where PEFT has added them to its weight."""

    base: nn.Linear
    updates: tuple[Update, ...]
    dropout: float
    merged: bool = False


@dataclass(frozen=True)
class Terms:
    """Linear modules over the same rows x, y = x Wᵀ + b + (kept ⊙ x) downᵀ upᵀ, with one `down` for all.

    Attributes:
        weights: frozen, each (out, in).
        biases: frozen, each (out,).
        down: (R, in) of all updates below each other, times their scale; None without updates.
        ups: each (out, R), zero for the other modules' updates.
        kept: (N, in) dropout's mask.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor | None, ...]
    down: Tensor | None = None
    ups: tuple[Tensor, ...] = ()
    kept: Tensor | None = None


def read(module: nn.Module) -> Plain | None:
    """Look through PEFT's wrapper; None for anything that must go through the module's own forward (DoRA, ...)."""
    if isinstance(module, nn.Linear):
        return Plain(module, (), 0.0)
    layer: Any = module
    # By name, so that serving without adapters needs no import of PEFT, which takes seconds.
    if type(layer).__module__ != "peft.tuners.lora.layer" or type(layer).__name__ != "Linear":
        return None
    if not isinstance(layer.base_layer, nn.Linear) or layer.fan_in_fan_out:
        return None
    if layer.merged:
        return None if layer.disable_adapters else Plain(layer.base_layer, (), 0.0, merged=True)
    active = [] if layer.disable_adapters else [name for name in layer.active_adapters if name in layer.lora_A]
    if any(name in layer.lora_variant or layer.lora_bias[name] for name in active):
        return None
    dropouts = {float(getattr(layer.lora_dropout[name], "p", 0.0)) for name in active} if layer.training else {0.0}
    if len(dropouts) > 1:
        return None
    updates = tuple(Update(layer.lora_A[n].weight, layer.lora_B[n].weight, layer.scaling[n]) for n in active)
    return Plain(layer.base_layer, updates, dropouts.pop() if dropouts else 0.0)


def product(x: Tensor, modules: Sequence[nn.Module], plus: Tensor | None = None) -> Tensor:
    """Apply linear modules to the same rows, x (N, in) -> (N, sum of out), and add `plus` to what they give.

    LoRA dropout draws one mask for modules that are computed together, where PEFT draws one for each.
    """
    return fork(x, modules, plus)[0]


def fork(x: Tensor, modules: Sequence[nn.Module], plus: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """`product`, and x for who adds it to something later: both gradients come back as one, summed in a product."""
    plains = [read(module) for module in modules]
    parts = [plain for plain in plains if plain is not None]
    if len(parts) < len(modules) or len({part.dropout for part in parts if part.updates}) > 1:
        # A variant: PEFT's own forward, module by module.
        out = torch.cat([_alone(x, module, plain) for module, plain in zip(modules, plains, strict=True)], -1)
        return out if plus is None else out + plus, x
    bases = [part.base for part in parts]
    bias = joined(bases, x.dtype)  # (out,)
    updates, begin = [], 0
    for part in parts:
        end = begin + part.base.out_features
        updates += [(update, begin, end) for update in part.updates]
        begin = end
    rate = max(part.dropout for part in parts)
    if any(base.weight.requires_grad for base in bases) or (not updates and bias is not None and bias.requires_grad):
        out = _unfused(x, linear(x, stacked(bases), bias), updates, rate)
        return out if plus is None else out + plus, x
    weight = matrix(bases, settled=not any(part.merged for part in parts))
    if not updates:
        frozen: tuple[Tensor, Tensor] = Frozen.apply(x, weight, bias, plus)  # type: ignore[no-untyped-call]
        return frozen
    places = tuple((begin, end, update.scale / (1 - rate)) for update, begin, end in updates)
    trained = [each for update, _, _ in updates for each in (update.down, update.up)]
    both: tuple[Tensor, Tensor] = _LoraProduct.apply(  # type: ignore[no-untyped-call]
        x, weight, bias, plus, places, rate, *trained
    )
    return both


def terms(x: Tensor, modules: Sequence[nn.Module]) -> Terms | None:
    """What `product` would multiply the rows x (N, in) with, for who multiplies in another order.

    None where the backbone learns, or where a variant (DoRA, ...) is not such a sum.
    """
    parts = [part for part in map(read, modules) if part is not None]
    if len(parts) < len(modules) or any(each.requires_grad for part in parts for each in part.base.parameters()):
        return None
    weights = tuple(part.base.weight for part in parts)
    biases = tuple(joined([part.base], x.dtype) for part in parts)
    rates = {part.dropout for part in parts if part.updates}
    if len(rates) > 1:
        return None
    if not rates:
        return Terms(weights, biases)
    rate = rates.pop()
    downs = [update.down * (update.scale / (1 - rate)) for part in parts for update in part.updates]
    ups, rank, begin = [], sum(map(len, downs)), 0
    for part in parts:
        own = [update.up for update in part.updates] or [part.base.weight[:, :0]]
        width = sum(up.shape[1] for up in own)
        before, after = (own[0].new_zeros(len(own[0]), count) for count in (begin, rank - begin - width))
        ups.append(torch.cat([before, *own, after], 1).to(x.dtype))
        begin += width
    return Terms(weights, biases, torch.cat(downs).to(x.dtype), tuple(ups), _kept(x, rate) if rate else None)


def _unfused(x: Tensor, out: Tensor, updates: Sequence[tuple[Update, int, int]], rate: float) -> Tensor:
    """The same in autograd's hands, for the case that the backbone learns too."""
    if not updates:
        return out
    dropped, parts = x if rate == 0 else x * _kept(x, rate), out.clone()
    for update, begin, end in updates:
        inner = linear(dropped, update.down.to(out.dtype))  # (N, r)
        parts[:, begin:end] += linear(inner, update.up.to(out.dtype)) * (update.scale / (1 - rate))
    return parts


def _alone(x: Tensor, module: nn.Module, plain: Plain | None) -> Tensor:
    out: Tensor = module(x) if plain is None else product(x, [module])
    return out


def _kept(x: Tensor, rate: float) -> Tensor:
    """A mask like x, 0 with probability `rate` and else 1: a stretch of a pool of them, from a random place.

    Nothing is drawn but the place, from torch's generator, whose state checkpoints hold; `torch.nn.functional.dropout`
    draws for each element, which on a CPU takes a hundred times as long. In x's own type, because a product with it
    takes a seventh of `masked_fill`'s time.
    """
    pool, count = _pool(rate, x.dtype, x.device), x.numel()
    if count <= POOL // 2:  # so that there are as many places again to begin at
        return _stretch(pool, count).view(x.shape)
    return torch.cat([_stretch(pool, len(piece)) for piece in x.view(-1).split(POOL // 2)]).view(x.shape)


def _stretch(pool: Tensor, count: int) -> Tensor:
    place = int(torch.randint((POOL - count) // ALIGNED + 1, ())) * ALIGNED
    return pool[place : place + count]


@lru_cache(8)
def _pool(rate: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    always = torch.Generator().manual_seed(0)
    with torch.inference_mode(False):  # whoever asks first: a backward pass may keep it later
        return torch.empty(POOL).bernoulli_(1 - rate, generator=always).to(device, dtype)


def _factors(places: Sequence[tuple[int, int, float]], ranks: Sequence[int], like: Tensor) -> Tensor | float:
    """What each row of the stacked A is multiplied by: one number, or (R, 1)."""
    each = [factor for _, _, factor in places]
    if len(set(each)) == 1:
        return each[0]
    rows = [factor for factor, rank in zip(each, ranks, strict=True) for _ in range(rank)]
    return torch.tensor(rows, dtype=like.dtype, device=like.device).unsqueeze(1)


class _LoraProduct(torch.autograd.Function):
    """As `Frozen`, with down (r, in) and up (out_i, r) of each update.

    `places` holds, for each update, the columns [begin, end) of the output that it adds to and its factor. All of it is
    done here by hand rather than by autograd, because a step's many small operations cost more than their arithmetic.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Matrix,
        bias: Tensor | None,
        plus: Tensor | None,
        places: tuple[tuple[int, int, float], ...],
        rate: float,
        *matrices: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ranks = [matrix.shape[0] for matrix in matrices[::2]]
        factors = _factors(places, ranks, matrices[0])  # into A, which is smaller than what else could be multiplied
        down = (torch.cat(matrices[::2]) * factors).to(x.dtype)  # (R, in)
        ups = [matrix.to(x.dtype) for matrix in matrices[1::2]]
        kept = _kept(x, rate) if rate else None
        seen = x if kept is None else x * kept  # (N, in) what the adapters read
        inner = seen @ down.t()  # (N, R)
        ctx.save_for_backward(down, seen, inner, kept, *ups)
        ctx.weight, ctx.places, ctx.ranks, ctx.factors = weight, places, ranks, factors
        ctx.set_materialize_grads(False)
        out = weight.times(x, bias, plus)
        for part, up, (begin, end, _) in zip(inner.split(ranks, 1), ups, places, strict=True):
            out[:, begin:end].addmm_(part, up.t())  # not one block-diagonal product, two thirds of which are zeros
        return out, x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, beside: Tensor | None) -> tuple[Tensor | None, ...]:  # grad (N, out)
        if grad is None:
            return beside, *[None] * (5 + 2 * len(ctx.places))
        down, seen, inner, kept, *ups = ctx.saved_tensors
        need_x, _, need_bias, need_plus = ctx.needs_input_grad[:4]
        grads_out = [grad[:, begin:end] for begin, end, _ in ctx.places]  # each (N, out_i)
        grad_inner = torch.cat([part @ up for part, up in zip(grads_out, ups, strict=True)], 1)  # (N, R)
        grad_x = None
        if need_x:  # not for the lowest adapted layer: below it nothing learns
            grad_x = ctx.weight.back(grad, beside)  # (N, in)
            if kept is None:
                grad_x.addmm_(grad_inner, down)
            else:
                grad_x.addcmul_(grad_inner @ down, kept)
        grad_bias = grad.sum(0) if need_bias else None
        of_downs = (grad_inner.t() @ seen).float().mul_(ctx.factors).split(ctx.ranks)  # each (r, in)
        grads: list[Tensor] = []
        for of_down, part, grad_out in zip(of_downs, inner.split(ctx.ranks, 1), grads_out, strict=True):
            # As (r, out_i) and then turned: a ninth faster than the other way round. In B's own layout, so that
            # autograd need not copy it.
            turned = (part.t() @ grad_out).t()
            grads += [of_down, turned.to(torch.float32, memory_format=torch.contiguous_format)]
        return grad_x, None, grad_bias, grad if need_plus else None, None, None, *grads
