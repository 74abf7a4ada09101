"""GeGLU (Shazeer 2020, https://arxiv.org/abs/2002.05202): the gelu of one half of each row times the other half."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .exact_backward import exact_backward


class _GatedGelu(torch.autograd.Function):
    """Saves nothing but its input; the gradients of both halves are written into one tensor, without a copy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, approximate: str) -> Tensor:
        inner, gate = x.chunk(2, -1)
        ctx.save_for_backward(x)
        ctx.approximate = approximate
        return F.gelu(inner, approximate=approximate).mul_(gate)

    @staticmethod
    @exact_backward
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        inner, gate = x.chunk(2, -1)
        grad_x = torch.empty_like(x)
        grad_inner, grad_gate = grad_x.chunk(2, -1)
        torch.mul(grad, F.gelu(inner, approximate=ctx.approximate), out=grad_gate)
        gelu_backward(grad * gate, inner, ctx.approximate, grad_inner)
        return grad_x, None


def gated_gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """gelu(first half) * second half of each row: (N, 2F) -> (N, F).

    Args:
        approximate: `none` or `tanh`, as in `torch.nn.functional.gelu`.
    """
    out: Tensor = _GatedGelu.apply(x, approximate)  # type: ignore[no-untyped-call]
    return out


def gelu_backward(grad: Tensor, x: Tensor, approximate: str, out: Tensor) -> None:
    """Write the gradient of x into `out`, from that of gelu(x); all (N, F)."""
    if _has_gelu_backward():
        _gelu_backward(grad, x, approximate, out)
        return
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (found,) = torch.autograd.grad(F.gelu(x, approximate=approximate), x, grad)
    out.copy_(found)


def _gelu_backward(grad: Tensor, x: Tensor, approximate: str, out: Tensor) -> None:
    """The backward pass of torch's own gelu, which autograd would call after computing the gelu once more."""
    torch.ops.aten.gelu_backward.grad_input(grad, x, approximate=approximate, grad_input=out)


@cache
def _has_gelu_backward() -> bool:
    """Whether the backward pass of torch's gelu can be called: it has no public name."""
    x, out = torch.tensor([0.0, 30.0, -30.0]), torch.empty(3)
    try:
        _gelu_backward(torch.ones(3), x, "none", out)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.equal(out, torch.tensor([0.5, 1.0, 0.0]))
