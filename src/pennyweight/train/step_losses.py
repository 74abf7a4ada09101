"""Losses of optimizer steps that are still on the device, read several at once.

To read a loss the host waits until the device has computed it, and meanwhile gives it nothing to do. So a GPU's losses
are read once in `LOSSES_AT_ONCE` steps, and wherever they are needed: before an evaluation, a checkpoint and the end.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LOSSES_AT_ONCE = 10  # not measured on a GPU; a reading costs about one launch of a kernel, and a display may lag so far


@dataclass(frozen=True)
class FinishedStep:
    """An optimizer step whose loss is known.

    Attributes:
        number: from 1.
        loss_sum: summed over its texts, in nats.
        rate: its learning rate.
        texts: how many there were.
        seconds: what it took; where several were read at once, their mean.
    """

    number: int
    loss_sum: float
    rate: float
    texts: int
    seconds: float


@dataclass(frozen=True)
class _Step:
    number: int
    losses: Sequence[Tensor | float]
    rate: float
    texts: int


def steps_at_once(device: torch.device, processes: int) -> int:
    """How many steps' losses are read together: several on a GPU, where one process trains."""
    return LOSSES_AT_ONCE if device.type == "cuda" and processes == 1 else 1


def add_up(losses: Sequence[Tensor | float]) -> float:
    """The sum as Python's floats, one after the other: `sum` rounds otherwise from Python 3.12 on."""
    total = 0.0
    for loss in losses:
        total += float(loss)
    return total


class StepLosses:
    """The steps since the last reading, in order.

    Args:
        at_once: how many steps are read together.
    """

    def __init__(self, at_once: int = 1) -> None:
        self.at_once = at_once
        self._steps: list[_Step] = []
        self._seconds = 0.0

    @property
    def full(self) -> bool:
        """Whether as many steps are unread as are read together."""
        return len(self._steps) >= self.at_once

    def add(self, number: int, losses: Sequence[Tensor | float], *, rate: float, texts: int, seconds: float) -> None:
        """Keep a step's losses unread.

        Args:
            number: number of the step, from 1.
            losses: losses of its batches, each summed over the batch's texts; scalars on the device, or numbers.
            rate, texts: as in `FinishedStep`.
            seconds: what the host took to start the step.
        """
        self._steps.append(_Step(number, losses, rate, texts))
        self._seconds += seconds

    def read(self) -> list[FinishedStep]:
        """The unread steps, once the device has computed them; none are unread afterwards.

        A step's losses are added up here in their order, so that the sum does not depend on when it is read.
        """
        began, steps, seconds = time.perf_counter(), self._steps, self._seconds
        self._steps, self._seconds = [], 0.0
        tensors = [loss for step in steps for loss in step.losses if isinstance(loss, Tensor)]
        values = iter(torch.stack(tensors).tolist() if tensors else [])  # one copy from the device
        sums = [add_up([next(values) if isinstance(loss, Tensor) else loss for loss in step.losses]) for step in steps]
        each = (seconds + time.perf_counter() - began) / max(1, len(steps))
        return [
            FinishedStep(step.number, loss_sum, step.rate, step.texts, each)
            for step, loss_sum in zip(steps, sums, strict=True)
        ]
