"""Accelerate for one run: device, gradient scaling and experiment trackers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from ..model.device import Runtime
from ..recipe.schema import TrainRecipe
from .checkpoint import Checkpoint
from .energy import Meter


def make_accelerator(
    settings: TrainRecipe, runtime: Runtime, folder: Path | None, resumed: Checkpoint | None = None
) -> Accelerator:
    """Accelerate for one run: gradient scaling in fp16, trackers if asked for.

    The encoder computes in its own number format, in training as in prediction, and needs no autocast around it.

    Args:
        resumed: the checkpoint the run resumes from; its trackers resume their own runs.
    """
    _reset_accelerate()
    accelerator = Accelerator(
        mixed_precision="fp16" if runtime.precision == "fp16" else "no",
        cpu=runtime.device.type == "cpu",
        log_with=settings.track or None,
        project_dir=str(folder) if folder is not None else ("." if settings.track else None),
    )
    if settings.track:
        accelerator.init_trackers(
            "pennyweight",
            config={k: str(v) for k, v in settings.model_dump().items()},
            init_kwargs={} if resumed is None else _resume_arguments(resumed),
        )
    return accelerator


def _reset_accelerate() -> None:
    """Forget the precision of an earlier run: Accelerate keeps one state per process.

    The method is private to Accelerate. Without it, only a run in another precision than the first one in the process
    fails, with Accelerate's own message.
    """
    reset = getattr(AcceleratorState, "_reset_state", None)
    if reset is not None:
        reset(reset_partial_state=True)


def prepare_optimizer(accelerator: Accelerator, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimizer as it is, unless gradients are scaled.

    Accelerate's wrappers look for optional packages in every step, on the disk. They are used only where they do
    something, which is scaling for fp16.
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


def end_training(accelerator: Accelerator, meter: Meter) -> float | None:
    """Tell each tracker that its run ended; the joules it took. Accelerate's own would end the process group, too."""
    joules = meter.joules()
    for tracker in accelerator.trackers:
        tracker.finish()
    return joules


def tracker_runs(accelerator: Accelerator) -> dict[str, str]:
    """The name of the run in each tracker, kept with the checkpoints."""
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


def _resume_arguments(resumed: Checkpoint) -> dict[str, dict[str, Any]]:
    """Each tracker's arguments for resuming its own run after the checkpoint's step."""
    ids, step = resumed.progress.get("trackers", {}), resumed.step
    arguments: dict[str, dict[str, Any]] = {"tensorboard": {"purge_step": step + 1}}
    if "wandb" in ids:
        arguments["wandb"] = {"id": ids["wandb"], "resume": "allow"}
    if "mlflow" in ids:
        arguments["mlflow"] = {"run_id": ids["mlflow"]}
    if "trackio" in ids:
        arguments["trackio"] = {"name": ids["trackio"], "resume": "allow"}
    return arguments
