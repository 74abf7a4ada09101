"""Optimizer groups and learning-rate schedules, as plain functions of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from ..recipe.schema import TrainRecipe


def adamw(parameters: dict[str, nn.Parameter], settings: TrainRecipe) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101) with biases, norms and magnitudes undecayed.

    Args:
        parameters: what is trained, by name.
    """
    decayed = [parameter for parameter in parameters.values() if parameter.ndim >= 2]
    plain = [parameter for parameter in parameters.values() if parameter.ndim < 2]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=(settings.adam_beta1, settings.adam_beta2),
        eps=settings.adam_epsilon,
        fused=True,
    )


def warmup_steps(total: int, settings: TrainRecipe) -> int:
    """Steps of rising learning rate: `warmup_steps` if given, otherwise `warmup_ratio` of all, rounded up."""
    steps = settings.warmup_steps if settings.warmup_steps is not None else math.ceil(total * settings.warmup_ratio)
    return min(total, steps)


def learning_rate(step: int, total: int, settings: TrainRecipe) -> float:
    """The rate for optimizer step `step` (from 0) of `total`, as transformers' schedules give it.

    linear: falls to 0. cosine: half a cosine to 0. cosine_restarts: `num_cycles` half cosines, each from the peak
    (SGDR, Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983). constant: stays. All rise linearly in warm-up.
    """
    warm = warmup_steps(total, settings)
    if step < warm:
        return settings.learning_rate * step / max(1, warm)
    progress = (step - warm) / max(1, total - warm)
    if progress >= 1.0:
        factor = 1.0 if settings.scheduler == "constant" else 0.0
    elif settings.scheduler == "linear":
        factor = 1.0 - progress
    elif settings.scheduler == "cosine":
        factor = 0.5 * (1.0 + math.cos(math.pi * progress))
    elif settings.scheduler == "cosine_restarts":
        factor = 0.5 * (1.0 + math.cos(math.pi * ((settings.num_cycles * progress) % 1.0)))
    else:
        factor = 1.0
    return settings.learning_rate * factor
