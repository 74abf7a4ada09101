"""Softmax's gradient, by torch's own kernel and without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from pennyweight.model.kernels import packed_attention as attention


@pytest.fixture
def fresh_probe() -> Iterator[None]:
    attention._has_softmax_backward.cache_clear()
    yield
    attention._has_softmax_backward.cache_clear()


def another_signature(grad: torch.Tensor) -> torch.Tensor:
    return grad


def other_values(grad: torch.Tensor, weights: torch.Tensor, dim: int, dtype: torch.dtype) -> torch.Tensor:
    return grad


@pytest.mark.usefixtures("fresh_probe")
@pytest.mark.parametrize(
    "kernel",
    ["torch's", None, another_signature, other_values],
    ids=lambda kernel: getattr(kernel, "__name__", str(kernel)),
)
def test_the_gradient_is_autograds(kernel: str | Callable[..., object] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if kernel is None:
        monkeypatch.delattr(torch, "_softmax_backward_data")
    elif callable(kernel):
        monkeypatch.setattr(torch, "_softmax_backward_data", kernel)
    assert attention._has_softmax_backward() == (kernel == "torch's")
    scores = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    grad = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weights = torch.softmax(scores, -1)
    weights.backward(grad)
    assert scores.grad is not None
    torch.testing.assert_close(attention.softmax_backward(grad, weights.detach()), scores.grad)
