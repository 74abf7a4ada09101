"""Random matrices, and how far a product is from another."""

from __future__ import annotations

import torch
from torch import Tensor


def tensors(*shapes: tuple[int, ...]) -> list[Tensor]:
    """Normal random numbers, the same every time."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def error(found: Tensor, expected: Tensor) -> float:
    """The norm of the difference, relative to what is expected."""
    return float((found - expected).norm() / expected.norm())
