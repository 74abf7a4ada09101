"""The saved classifier: what files it holds, how they are written, checked and read.

| file                                | holds                                                             |
|-------------------------------------|-------------------------------------------------------------------|
| pennyweight.json                    | the manifest: format, labels, backbone, versions, checksums       |
| recipe.yaml                         | the resolved recipe; trains the same again                        |
| plan.json                           | what is trained, part by part                                     |
| metrics.json                        | what was measured                                                 |
| adapter/adapter_config.json         | the adapter as PEFT describes it (absent for head-only)           |
| adapter/adapter_model.safetensors   | the adapter as PEFT stores it                                     |
| head.safetensors                    | the classification head                                           |
| answers.safetensors                 | what it answered to the validation and test rows, and how surely  |
| tokenizer/                          | the tokenizer as transformers stores it                           |
| README.md                           | the model card                                                    |

The frozen backbone is not copied: it is named, and its weights' checksum is kept and compared.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors import numpy as arrays
from safetensors.torch import load_file, save_file

from . import __version__
from .budget.plan import Plan
from .data.labels import LabelSet
from .errors import ArtifactError
from .files import fsync_folder, sha256, storage_errors
from .model import adapt
from .model.backbone import Backbone, load_tokenizer, resolve
from .model.build import Classifier, build
from .model.runtime import Runtime
from .recipe import Recipe, parse

FORMAT = 1
MANIFEST = "pennyweight.json"
ADAPTER = "adapter/adapter_model.safetensors"
HEAD = "head.safetensors"
ANSWERS = "answers.safetensors"
# A classifier's files are small; anything larger was not written by us.
LARGEST_FILE = 1 << 30


@dataclass
class Artifact:
    """A trained classifier in memory, with all that describes it; `answers` as `reporting.rows` names its arrays."""

    model: Classifier
    tokenizer: Any
    backbone: Backbone
    labels: LabelSet
    recipe: Recipe
    plan: Plan
    metrics: dict[str, Any]
    card: str = ""
    answers: dict[str, np.ndarray] = field(default_factory=dict)


def versions() -> dict[str, str]:
    """What computed the figures."""
    packages = ("torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors")
    known = {"python": platform.python_version(), "pennyweight": __version__}
    return known | {name: importlib.metadata.version(name) for name in packages}


def save(artifact: Artifact, folder: str | Path) -> Path:
    """Write the artifact into `folder` (made if missing): everything aside first, then renamed, the manifest last.

    Raises:
        StorageError: when it cannot be written; what was there before is intact.
    """
    folder = Path(folder)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".artifact.", suffix=".part", dir=folder))
        try:
            _write(artifact, aside)
            files = sorted(file.relative_to(aside).as_posix() for file in aside.rglob("*") if file.is_file())
            manifest = _manifest(artifact) | {"sha256": {name: sha256(aside / name) for name in files}}
            text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
            (aside / MANIFEST).write_text(text, encoding="utf-8")
            for name in [*files, MANIFEST]:
                with (aside / name).open("rb+") as handle:
                    os.fsync(handle.fileno())
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
            for name in [*files, MANIFEST]:
                (aside / name).replace(folder / name)
            fsync_folder(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return folder


def _write(artifact: Artifact, folder: Path) -> None:
    artifact.recipe.save(folder / "recipe.yaml")
    _dump(folder / "plan.json", artifact.plan.to_json())
    _dump(folder / "metrics.json", artifact.metrics)
    (folder / "README.md").write_text(artifact.card, encoding="utf-8")
    head = {name: tensor.detach().cpu().contiguous() for name, tensor in artifact.model.head.state_dict().items()}
    save_file(head, folder / HEAD)
    artifact.tokenizer.save_pretrained(folder / "tokenizer")
    if artifact.answers:
        arrays.save_file(
            {name: np.ascontiguousarray(rows) for name, rows in artifact.answers.items()}, folder / ANSWERS
        )
    if artifact.plan.adapter is not None:
        config = adapt.lora_config(artifact.plan.adapter, artifact.backbone.config)
        config.base_model_name_or_path = artifact.backbone.name
        config.inference_mode = True
        config.save_pretrained(folder / "adapter")
        save_file(adapt.adapter_state(artifact.model.module), folder / ADAPTER)


def _dump(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _manifest(artifact: Artifact) -> dict[str, Any]:
    backbone = artifact.backbone
    return {
        "format": FORMAT,
        "versions": versions(),
        "labels": artifact.labels.to_json(),
        "max_length": artifact.recipe.data.max_length,
        "pooling": artifact.recipe.model.pooling,
        "head": asdict(artifact.plan.head),
        "backbone": {
            "name": backbone.name,
            "revision": backbone.revision,
            "fingerprint": backbone.fingerprint(),
            "config": backbone.config,
        },
    }


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of a saved classifier, after every file was checked against it.

    Raises:
        ArtifactError: no artifact, a newer format, a missing, foreign or damaged file.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not folder.is_dir():
        raise ArtifactError("no such classifier", where=folder, expected="a folder that `pennyweight train` wrote")
    if not path.is_file():
        hint = "the run did not finish; go on with --resume" if (folder / "checkpoints").is_dir() else None
        raise ArtifactError(f"not a saved classifier: no {MANIFEST}", where=folder, remedy=hint)
    try:
        manifest: dict[str, Any] = _read_json(path)
        version, digests = manifest["format"], dict(manifest["sha256"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _damaged(path, "the manifest cannot be read") from error
    if not isinstance(version, int) or version > FORMAT:
        raise ArtifactError(
            "this classifier was saved by a newer Pennyweight",
            where=folder,
            expected=f"format {FORMAT} or older",
            received=f"format {version}",
            remedy="upgrade: pip install -U pennyweight",
        )
    for name, digest in digests.items():
        _check_file(folder, name, digest)
    for name in ("recipe.yaml", "plan.json", "metrics.json", HEAD, "tokenizer/tokenizer.json"):
        if name not in digests:
            raise _damaged(path, f"the manifest does not list {name}")
    return manifest


def _read_json(path: Path) -> Any:
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError("far too large")
    return json.loads(path.read_text("utf-8"))


def _check_file(folder: Path, name: str, digest: object) -> None:
    file = folder / name
    # A name that leads out of the folder, by `..` or by a link, is never followed.
    if not file.resolve().is_relative_to(folder.resolve()):
        raise _damaged(file, "the manifest names a file outside the folder")
    if not file.is_file():
        raise _damaged(file, "a file is missing")
    if file.stat().st_size > LARGEST_FILE:
        raise _damaged(file, "a file is far larger than a classifier's files are")
    if sha256(file) != digest:
        raise _damaged(file, "a file does not match its checksum")


def _damaged(where: Path, problem: str) -> ArtifactError:
    return ArtifactError(problem, where=where, remedy="copy the folder again from its source, or train again")


def load(folder: str | Path, runtime: Runtime, backbone: str | None = None) -> Artifact:
    """Read and check a saved classifier.

    Args:
        runtime: device and number format to compute with.
        backbone: where the backbone is now, if not where it was when the classifier was trained.

    Raises:
        ArtifactError: damaged, foreign or newer files, or another backbone than the one it was trained on.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    try:
        recipe = parse(_yaml(folder / "recipe.yaml"))
        plan = Plan.from_json(_read_json(folder / "plan.json"))
        labels = LabelSet.from_json(manifest["labels"])
        metrics = _read_json(folder / "metrics.json")
        stored = manifest["backbone"]
        name, revision, fingerprint = stored["name"], stored["revision"], stored["fingerprint"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(folder / MANIFEST, f"unexpected content ({error})") from error
    found = resolve(backbone or name, None if backbone else revision)
    if found.fingerprint() != fingerprint:
        raise ArtifactError(
            "the backbone's weights are not those this classifier was trained on",
            where=found.folder,
            expected=f"fingerprint {fingerprint[:16]}...",
            remedy="give the right folder with --backbone",
        )
    model = build(found, recipe.model, plan, len(labels.names), runtime)
    adapter = tensors(folder / ADAPTER) if plan.adapter is not None else {}
    adapt.load_adapter_state(model.module, adapter)
    head = tensors(folder / HEAD)
    if {key: value.shape for key, value in head.items()} != {k: v.shape for k, v in model.head.state_dict().items()}:
        raise _damaged(folder / HEAD, "the head's tensors do not fit its plan")
    model.head.load_state_dict(head)
    tokenizer = load_tokenizer(folder / "tokenizer")
    card = (folder / "README.md").read_text("utf-8") if (folder / "README.md").is_file() else ""
    return Artifact(model.eval(), tokenizer, found, labels, recipe, plan, metrics, card, read_answers(folder))


def read_answers(folder: str | Path) -> dict[str, np.ndarray]:
    """What a saved classifier answered when it was trained; empty where nothing was kept.

    Raises:
        ArtifactError: when the file is damaged.
    """
    path = Path(folder) / ANSWERS
    if not path.is_file():
        return {}
    try:
        found: dict[str, np.ndarray] = arrays.load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise _damaged(path, f"not a readable safetensors file ({error})") from error
    return found


def read_recipe(folder: str | Path) -> Recipe:
    """The recipe a saved classifier was trained with, after the files were checked."""
    read_manifest(folder)
    try:
        return parse(_yaml(Path(folder) / "recipe.yaml"), Path(folder) / "recipe.yaml")
    except ValueError as error:
        raise _damaged(Path(folder) / "recipe.yaml", str(error)) from error


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """A safetensors file, refused when it is damaged or holds anything but finite numbers.

    Raises:
        ArtifactError: naming the file and the tensor.
    """
    try:
        found = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, f"not a readable safetensors file ({error})") from error
    for name, tensor in found.items():
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            raise _damaged(path, f"tensor {name} holds values that are not finite numbers")
    return found


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    values = yaml.safe_load(path.read_text("utf-8"))
    if not isinstance(values, dict):
        raise ValueError("recipe.yaml holds no sections")
    return values
