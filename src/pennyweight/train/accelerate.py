"""Accelerate for one run: device, mixed precision and experiment trackers."""

from __future__ import annotations

from pathlib import Path

from accelerate import Accelerator
from accelerate.state import AcceleratorState

from ..model.runtime import Runtime
from ..recipe import TrainRecipe


def make_accelerator(recipe: TrainRecipe, runtime: Runtime, engine: str, folder: Path | None) -> Accelerator:
    """Accelerate for one run: autocast where transformers' own forward pass computes, trackers if asked for.

    The fast encoder keeps its frozen weights in the right format itself, and needs no autocast.
    """
    # Accelerate's state is one per process; a second run in the same process may want another precision.
    AcceleratorState._reset_state(reset_partial_state=True)
    mixed = runtime.precision if engine == "reference" or runtime.precision == "fp16" else "fp32"
    accelerator = Accelerator(
        mixed_precision="no" if mixed == "fp32" else mixed,
        cpu=runtime.device.type == "cpu",
        log_with=recipe.track or None,
        project_dir=str(folder) if folder is not None else ("." if recipe.track else None),
    )
    if recipe.track:
        accelerator.init_trackers("pennyweight", config={k: str(v) for k, v in recipe.model_dump().items()})
    return accelerator
