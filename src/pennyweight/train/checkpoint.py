"""Checkpoints that cannot be half: written aside, flushed, renamed, with a manifest of checksums. No pickle."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import ArtifactError
from ..files import atomic_folder, sha256

FORMAT = 1


@dataclass
class State:
    """Everything a run needs to go on as if it had never stopped.

    Attributes:
        weights: trained tensors by name.
        optimizer: AdamW's moments, `{parameter name}/{exp_avg|exp_avg_sq|step}`.
        best: the trained tensors of the best evaluation so far (may be empty).
        random: generator states, as uint8 tensors.
        progress: plain JSON: step, history, best value, patience, sums of the running training loss, seconds.
        fingerprint: what the run depends on (recipe, data, backbone, versions), compared before resuming.
    """

    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    best: dict[str, Tensor]
    random: dict[str, Tensor]
    progress: dict[str, Any]
    fingerprint: dict[str, Any]

    @property
    def step(self) -> int:
        return int(self.progress["step"])


TENSOR_FILES = ("weights", "optimizer", "best", "random")


def save(folder: Path, state: State, keep: int) -> Path:
    """Write `folder/step-N`, then drop all but the newest `keep` complete checkpoints.

    Raises:
        StorageError: when the disk is full; what was there before is intact.
    """
    target = folder / f"step-{state.step:08d}"
    with atomic_folder(target) as aside:
        for name in TENSOR_FILES:
            save_file(getattr(state, name), aside / f"{name}.safetensors")
        facts = {"progress": state.progress, "fingerprint": state.fingerprint}
        (aside / "state.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
        files = {file.name: sha256(file) for file in sorted(aside.iterdir())}
        manifest = {"format": FORMAT, "step": state.step, "sha256": files}
        (aside / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for _, old in complete(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def complete(folder: Path) -> list[tuple[int, Path]]:
    """Checkpoints whose manifest is there and whose files have its checksums, as (step, path), oldest first.

    The step comes from the manifest, never from the folder's name.
    """
    found = []
    for manifest in folder.glob("*/manifest.json"):
        try:
            facts = json.loads(manifest.read_text("utf-8"))
            whole = facts["format"] == FORMAT and all(
                sha256(manifest.parent / name) == digest for name, digest in facts["sha256"].items()
            )
            if whole and not manifest.parent.name.startswith("."):
                found.append((int(facts["step"]), manifest.parent))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # not a checkpoint, or a damaged one: an older one will do
    return sorted(found)


def load(path: Path) -> State:
    """Read one complete checkpoint.

    Raises:
        ArtifactError: when its content is not what a checkpoint holds.
    """
    try:
        facts = json.loads((path / "state.json").read_text("utf-8"))
        tensors = {name: load_file(path / f"{name}.safetensors") for name in TENSOR_FILES}
        return State(**tensors, progress=facts["progress"], fingerprint=facts["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError("this checkpoint cannot be read", where=path, received=str(error)) from error


def latest(folder: Path) -> State | None:
    """The newest complete checkpoint below `folder`, or None."""
    found = complete(folder) if folder.is_dir() else []
    return load(found[-1][1]) if found else None


def random_state() -> dict[str, Tensor]:
    """The states of torch's generators, CPU and every CUDA device."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda:{number}": state for number, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def set_random_state(states: dict[str, Tensor]) -> None:
    """Put `random_state()` back."""
    torch.set_rng_state(states["cpu"])
    if torch.cuda.is_available():
        for name, state in states.items():
            if name.startswith("cuda:"):
                torch.cuda.set_rng_state(state, int(name.partition(":")[2]))


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: dict[int, str]) -> dict[str, Tensor]:
    """AdamW's state by parameter name; `names` maps `id(parameter)` to its name."""
    return {
        f"{names[id(parameter)]}/{key}": value.detach().clone()
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def set_optimizer_tensors(
    optimizer: torch.optim.Optimizer, parameters: dict[str, torch.nn.Parameter], tensors: dict[str, Tensor]
) -> None:
    """Put `optimizer_tensors()` back."""
    for key, value in tensors.items():
        name, _, part = key.rpartition("/")
        # AdamW keeps `step` on the CPU unless fused or capturable; fused wants it beside the parameter.
        optimizer.state[parameters[name]][part] = value.to(parameters[name].device)
