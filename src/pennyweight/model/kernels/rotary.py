"""Rotary positions (Su et al. 2021, https://arxiv.org/abs/2104.09864, section 3.4.2) and local windows of attention.

Queries and keys are turned by angles that grow with their positions, so that their product depends on the distance
between them. A layer may also see only the tokens near each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True)
class RotaryPositions:
    """How the attention of one layer reads positions.

    Attributes:
        theta: the base of the angles' wavelengths: pair i of a head of d numbers turns by theta^(-2i/d) a token.
        window: how many tokens before and after its own a token sees; None if it sees its whole text.
    """

    theta: float
    window: int | None = None

    def window_within(self, length: int) -> int | None:
        """The window, or None if no token of a text of `length` tokens lies outside another's."""
        return None if self.window is None or length <= self.window + 1 else self.window


@lru_cache(128)  # a few kinds of layers, in batches of every length
def rotary_angles(
    theta: float, length: int, width: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cosines and sines of positions 0 to T - 1 for heads of d numbers, each (T, d / 2); computed in fp32."""
    with torch.inference_mode(False):  # a backward pass may save them, whoever asks first
        frequencies = theta ** -(torch.arange(0, width, 2, device=device).float() / width)  # (d / 2,)
        angles = torch.outer(torch.arange(length, device=device).float(), frequencies)
        return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate_(x: Tensor, positions: RotaryPositions, back: bool = False) -> Tensor:
    """Turn vectors by their positions, in place and outside autograd: (..., T, d).

    Args:
        back: by the opposite angles, which is the inverse and so the gradient.
    """
    cos, sin = rotary_angles(positions.theta, *x.shape[-2:], x.dtype, x.device)
    turn_(x, cos, -sin if back else sin)
    return x


def turn_(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Turn vectors (..., d) by angles whose cosines and sines (..., d / 2) are given, in place and outside autograd."""
    first, second = x.chunk(2, -1)  # transformers pairs number i with number i + d / 2
    crossed = first * sin
    first.mul_(cos).addcmul_(second, sin, value=-1)
    second.mul_(cos).add_(crossed)


def rotated(x: Tensor, positions: RotaryPositions) -> Tensor:
    """`rotate_` into a new tensor, with a gradient by autograd: (..., T, d)."""
    cos, sin = rotary_angles(positions.theta, *x.shape[-2:], x.dtype, x.device)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
