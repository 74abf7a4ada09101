"""Accelerate for one run: device, gradient scaling and experiment trackers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from ..model.device import Runtime
from ..recipe.loading import TrainRecipe
from .checkpoint import State


def make_accelerator(
    recipe: TrainRecipe, runtime: Runtime, folder: Path | None, resumed: State | None = None
) -> Accelerator:
    """Accelerate for one run: gradient scaling in fp16, trackers if asked for.

    The encoder computes in its own number format, in training as in prediction, and needs no autocast around it.

    Args:
        resumed: the state a run goes on from; its trackers go on with their own runs.
    """
    # Accelerate's state is one per process; a second run in the same process may want another precision.
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(
        mixed_precision="fp16" if runtime.precision == "fp16" else "no",
        cpu=runtime.device.type == "cpu",
        log_with=recipe.track or None,
        project_dir=str(folder) if folder is not None else ("." if recipe.track else None),
    )
    if recipe.track:
        accelerator.init_trackers(
            "pennyweight",
            config={k: str(v) for k, v in recipe.model_dump().items()},
            init_kwargs={} if resumed is None else going_on(resumed.progress.get("trackers", {}), resumed.step),
        )
    return accelerator


def prepare(accelerator: Accelerator, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimizer as it is, unless gradients are scaled.

    Accelerate's wrappers look for optional packages in every step, on the disk. They are gone through only where they
    do something, which is scaling for fp16.
    """
    if accelerator.scaler is None:
        return optimizer
    prepared: torch.optim.Optimizer = accelerator.prepare_optimizer(optimizer)
    return prepared


def backward(accelerator: Accelerator, loss: Tensor) -> None:
    """Gradients of the loss, scaled if fp16 asks for it."""
    (loss if accelerator.scaler is None else accelerator.scaler.scale(loss)).backward()


def clip(accelerator: Accelerator, parameters: Sequence[nn.Parameter], norm: float) -> None:
    """Scale all gradients down together until their norm is `norm`."""
    if accelerator.scaler is not None:
        accelerator.clip_grad_norm_(list(parameters), norm)  # takes the scale out of the gradients first
    else:
        torch.nn.utils.clip_grad_norm_(parameters, norm)


def run_ids(accelerator: Accelerator) -> dict[str, str]:
    """What each tracker calls its run, kept with the checkpoints."""
    found = {}
    for tracker in accelerator.trackers:
        run: Any = tracker.tracker
        if tracker.name == "wandb":
            found["wandb"] = str(run.id)
        elif tracker.name == "mlflow":
            found["mlflow"] = str(run.info.run_id)
        elif tracker.name == "trackio":
            found["trackio"] = str(run.name)
    return found


def going_on(ids: Mapping[str, str], step: int) -> dict[str, dict[str, Any]]:
    """Each tracker's arguments for going on with its former run after `step`."""
    arguments: dict[str, dict[str, Any]] = {"tensorboard": {"purge_step": step + 1}}
    if "wandb" in ids:
        arguments["wandb"] = {"id": ids["wandb"], "resume": "allow"}
    if "mlflow" in ids:
        arguments["mlflow"] = {"run_id": ids["mlflow"]}
    if "trackio" in ids:
        arguments["trackio"] = {"name": ids["trackio"], "resume": "allow"}
    return arguments
