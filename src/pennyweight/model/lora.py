"""Products with frozen weights and the low-rank update of PEFT's plain LoRA, fused.

y = x Wᵀ + b + s · drop(x) Aᵀ Bᵀ    (Hu et al. 2021, https://arxiv.org/abs/2106.09685, section 4.1)

Products go through rank r and the d x d update B A is never formed. Several modules that read the same x (query, key,
value) are one product: their weights lie below each other in memory, and so do their A.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

# Random words that dropout's masks are made of, 2 MB.
POOL = 1 << 18


class Linear(nn.Linear):
    """`nn.Linear` that computes in its weight's type, whatever types the bias and the input are kept in."""

    def forward(self, input: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(self.weight.dtype)
        return linear(input.to(self.weight.dtype), self.weight, bias)


@dataclass(frozen=True)
class Update:
    """One adapter on one module: down (r, in), up (out, r), and what the update is multiplied by."""

    down: Tensor
    up: Tensor
    scale: float


@dataclass(frozen=True)
class Plain:
    """A linear module whose adapters, if any, are plain LoRA."""

    base: nn.Linear
    updates: tuple[Update, ...]
    dropout: float


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
        return None if layer.disable_adapters else Plain(layer.base_layer, (), 0.0)
    active = [] if layer.disable_adapters else [name for name in layer.active_adapters if name in layer.lora_A]
    if any(name in layer.lora_variant or layer.lora_bias[name] for name in active):
        return None
    dropouts = {float(getattr(layer.lora_dropout[name], "p", 0.0)) for name in active} if layer.training else {0.0}
    if len(dropouts) > 1:
        return None
    updates = tuple(Update(layer.lora_A[n].weight, layer.lora_B[n].weight, layer.scaling[n]) for n in active)
    return Plain(layer.base_layer, updates, dropouts.pop() if dropouts else 0.0)


def product(x: Tensor, modules: Sequence[nn.Module]) -> Tensor:
    """Apply linear modules to the same rows: x (N, in) -> (N, sum of out).

    LoRA dropout draws one mask for modules that are computed together, where PEFT draws one for each.
    """
    plains = [read(module) for module in modules]
    parts = [plain for plain in plains if plain is not None]
    if len(parts) < len(modules) or len({part.dropout for part in parts if part.updates}) > 1:
        # A variant: PEFT's own forward, module by module.
        return torch.cat([_alone(x, module, plain) for module, plain in zip(modules, plains, strict=True)], -1)
    weight = stacked([part.base for part in parts])  # (out, in)
    bias = joined([part.base for part in parts], x.dtype)  # (out,)
    updates, begin = [], 0
    for part in parts:
        end = begin + part.base.out_features
        updates += [(update, begin, end) for update in part.updates]
        begin = end
    if not updates:
        if weight.requires_grad or (bias is not None and bias.requires_grad):
            return linear(x, weight, bias)
        frozen: Tensor = _Frozen.apply(x, weight, bias)  # type: ignore[no-untyped-call]
        return frozen
    rate = max(part.dropout for part in parts)
    if weight.requires_grad:
        dropped = x if rate == 0 else x * _kept(x, rate)
        return _unfused(linear(x, weight, bias), dropped, updates, _keep(rate))
    places = tuple((begin, end, update.scale / _keep(rate)) for update, begin, end in updates)
    trained = [matrix for update, _, _ in updates for matrix in (update.down, update.up)]
    out: Tensor = _LoraProduct.apply(x, weight, bias, places, rate, *trained)  # type: ignore[no-untyped-call]
    return out


def _unfused(out: Tensor, dropped: Tensor, updates: Sequence[tuple[Update, int, int]], keep: float) -> Tensor:
    """The same in autograd's hands, for the case that the backbone learns too."""
    parts = out.clone()
    for update, begin, end in updates:
        inner = linear(dropped, update.down.to(out.dtype))  # (N, r)
        parts[:, begin:end] += linear(inner, update.up.to(out.dtype)) * (update.scale / keep)
    return parts


def _alone(x: Tensor, module: nn.Module, plain: Plain | None) -> Tensor:
    out: Tensor = module(x) if plain is None else product(x, [module])
    return out


def stacked(linears: Sequence[nn.Linear]) -> Tensor:
    """The weights below each other, (sum of out, in), without a second copy of them in memory.

    The parameters become views of one tensor the first time, and again after a move to another device.
    """
    weights = [each.weight for each in linears]
    if len(weights) == 1:
        return weights[0]
    if any(weight.requires_grad for weight in weights):
        return torch.cat(weights)
    first, size, address = weights[0], weights[0].element_size(), weights[0].data_ptr()
    joined = all(weight.is_contiguous() for weight in weights)
    for weight in weights:
        joined = joined and weight.data_ptr() == address and _same_storage(first, weight)
        address += weight.numel() * size
    rows = sum(weight.shape[0] for weight in weights)
    if not joined:
        together = torch.cat([weight.detach() for weight in weights])
        for weight, view in zip(weights, together.split([weight.shape[0] for weight in weights]), strict=True):
            weight.data = view
    return first.detach().as_strided((rows, first.shape[1]), (first.shape[1], 1))


def joined(linears: Sequence[nn.Linear], dtype: torch.dtype) -> Tensor | None:
    """The biases end to end, (sum of out,), in the type of the computation; made once if they are frozen."""
    biases = [each.bias for each in linears]
    if biases[0] is None:
        return None
    if any(bias.requires_grad or bias.is_inference() for bias in biases):  # these learn, those count no changes
        return torch.cat([bias.to(dtype) for bias in biases])
    key = (dtype, *((bias.data_ptr(), bias._version) for bias in biases))
    known: tuple[Any, ...] | None = linears[0].__dict__.get("_joined")
    if known is None or known[0] != key:
        kept = [bias.detach() for bias in biases]  # held with the key, so that nothing else can come to their addresses
        known = linears[0].__dict__["_joined"] = (key, torch.cat(kept).to(dtype), kept)
    together: Tensor = known[1]
    return together


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`torch.nn.functional.linear` outside autograd, without its copy of the bias into every row of a bf16 result."""
    if bias is None or x.dtype != torch.bfloat16 or x.device.type != "cpu" or not _adds_bias():
        return linear(x, weight, bias)
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


@cache
def _adds_bias() -> bool:
    """Whether oneDNN's own product is there; what torch.compile calls, but not a public name."""
    x = torch.arange(4.0).view(2, 2).bfloat16()
    try:
        found = torch.ops.mkldnn._linear_pointwise(x, x, x[0], "none", [], "")
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.equal(found, linear(x, x, x[0]))


def _same_storage(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _threshold(rate: float) -> int:
    return min(255, round(rate * 256))


def _keep(rate: float) -> float:
    return 1 - _threshold(rate) / 256


def _kept(x: Tensor, rate: float) -> Tensor:
    """A mask like x, 0 with probability `rate` rounded to 1/256 and else 1: one random byte an element.

    A sixteenth of the cost of `torch.nn.functional.dropout` on a CPU, whose random numbers are drawn one by one. In x's
    own type, because a product with it takes a seventh of `masked_fill`'s time.
    """
    drawn = _words(-(-x.numel() // 8), x.device).view(torch.uint8)[: x.numel()].view(x.shape)
    return torch.ge(drawn, _threshold(rate), out=torch.empty_like(x))


def _words(count: int, device: torch.device) -> Tensor:
    """(count,) words of eight random bytes, for a thirtieth of what drawing them takes.

    A stretch of the pool from a random place, each word changed by the same random bits: every byte is uniform, and two
    bytes are related only through which of the pool's pairs they happen to be. Both draws come from torch's generator,
    whose state checkpoints hold.
    """
    pool = _pool(device)
    words = torch.empty(count, dtype=torch.int64, device=device)
    for piece in words.split(POOL // 2):  # half the pool, so that there are as many places again to begin at
        place = int(torch.randint(POOL - len(piece) + 1, ()))
        bits = int(torch.empty((), dtype=torch.int64).random_(-(2**63), None))
        torch.bitwise_xor(pool[place : place + len(piece)], bits, out=piece)
    return words


@cache
def _pool(device: torch.device) -> Tensor:
    always = torch.Generator().manual_seed(0)
    return torch.empty(POOL, dtype=torch.int64).random_(-(2**63), None, generator=always).to(device)


class _Frozen(torch.autograd.Function):
    """x (N, in), weight (out, in), bias (out,) -> (N, out), where only x may learn."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return grad @ weight, None, None


class _LoraProduct(torch.autograd.Function):
    """x (N, in), frozen weight (out, in), bias (out,), then down (r, in) and up (out_i, r) of each update -> (N, out).

    `places` holds, for each update, the columns [begin, end) of the output that it adds to and its factor. All of it is
    done here by hand rather than by autograd, because a step's many small operations cost more than their arithmetic.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        places: tuple[tuple[int, int, float], ...],
        rate: float,
        *matrices: Tensor,
    ) -> Tensor:
        ranks = [matrix.shape[0] for matrix in matrices[::2]]
        down = torch.cat(matrices[::2]).to(x.dtype)  # (R, in)
        ups = [(matrix * factor).to(x.dtype) for matrix, (_, _, factor) in zip(matrices[1::2], places, strict=True)]
        kept = _kept(x, rate) if _threshold(rate) else None
        seen = x if kept is None else x * kept  # (N, in) what the adapters read
        inner = seen @ down.t()  # (N, R)
        ctx.save_for_backward(weight, down, seen, inner, kept, *ups)
        ctx.places, ctx.ranks = places, ranks
        out = _linear(x, weight, bias)
        for part, up, (begin, end, _) in zip(inner.split(ranks, 1), ups, places, strict=True):
            out[:, begin:end].addmm_(part, up.t())  # not one block-diagonal product, two thirds of which are zeros
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # grad (N, out)
        weight, down, seen, inner, kept, *ups = ctx.saved_tensors
        need_x, _, need_bias = ctx.needs_input_grad[:3]
        grads_out = [grad[:, begin:end] for begin, end, _ in ctx.places]  # each (N, out_i)
        grad_inner = torch.cat([part @ up for part, up in zip(grads_out, ups, strict=True)], 1)  # (N, R)
        grad_x = None
        if need_x:  # not for the lowest adapted layer: below it nothing learns
            grad_x = grad @ weight  # (N, in)
            if kept is None:
                grad_x.addmm_(grad_inner, down)
            else:
                grad_x.addcmul_(grad_inner @ down, kept)
        grad_bias = grad.sum(0) if need_bias else None
        of_downs = (grad_inner.t() @ seen).float().split(ctx.ranks)  # each (r, in)
        grads: list[Tensor] = []
        parts = inner.split(ctx.ranks, 1)
        for of_down, part, grad_out, (_, _, factor) in zip(of_downs, parts, grads_out, ctx.places, strict=True):
            # As (r, out_i) and then turned: a ninth faster than the other way round.
            grads += [of_down, (part.t() @ grad_out).t().float().mul_(factor)]
        return grad_x, None, grad_bias, None, None, *grads
