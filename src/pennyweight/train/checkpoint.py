"""Checkpoints that cannot be half: written aside, flushed, renamed, with a sealed manifest of checksums. No pickle.

| file                                       | holds                                                            |
|--------------------------------------------|------------------------------------------------------------------|
| weights, optimizer, best, random           | `.safetensors`, see `Checkpoint`                                 |
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
class Checkpoint:
    """Everything a run needs to continue as if it had never stopped.

    Attributes:
        weights: trained tensors by name.
        optimizer: AdamW's moments, `{parameter name}/{exp_avg|exp_avg_sq|step}`.
        best: the trained tensors of the best evaluation so far (may be empty).
        random: generator states, as uint8 tensors.
        progress: plain JSON: step (the sampler's position with it), history, best value, patience, sums of the running
            training loss, seconds, loss scale, trackers' run ids.
        fingerprint: what the run depends on (recipe, data, backbone, versions), compared before resuming.
        average: `weight_averaging.Average.state()`; empty if nothing is averaged.
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


def save(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write `folder/step-N`, then drop all but the newest `keep` checkpoints.

    Raises:
        StorageError: when the disk is full; what was there before is intact.
    """
    target = folder / f"step-{checkpoint.step:08d}"
    with atomic_folder(target) as aside:
        names = TENSORS if not checkpoint.average else (*TENSORS, "average")
        for name in names:
            save_file(getattr(checkpoint, name), aside / f"{name}.safetensors")
        facts = {"progress": checkpoint.progress, "fingerprint": checkpoint.fingerprint}
        (aside / STATE).write_text(to_json(facts), encoding="utf-8")
        files = {STATE, *(f"{name}.safetensors" for name in names)}
        manifest = {"format": FORMAT, "step": checkpoint.step, "sha256": {name: sha256(aside / name) for name in files}}
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


def read(path: Path) -> Checkpoint:
    """Read one complete checkpoint.

    Raises:
        ArtifactError: when its content is not what a checkpoint holds.
    """
    try:
        facts = json.loads((path / STATE).read_text("utf-8"))
        names = [*TENSORS, "average"] if (path / AVERAGE).is_file() else TENSORS
        tensors = {name: load((path / f"{name}.safetensors").read_bytes()) for name in names}
        return Checkpoint(**tensors, progress=facts["progress"], fingerprint=facts["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ArtifactError("this checkpoint cannot be read", where=path, received=str(error)) from error


def latest(folder: Path) -> Checkpoint | None:
    """The newest complete checkpoint below `folder`, or None. Remains of killed writers are removed first."""
    recover(folder)
    return next((read(path) for _, path in reversed(_listed(folder)) if _is_whole(path)), None)


def keep_up_to(folder: Path, checkpoint: Checkpoint | None) -> None:
    """Drop the checkpoints after this one, and damaged ones; None drops all.

    Otherwise a later step of an earlier run would count as the newest of the run that resumes here.
    """
    recover(folder)
    whole = {path for step, path in complete(folder) if checkpoint is not None and step <= checkpoint.step}
    for path in folder.glob("step-*"):
        if path not in whole:
            shutil.rmtree(path, ignore_errors=True)


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
    """Set what `optimizer_tensors()` returned."""
    for key, value in tensors.items():
        name, _, part = key.rpartition("/")
        # AdamW keeps `step` on the CPU unless fused or capturable; fused needs it on the parameter's device.
        optimizer.state[parameters[name]][part] = value.to(parameters[name].device)


def check_fits(checkpoint: Checkpoint, parameters: dict[str, torch.nn.Parameter]) -> None:
    """Check a checkpoint against the model that is to resume from it: the same tensors with the same shapes.

    Raises:
        ArtifactError: the plan has changed, or somebody else made the checkpoint.
    """
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    moments = {f"{name}/{part}": shape for name, shape in shapes.items() for part in ("exp_avg", "exp_avg_sq")}
    moments |= {f"{name}/step": torch.Size() for name in shapes}
    for kind, wanted, held in (
        ("weights", shapes, checkpoint.weights),
        ("optimizer", moments, checkpoint.optimizer),
        ("best", shapes, checkpoint.best),
    ):
        found = {name: tensor.shape for name, tensor in held.items()}
        if found != wanted and (found or kind == "weights"):
            wrong = min(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
            raise ArtifactError(
                "the checkpoint does not fit the plan",
                where=f"{kind}.safetensors -> {wrong}",
                expected=f"shape {tuple(wanted[wrong])}" if wrong in wanted else "no such tensor",
                received=f"shape {tuple(found[wrong])}" if wrong in found else "no such tensor",
                remedy="resume with the recipe the run was started with, or start again with --overwrite",
            )
    if "cpu" not in checkpoint.random:
        raise ArtifactError("the checkpoint has no random state", where="random.safetensors -> cpu")
