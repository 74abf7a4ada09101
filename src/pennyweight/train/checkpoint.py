"""Checkpoints that cannot be half: written aside, flushed, renamed, with a sealed manifest of checksums. No pickle.

| file                                       | holds                                                            |
|--------------------------------------------|------------------------------------------------------------------|
| weights, optimizer, best, random           | `.safetensors`, see `State`                                      |
| average                                    | the same, where the run averages weights                         |
| state.json                                 | progress and fingerprint                                         |
| manifest.json                              | the step, the SHA-256 of each file above and, its seal, its own  |
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from ..errors import ArtifactError
from ..storage.atomic import atomic_folder, recover
from ..storage.checksums import seal, sha256, unseal
from ..storage.json_files import to_json

FORMAT = 1
MANIFEST = "manifest.json"
STATE = "state.json"
TENSORS = ("weights", "optimizer", "best", "random")
AVERAGE = "average.safetensors"
FILES = {STATE, *(f"{name}.safetensors" for name in TENSORS)}


@dataclass
class State:
    """Everything a run needs to go on as if it had never stopped.

    Attributes:
        weights: trained tensors by name.
        optimizer: AdamW's moments, `{parameter name}/{exp_avg|exp_avg_sq|step}`.
        best: the trained tensors of the best evaluation so far (may be empty).
        random: generator states, as uint8 tensors.
        progress: plain JSON: step (the sampler's position with it), history, best value, patience, sums of the running
            training loss, seconds, loss scale, trackers' run ids.
        fingerprint: what the run depends on (recipe, data, backbone, versions), compared before resuming.
        average: `average.Average.state()`; empty where nothing is averaged.
    """

    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    best: dict[str, Tensor]
    random: dict[str, Tensor]
    progress: dict[str, Any]
    fingerprint: dict[str, Any]
    average: dict[str, Tensor] = field(default_factory=dict)

    @property
    def step(self) -> int:
        return int(self.progress["step"])


def save(folder: Path, state: State, keep: int) -> Path:
    """Write `folder/step-N`, then drop all but the newest `keep` checkpoints.

    Raises:
        StorageError: when the disk is full; what was there before is intact.
    """
    target = folder / f"step-{state.step:08d}"
    with atomic_folder(target) as aside:
        names = TENSORS if not state.average else (*TENSORS, "average")
        for name in names:
            save_file(getattr(state, name), aside / f"{name}.safetensors")
        facts = {"progress": state.progress, "fingerprint": state.fingerprint}
        (aside / STATE).write_text(to_json(facts), encoding="utf-8")
        files = {STATE, *(f"{name}.safetensors" for name in names)}
        manifest = {"format": FORMAT, "step": state.step, "sha256": {name: sha256(aside / name) for name in files}}
        (aside / MANIFEST).write_text(seal(manifest), encoding="utf-8")
    # What was just written needs no checking; hashing every file again at each save would.
    for _, old in _listed(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def _listed(folder: Path) -> list[tuple[int, Path]]:
    """Folders with a whole manifest, as (step, path), oldest first. The step is the manifest's, not the name's."""
    found = []
    for path in folder.glob(f"[!.]*/{MANIFEST}"):
        try:
            manifest = unseal(path.read_text("utf-8"))
            if manifest["format"] == FORMAT and manifest["sha256"].keys() - {AVERAGE} == FILES:
                found.append((int(manifest["step"]), path.parent))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # not a checkpoint, or a damaged one: an older one will do
    return sorted(found)


def _is_whole(path: Path) -> bool:
    try:
        digests = unseal((path / MANIFEST).read_text("utf-8"))["sha256"]
        return all(sha256(path / name) == digest for name, digest in digests.items())
    except OSError:
        return False


def complete(folder: Path) -> list[tuple[int, Path]]:
    """Checkpoints with all their files, each with its checksum, as (step, path), oldest first."""
    return [(step, path) for step, path in _listed(folder) if _is_whole(path)]


def read(path: Path) -> State:
    """Read one complete checkpoint.

    Raises:
        ArtifactError: when its content is not what a checkpoint holds.
    """
    try:
        facts = json.loads((path / STATE).read_text("utf-8"))
        names = [*TENSORS, "average"] if (path / AVERAGE).is_file() else TENSORS
        tensors = {name: load((path / f"{name}.safetensors").read_bytes()) for name in names}
        return State(**tensors, progress=facts["progress"], fingerprint=facts["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ArtifactError("this checkpoint cannot be read", where=path, received=str(error)) from error


def latest(folder: Path) -> State | None:
    """The newest complete checkpoint below `folder`, or None. What killed writers left is cleaned up first."""
    recover(folder)
    return next((read(path) for _, path in reversed(_listed(folder)) if _is_whole(path)), None)


def keep_up_to(folder: Path, state: State | None) -> None:
    """Drop what a run that goes on from `state` will write anew, and what is damaged; None drops all.

    Else a later step of a former run would count as this run's newest.
    """
    recover(folder)
    whole = {path for step, path in complete(folder) if state is not None and step <= state.step}
    for path in folder.glob("step-*"):
        if path not in whole:
            shutil.rmtree(path, ignore_errors=True)


def random_state() -> dict[str, Tensor]:
    """The states of torch's generators: the CPU's and every accelerator's."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda:{number}": state for number, state in enumerate(torch.cuda.get_rng_state_all())}
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_state(states: dict[str, Tensor]) -> None:
    """Put `random_state()` back, as far as this machine has the same devices."""
    torch.set_rng_state(states["cpu"])
    for name, state in states.items():
        kind, _, number = name.partition(":")
        if kind == "cuda" and int(number) < torch.cuda.device_count():
            torch.cuda.set_rng_state(state, int(number))
    if "mps" in states and torch.backends.mps.is_available():
        torch.mps.set_rng_state(states["mps"])


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


def check_fits(state: State, parameters: dict[str, torch.nn.Parameter]) -> None:
    """Hold a checkpoint to the model that goes on from it: every tensor has its place, every place its tensor.

    Raises:
        ArtifactError: after a change of plan that was waved through, or a checkpoint made by somebody else.
    """
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    moments = {f"{name}/{part}": shape for name, shape in shapes.items() for part in ("exp_avg", "exp_avg_sq")}
    moments |= {f"{name}/step": torch.Size() for name in shapes}
    for kind, wanted, held in (
        ("weights", shapes, state.weights),
        ("optimizer", moments, state.optimizer),
        ("best", shapes, state.best),
    ):
        found = {name: tensor.shape for name, tensor in held.items()}
        if found != wanted and (found or kind == "weights"):
            wrong = min(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
            raise ArtifactError(
                "the checkpoint does not fit the plan",
                where=f"{kind}.safetensors -> {wrong}",
                expected=f"shape {tuple(wanted[wrong])}" if wrong in wanted else "no such tensor",
                received=f"shape {tuple(found[wrong])}" if wrong in found else "no such tensor",
                remedy="resume with the recipe the run was started with, or start anew with --overwrite",
            )
    if "cpu" not in state.random:
        raise ArtifactError("the checkpoint holds no random state", where="random.safetensors -> cpu")
