"""Losses read several steps at once."""

from __future__ import annotations

import pytest
import torch

from pennyweight.train.step_losses import LOSSES_AT_ONCE, StepLosses, add_up, steps_at_once


def test_only_a_gpu_that_trains_alone_reads_several_steps_at_once() -> None:
    assert steps_at_once(torch.device("cuda"), 1) == LOSSES_AT_ONCE > 1
    assert steps_at_once(torch.device("cuda"), 2) == 1
    assert steps_at_once(torch.device("cpu"), 1) == 1


def test_steps_are_read_in_order_with_the_mean_of_their_seconds() -> None:
    losses = StepLosses(2)
    losses.add(5, [torch.tensor(1.5), torch.tensor(0.25)], rate=0.1, texts=8, seconds=1.0)
    assert not losses.full
    losses.add(6, [3.0], rate=0.2, texts=4, seconds=2.0)
    assert losses.full
    first, second = losses.read()
    assert (first.number, first.loss_sum, first.rate, first.texts) == (5, 1.75, 0.1, 8)
    assert (second.number, second.loss_sum, second.rate, second.texts) == (6, 3.0, 0.2, 4)
    assert first.seconds == second.seconds == pytest.approx(1.5, rel=0.1)
    assert losses.read() == []
    assert not losses.full


def test_a_sum_is_that_of_one_loss_after_the_other() -> None:
    values = [1.0, 1e16, -1e16, torch.tensor(0.5)]
    assert add_up(values) == 0.5  # a compensated sum gives 1.5
