"""GeGLU: the values and gradients of two operations under autograd, with torch's own kernel and without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch.nn import functional as F

from pennyweight.model.kernels import gated_gelu as kernel


@pytest.fixture
def fresh_probe() -> Iterator[None]:
    kernel._has_gelu_backward.cache_clear()
    yield
    kernel._has_gelu_backward.cache_clear()


def missing(*arguments: object) -> None:
    raise AttributeError("no such operator")


def other_values(grad: torch.Tensor, x: torch.Tensor, approximate: str, out: torch.Tensor) -> None:
    out.zero_()


@pytest.mark.usefixtures("fresh_probe")
@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("own", [None, missing, other_values], ids=["torch's", "missing", "other-values"])
def test_values_and_gradients_are_autograds(
    own: Callable[..., None] | None, approximate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if own is not None:
        monkeypatch.setattr(kernel, "_gelu_backward", own)
    assert kernel._has_gelu_backward() == (own is None)
    x = torch.randn(5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    grad = torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    first, second = x.chunk(2, -1)
    expected = F.gelu(first, approximate=approximate) * second
    found = kernel.gated_gelu(x, approximate)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, x, grad), torch.autograd.grad(expected, x, grad))
