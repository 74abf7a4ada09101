"""Products with frozen weights.

Modules that read the same rows (query, key, value) are one product: their weights are adjacent in memory. On a CPU in
bf16 the product is oneDNN's own, from prepacked weights: stored once in the layout that its kernels read. Otherwise
weights are packed in each call, which takes a tenth to a fifth of the call in training and half of it for one short
text (benchmarks/kernels.py). `torch.compile` does both with frozen weights, and results are the same bit for bit.

In training steps the product may instead be computed in int8, see `int8_rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from threading import RLock
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ...storage.locks import hold_over_forks
from .exact_backward import exact_backward
from .int8_rows import Int8Rows

_Product = Callable[[Tensor, Tensor | None, Tensor | None], Tensor]  # rows, bias, addend

# By the first of the modules: what was computed from them, the versions of the tensors it came from, and these tensors.
_CACHE: WeakKeyDictionary[nn.Module, dict[Any, tuple[Any, list[Tensor], Any]]] = WeakKeyDictionary()
# Held while an entry is computed or weights are moved: a model's first forward passes may run in several threads.
_CACHE_LOCK = RLock()
hold_over_forks(_CACHE_LOCK)


class Linear(nn.Linear):
    """`nn.Linear` that computes in its weight's type, whatever its bias's and input's: (..., in) -> (..., out)."""

    def forward(self, input: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(self.weight.dtype)
        return linear(input.to(self.weight.dtype), self.weight, bias)


class FrozenMatrix:
    """A frozen matrix (out, in), outside autograd.

    Args:
        weight: the matrix, or where it is held in another form what gives it.
        prepack: whether it will not change, so that it may be prepacked where oneDNN has a kernel for that.
        int8: whether its products are computed in int8; only of a matrix in fp32 that will not change.
    """

    def __init__(self, weight: Tensor | Callable[[], Tensor], prepack: bool, int8: bool = False) -> None:
        self._weight = weight
        self._int8 = int8
        self._prepacks = (
            prepack
            and isinstance(weight, Tensor)
            and weight.dtype == torch.bfloat16
            and weight.device.type == "cpu"
            and _has_onednn_products()
        )
        self._forward: _Product | None = None
        self._backward: _Product | None = None

    @property
    def weight(self) -> Tensor:
        """The matrix (out, in)."""
        return self._weight if isinstance(self._weight, Tensor) else self._weight()

    def multiply(self, x: Tensor, bias: Tensor | None, addend: Tensor | None = None) -> Tensor:
        """x Wᵀ + b + addend: (N, in) -> (N, out)."""
        if not self._prepares(x):
            out = linear(x, self.weight, bias)
            return out if addend is None else out.add_(addend)
        if self._forward is None:
            with _CACHE_LOCK:
                self._forward = self._forward or self._prepare(self.weight)
        return self._forward(x, bias, addend)

    def input_gradient(self, grad: Tensor, addend: Tensor | None = None) -> Tensor:
        """The gradient of x, grad W + addend: (N, out) -> (N, in)."""
        if not self._prepares(grad):
            out = grad @ self.weight
            return out if addend is None else out.add_(addend)
        if self._backward is None:
            with _CACHE_LOCK:
                self._backward = self._backward or self._prepare(self.weight.t().contiguous())
        return self._backward(grad, None, addend)

    def _prepares(self, x: Tensor) -> bool:
        return self._int8 or (self._prepacks and x.dtype == torch.bfloat16)

    def _prepare(self, weight: Tensor) -> _Product:
        """The product with a weight (out, in) that is laid out for it once."""
        if self._int8:
            return Int8Rows(weight)
        packed = _prepack(weight)
        return lambda x, bias, addend: _onednn_product(x, packed, bias, addend)


def is_quantized(linear: nn.Linear) -> bool:
    """Whether a linear module's weight is held in 4 bits and computed when it is read, see `nf4_linear`."""
    return bool(getattr(linear, "quantized", False))


def multiply_in_int8(module: nn.Module, names: Iterable[str]) -> None:
    """Let the products of frozen linear layers be computed in int8 while they are in training mode, in place."""
    for name in names:
        module.get_submodule(name).int8_in_training = True  # type: ignore[assignment]


def _in_int8(linear: nn.Linear) -> bool:
    return linear.training and bool(getattr(linear, "int8_in_training", False))


def frozen_matrix(linears: Sequence[nn.Linear], prepack: bool = True) -> FrozenMatrix:
    """The stacked weights of linear modules as one frozen matrix, (sum of out, in), cached until they change.

    Args:
        linears: modules whose weights are not trained.
        prepack: False where the weights may change without a new version, as when PEFT merges an adapter.
    """
    if any(is_quantized(each) for each in linears):
        return FrozenMatrix(lambda: torch.cat([each.weight for each in linears]), prepack=False)
    weights = [each.weight for each in linears]
    if not prepack or any(weight.is_inference() for weight in weights):  # inference tensors have no version
        return FrozenMatrix(stacked_weight(linears), prepack=False)
    int8 = all(map(_in_int8, linears))
    made: FrozenMatrix = cached(
        linears, weights, ("weight", int8), lambda: FrozenMatrix(stacked_weight(linears), prepack=True, int8=int8)
    )
    return made


def frozen_rows(linear: nn.Linear, rows: slice, prepack: bool = True) -> FrozenMatrix:
    """Some rows of a linear module's weight, those of some of its outputs, as `frozen_matrix` gives all of them."""
    if is_quantized(linear):
        return FrozenMatrix(lambda: linear.weight[rows], prepack=False)
    weight = linear.weight
    if not prepack or weight.is_inference():
        return FrozenMatrix(weight.detach()[rows], prepack=False)
    int8 = _in_int8(linear)
    made: FrozenMatrix = cached(
        [linear],
        [weight],
        ("rows", rows.start, rows.stop, int8),
        lambda: FrozenMatrix(weight.detach()[rows], prepack=True, int8=int8),
    )
    return made


def cached(modules: Sequence[nn.Module], tensors: Sequence[Tensor], what: Any, make: Callable[[], Any]) -> Any:
    """The result of `make` on the modules' frozen tensors, cached until these change."""
    with _CACHE_LOCK:
        known = _CACHE.setdefault(modules[0], {})
        key = (what, len(modules))
        made = known.get(key)
        if made is None or made[0] != _versions(tensors):
            with torch.inference_mode(False):  # a training step may come after a prediction
                value = make()  # before the versions are read: it may move the tensors
            # The tensors are held, not the parameters, so that no other tensor can take their addresses.
            made = known[key] = (_versions(tensors), [tensor.detach() for tensor in tensors], value)
    return made[2]


def _versions(tensors: Sequence[Tensor]) -> tuple[Any, ...]:
    return tuple((tensor.data_ptr(), tensor._version, tensor.dtype, tensor.device) for tensor in tensors)


def stacked_weight(linears: Sequence[nn.Linear]) -> Tensor:
    """The weights stacked by rows, (sum of out, in), without a second copy in memory.

    The parameters become views of one tensor the first time, and again after a move to another device.
    """
    with _CACHE_LOCK:
        return _stacked_weight(linears)


def _stacked_weight(linears: Sequence[nn.Linear]) -> Tensor:
    weights = [each.weight for each in linears]
    if len(weights) == 1:
        return weights[0]
    if any(weight.requires_grad for weight in weights):
        return torch.cat(weights)
    first, size, address = weights[0], weights[0].element_size(), weights[0].data_ptr()
    adjacent = all(weight.is_contiguous() for weight in weights)
    for weight in weights:
        adjacent = adjacent and weight.data_ptr() == address and _same_storage(first, weight)
        address += weight.numel() * size
    rows = sum(weight.shape[0] for weight in weights)
    if not adjacent:
        stack = torch.cat([weight.detach() for weight in weights])
        for weight, view in zip(weights, stack.split([weight.shape[0] for weight in weights]), strict=True):
            weight.data = view
    return first.detach().as_strided((rows, first.shape[1]), (first.shape[1], 1))


def joined_bias(linears: Sequence[nn.Linear], dtype: torch.dtype) -> Tensor | None:
    """The biases end to end, (sum of out,), in the type of the computation; cached if they are frozen."""
    biases = [each.bias for each in linears]
    if biases[0] is None:
        return None
    if any(bias.requires_grad or bias.is_inference() for bias in biases):  # trained, or without a version
        return torch.cat([bias.to(dtype) for bias in biases])
    joined: Tensor = cached(linears, biases, dtype, lambda: torch.cat([bias.detach() for bias in biases]).to(dtype))
    return joined


class FrozenProduct(torch.autograd.Function):
    """x (N, in), a frozen matrix (out, in), bias (out,), addend (N, out) or None -> (N, out) and x itself.

    A residual connection uses the x that is returned: its gradient then comes back here and is added inside the
    product, which takes a third of the time of a separate addition. The addend is added inside the product, too.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: FrozenMatrix, bias: Tensor | None, addend: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        ctx.weight = weight
        ctx.set_materialize_grads(False)
        return weight.multiply(x, bias, addend), x

    @staticmethod
    @exact_backward
    def backward(ctx: Any, grad: Tensor | None, grad_passed: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return grad_passed, None, None, None
        need_x, _, _, need_addend = ctx.needs_input_grad
        grad_x = ctx.weight.input_gradient(grad, grad_passed) if need_x else None
        return grad_x, None, None, grad if need_addend else None


def _onednn_product(x: Tensor, packed: Tensor, bias: Tensor | None, addend: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear` and a sum, without a copy of the bias into every row of a bf16 result."""
    if addend is None:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    else:
        out = torch.ops.mkldnn._linear_pointwise.binary(x, addend.contiguous(), packed, bias, "add")
    return out


def _prepack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
    return packed


@cache
def _has_onednn_products() -> bool:
    """Whether oneDNN's own product exists and gives the same bits. torch.compile calls it; it has no public name."""
    x = torch.arange(4.0).view(2, 2).bfloat16()
    try:
        plain, summed = (_onednn_product(x, _prepack(x), x[0], addend) for addend in (None, x))
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.equal(plain, linear(x, x, x[0])) and torch.equal(summed, plain + x)


def _same_storage(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
