"""Rotary positions: transformers' values, their inverse, and windows."""

from __future__ import annotations

import pytest
import torch

from pennyweight.model.kernels.rotary import RotaryPositions, rotary_angles, rotate_, rotated

POSITIONS = RotaryPositions(100.0)


def test_vectors_turn_as_transformers_turns_them() -> None:
    from transformers.models.modernbert.modeling_modernbert import apply_rotary_pos_emb

    x = torch.randn(2, 3, 7, 8, generator=torch.Generator().manual_seed(0))
    cos, sin = rotary_angles(POSITIONS.theta, 7, 8, torch.float32, x.device)
    expected, _ = apply_rotary_pos_emb(x, x, torch.cat([cos, cos], 1)[None], torch.cat([sin, sin], 1)[None])
    torch.testing.assert_close(rotated(x, POSITIONS), expected)
    torch.testing.assert_close(rotate_(x.clone(), POSITIONS), expected)
    assert torch.equal(expected[..., 0, :], x[..., 0, :])  # position 0 stays


def test_turning_back_is_the_inverse_and_the_gradient() -> None:
    x = torch.randn(3, 7, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    grad = torch.randn(3, 7, 8, generator=torch.Generator().manual_seed(1))
    out = rotated(x, POSITIONS)
    torch.testing.assert_close(rotate_(out.detach().clone(), POSITIONS, back=True), x.detach())
    torch.testing.assert_close(rotate_(grad.clone(), POSITIONS, back=True), torch.autograd.grad(out, x, grad)[0])


def test_angles_that_inference_asked_for_first_serve_training() -> None:
    positions = RotaryPositions(321.0)
    with torch.inference_mode():
        rotated(torch.ones(1, 5, 4), positions)
    x = torch.ones(1, 5, 4, requires_grad=True)
    rotated(x, positions).sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize(("window", "length", "found"), [(None, 100, None), (3, 4, None), (3, 5, 3)])
def test_a_window_counts_where_a_text_is_longer(window: int | None, length: int, found: int | None) -> None:
    assert RotaryPositions(100.0, window).window_within(length) == found
