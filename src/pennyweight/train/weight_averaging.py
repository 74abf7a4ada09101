"""Averages of the weights over the run: what is evaluated and kept. Training continues from the weights themselves.

ema           w̄ ← d w̄ + (1 - d) w after each step, with d = min(decay, (1 + t) / (10 + t)): few steps average little.
              Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992; the ramp of d as in
              https://www.tensorflow.org/api_docs/python/tf/train/ExponentialMovingAverage.
last_epochs   the plain mean of the weights at the ends of the last few epochs. Izmailov et al., "Averaging Weights
              Leads to Wider Optima and Better Generalization", UAI 2018, https://arxiv.org/abs/1803.05407.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..errors import ArtifactError
from ..recipe.schema import TrainRecipe


class Average:
    """A running average of trained parameters.

    Args:
        parameters: what is trained, by name.
        saved: `state()` of the run that is resumed; empty for a new one.

    Raises:
        ArtifactError: when `saved` does not fit the parameters.
    """

    def __init__(
        self, settings: TrainRecipe, parameters: Mapping[str, nn.Parameter], saved: Mapping[str, Tensor]
    ) -> None:
        self._kind = settings.average
        self._decay = settings.average_decay
        self._most = settings.average_epochs
        self._parameters = parameters
        self._kept: list[dict[str, Tensor]] = []
        for key in sorted(saved):
            number, _, name = key.partition("/")
            if name not in parameters or saved[key].shape != parameters[name].shape or not number.isdecimal():
                raise ArtifactError(
                    "the checkpoint's average does not fit the plan",
                    where=f"average.safetensors -> {key}",
                    remedy="resume with the recipe the run was started with, or start again with --overwrite",
                )
            while len(self._kept) <= int(number):
                self._kept.append({})
            self._kept[int(number)][name] = saved[key].to(parameters[name].device)

    def update(self, step: int, per_epoch: int) -> None:
        """Take in the weights after optimizer step `step` (from 1) of epochs of `per_epoch` steps."""
        if self._kind == "ema":
            if not self._kept:
                self._kept.append(self._now())
                return
            decay = min(self._decay, (1 + step) / (10 + step))
            with torch.no_grad():
                for name, average in self._kept[0].items():
                    average.lerp_(self._parameters[name], 1 - decay)
        elif self._kind == "last_epochs" and step % per_epoch == 0:
            self._kept = [*self._kept, self._now()][-self._most :]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the parameters hold the average, if there is one yet; afterwards, what they held."""
        if not self._kept:
            yield
            return
        before = self._now()
        try:
            self._put({name: torch.stack([one[name] for one in self._kept]).mean(0) for name in self._kept[0]})
            yield
        finally:
            self._put(before)

    def state(self) -> dict[str, Tensor]:
        """The state for checkpoints: `{number}/{parameter name}`."""
        return {
            f"{number}/{name}": tensor.clone()
            for number, one in enumerate(self._kept)
            for name, tensor in one.items()
        }  # fmt: skip

    def _now(self) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self._parameters[name].copy_(value)
