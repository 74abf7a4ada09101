"""The backward pass of our own autograd functions, whatever autocast the caller is in.

The encoders compute outside of autocast. A caller may run the backward pass inside of it, where autocast would give the
products of a gradient another number format than their forward pass had. `torch.amp.custom_bwd` does the same for one
kind of device that has to be named.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def exact_backward(backward: Callable[..., Any]) -> Callable[..., Any]:
    """`once_differentiable`, outside of autocast: for the `backward` of a `torch.autograd.Function`."""

    @once_differentiable
    @wraps(backward)
    def outside(ctx: Any, *grads: Tensor | None) -> Any:
        kind = next((grad.device.type for grad in grads if grad is not None), "cpu")
        if not torch.is_autocast_enabled(kind):  # to enter the context takes longer than to start a kernel
            return backward(ctx, *grads)
        with torch.autocast(kind, enabled=False):
            return backward(ctx, *grads)

    return outside
