"""Attention in blocks is attention under a window: the same values and gradients, whatever the lengths."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pennyweight.model.kernels import local_attention, packed_attention
from pennyweight.model.kernels.local_attention import Blocks, attend_near
from pennyweight.model.kernels.packed_attention import Packing, attend_packed
from pennyweight.model.kernels.rotary import RotaryPositions

HEADS, WIDTH = 2, 4


@pytest.mark.parametrize("most", [1, 1 << 24], ids=["one-text-at-a-time", "all-texts"])
@pytest.mark.parametrize("window", [1, 3, 4])
@pytest.mark.parametrize("lengths", [[23, 2, 14, 1], [16, 16], [24, 13]], ids=str)
def test_blocks_give_what_a_window_gives(
    lengths: list[int], window: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_attention, "SAVE_WEIGHTS_UP_TO", 0)
    monkeypatch.setattr(packed_attention, "MOST_WEIGHTS", most)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)).long()
    positions, generator = RotaryPositions(50.0, window), torch.Generator().manual_seed(0)
    rows = torch.randn(Packing(mask).size, 3 * HEADS * WIDTH, generator=generator)
    grad = torch.randn(len(rows), HEADS * WIDTH, generator=generator)
    grad[sum(lengths) :] = 0  # nothing reads the unused rows
    calls: list[int] = []
    attended = local_attention._attended
    monkeypatch.setattr(local_attention, "_attended", lambda *given: calls.append(1) or attended(*given))  # type: ignore[func-returns-value]
    found, expected = (gradient(attend, rows, grad, mask, positions) for attend in (attend_near, attend_packed))
    assert calls  # in blocks
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one[: sum(lengths)], other[: sum(lengths)], atol=1e-5, rtol=1e-5)


def gradient(attend: object, rows: Tensor, grad: Tensor, mask: Tensor, positions: RotaryPositions) -> list[Tensor]:
    given = rows.clone().requires_grad_()
    out: Tensor = attend(given, Packing(mask), HEADS, positions)  # type: ignore[operator]
    return [out.detach(), *torch.autograd.grad(out, given, grad)]


def test_short_texts_and_layers_without_a_window_are_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_attention, "_attended", None)  # would be called
    monkeypatch.setattr(packed_attention, "SAVE_WEIGHTS_UP_TO", 10)
    for length, positions in (
        (10, RotaryPositions(50.0, 1)),
        (11, RotaryPositions(50.0, 4)),
        (11, RotaryPositions(5.0)),
    ):
        packing = Packing(torch.ones(2, length, dtype=torch.long))
        rows = torch.randn(packing.size, 3 * HEADS * WIDTH)
        assert torch.equal(attend_near(rows, packing, HEADS, positions), attend_packed(rows, packing, HEADS, positions))
    rows = torch.randn(packing.size, 3 * HEADS * WIDTH)
    assert torch.equal(attend_near(rows, packing, HEADS), attend_packed(rows, packing, HEADS))


@pytest.mark.parametrize(("length", "width"), [(7, 3), (9, 3), (10, 1)])
def test_blocks_are_put_together_again(length: int, width: int) -> None:
    blocks = Blocks(length, width)
    x = torch.randn(2, length, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(blocks.whole(blocks.own(x)), x)
    copies = blocks.summed(blocks.with_neighbours(torch.ones_like(x)))  # how often each token is read
    assert copies[0, :, 0].tolist() == [
        sum(0 <= token // width + step < blocks.count for step in (-1, 0, 1)) for token in range(length)
    ]
