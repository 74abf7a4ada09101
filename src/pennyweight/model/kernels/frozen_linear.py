"""Products with frozen weights.

Modules that read the same rows (query, key, value) are one product: their weights lie below each other in memory. On
a CPU in bf16 the product is oneDNN's own, from weights that were laid out once the way its kernels read them; otherwise
they are laid out in each call, which takes a tenth to a fifth of the call in training and half of it for one short text
(benchmarks/kernels.py). Both are what `torch.compile` does with frozen weights, and the bits are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from threading import RLock
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

# By the first of the modules: what was made of them, with the state they were in and the tensors it was made of.
_MADE: WeakKeyDictionary[nn.Module, dict[Any, tuple[Any, list[Tensor], Any]]] = WeakKeyDictionary()
# Held while anything is made or moved: the first forward passes of a model may run in several threads at once.
_MAKING = RLock()


class Linear(nn.Linear):
    """`nn.Linear` that computes in its weight's type, whatever types the bias and the input are kept in."""

    def forward(self, input: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(self.weight.dtype)
        return linear(input.to(self.weight.dtype), self.weight, bias)


class Matrix:
    """A frozen matrix (out, in), outside autograd.

    Args:
        weight: the matrix.
        settled: whether it stays as it is, so that it may be laid out anew, once.
    """

    def __init__(self, weight: Tensor, settled: bool) -> None:
        self.weight = weight
        self._packs = settled and weight.dtype == torch.bfloat16 and weight.device.type == "cpu" and _has_products()
        self._forward: Tensor | None = None
        self._backward: Tensor | None = None

    def times(self, x: Tensor, bias: Tensor | None, plus: Tensor | None = None) -> Tensor:
        """x Wᵀ + b: (N, in) -> (N, out), and what is to be added to it."""
        if not self._packs or x.dtype != torch.bfloat16:
            out = linear(x, self.weight, bias)
            return out if plus is None else out.add_(plus)
        if self._forward is None:
            with _MAKING:
                self._forward = _packed(self.weight) if self._forward is None else self._forward
        return _product(x, self._forward, bias, plus)

    def back(self, grad: Tensor, plus: Tensor | None = None) -> Tensor:
        """The gradient of x: grad W, (N, out) -> (N, in), and what is to be added to it."""
        if not self._packs or grad.dtype != torch.bfloat16:
            out = grad @ self.weight
            return out if plus is None else out.add_(plus)
        if self._backward is None:
            with _MAKING:
                self._backward = _packed(self.weight.t().contiguous()) if self._backward is None else self._backward
        return _product(grad, self._backward, None, plus)


def matrix(linears: Sequence[nn.Linear], settled: bool = True) -> Matrix:
    """The weights below each other as one frozen matrix; what it was laid out as is kept until they change.

    Args:
        linears: modules whose weights learn nothing.
        settled: False where the weights may change unseen, as PEFT's merging changes them.
    """
    weights = [each.weight for each in linears]
    if not settled or any(weight.is_inference() for weight in weights):  # the latter count no changes
        return Matrix(stacked(linears), settled=False)
    made: Matrix = _once(linears, weights, "weight", lambda: Matrix(stacked(linears), settled=True))
    return made


def _once(linears: Sequence[nn.Linear], tensors: Sequence[Tensor], what: Any, make: Callable[[], Any]) -> Any:
    """What `make` makes of the modules' frozen tensors, kept until these change."""
    with _MAKING:
        known = _MADE.setdefault(linears[0], {})
        key = (what, len(linears))
        made = known.get(key)
        if made is None or made[0] != _state(tensors):
            value = make()  # before the state is read: it may move them
            # The tensors are held, not the parameters, so that nothing else can come to their addresses.
            made = known[key] = (_state(tensors), [tensor.detach() for tensor in tensors], value)
    return made[2]


def _state(tensors: Sequence[Tensor]) -> tuple[Any, ...]:
    return tuple((tensor.data_ptr(), tensor._version, tensor.dtype, tensor.device) for tensor in tensors)


def stacked(linears: Sequence[nn.Linear]) -> Tensor:
    """The weights below each other, (sum of out, in), without a second copy of them in memory.

    The parameters become views of one tensor the first time, and again after a move to another device.
    """
    with _MAKING:
        return _stacked(linears)


def _stacked(linears: Sequence[nn.Linear]) -> Tensor:
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
    together: Tensor = _once(linears, biases, dtype, lambda: torch.cat([bias.detach() for bias in biases]).to(dtype))
    return together


class Frozen(torch.autograd.Function):
    """x (N, in), a frozen matrix (out, in), bias (out,), what to add (N, out) or None -> (N, out) and x itself.

    Whoever adds x to something later takes the x that is returned: its gradient then comes back to this place and is
    added inside the product, which takes a third of the time of an addition. So is `plus`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Matrix, bias: Tensor | None, plus: Tensor | None) -> tuple[Tensor, Tensor]:
        ctx.weight = weight
        ctx.set_materialize_grads(False)
        return weight.times(x, bias, plus), x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, beside: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return beside, None, None, None
        need_x, _, _, need_plus = ctx.needs_input_grad
        return ctx.weight.back(grad, beside) if need_x else None, None, None, grad if need_plus else None


def _product(x: Tensor, packed: Tensor, bias: Tensor | None, plus: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`, without its copy of the bias into every row of a bf16 result, and a sum with it."""
    if plus is None:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    else:
        out = torch.ops.mkldnn._linear_pointwise.binary(x, plus.contiguous(), packed, bias, "add")
    return out


def _packed(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
    return packed


@cache
def _has_products() -> bool:
    """Whether oneDNN's own product is there and gives the same; what torch.compile calls, but no public names."""
    x = torch.arange(4.0).view(2, 2).bfloat16()
    try:
        found, raised = (_product(x, _packed(x), x[0], plus) for plus in (None, x))
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.equal(found, linear(x, x, x[0])) and torch.equal(raised, found + x)


def _same_storage(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
