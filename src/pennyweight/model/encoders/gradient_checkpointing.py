"""Activation checkpointing (Chen et al. 2016, https://arxiv.org/abs/1604.06174): layers computed again in backward.

Of a layer only its input is kept; the backward pass computes the layer again, with the same dropout. Memory falls from
all layers' activations to their inputs and one layer's activations, for one more forward pass.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def run_layer(layer: Callable[[Tensor], Tensor], x: Tensor, recompute: bool) -> Tensor:
    """A layer's output, whose backward pass computes the layer again if `recompute`; without gradients nothing differs.

    The same bits with and without on a CPU: random numbers are drawn from the generator's state at the first pass.

    Args:
        layer: from the layer's input to its output, of the same shape.
        x: its input; it need not have a gradient.
    """
    if not recompute or not torch.is_grad_enabled():
        return layer(x)
    out: Tensor = checkpoint(layer, x, use_reentrant=False)
    return out
