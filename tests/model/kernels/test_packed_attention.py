"""Softmax's gradient, by torch's own kernel and without it."""

from __future__ import annotations

import pytest
import torch

from pennyweight.model.kernels import packed_attention as attention


@pytest.mark.parametrize("kernel", [True, False])
def test_the_gradient_is_autograds(kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kernel:
        monkeypatch.setattr(attention, "_SOFTMAX_BACKWARD", None)
    scores = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    grad = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weights = torch.softmax(scores, -1)
    weights.backward(grad)
    assert scores.grad is not None
    torch.testing.assert_close(attention.softmax_backward(grad, weights.detach()), scores.grad)
