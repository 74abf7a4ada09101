"""Saving a classifier: everything aside first, then renamed, the manifest last."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import numpy as arrays
from safetensors.torch import save_file
from torch import Tensor

from ..data.provenance import shareable_recipe
from ..errors import ArtifactError
from ..model.adapters.lora import lora_config
from ..storage.atomic import atomic_items
from ..storage.json_files import to_json
from .artifact import Artifact
from .layout import ADAPTER, CARD, HEAD, ITEMS, MANIFEST, METRICS, PLAN, PREDICTIONS, RANGES, RECIPE, WRITER
from .manifest import manifest_text
from .versions import versions


def save_artifact(artifact: Artifact, folder: str | Path, *, replace: bool = True) -> Path:
    """Write the artifact into `folder` (made if missing): everything aside first, then renamed, the manifest last.

    Whoever loads meanwhile, or after a save that failed or was killed, gets the former classifier or this one.

    Args:
        replace: whether what is in the folder under the same names may go.

    Raises:
        StorageError: when it cannot be written; what was there before is intact.
        ArtifactError: when something is there already and may not be replaced.
    """
    folder = Path(folder)
    taken = [name for name in ITEMS if os.path.lexists(folder / name)]
    if taken and not replace:
        raise ArtifactError(f"{taken[0]} is already there", where=folder, remedy="choose another folder")
    with atomic_items(folder, WRITER, MANIFEST, retired=ITEMS) as aside:
        _write(artifact, aside)
        files = sorted(file.relative_to(aside).as_posix() for file in aside.rglob("*") if file.is_file())
        (aside / MANIFEST).write_text(manifest_text(_facts(artifact), aside, files), encoding="utf-8")
    return folder


def _write(artifact: Artifact, folder: Path) -> None:
    shareable_recipe(artifact.recipe).save(folder / RECIPE)
    _write_json(folder / PLAN, artifact.plan.to_json())
    _write_json(folder / METRICS, artifact.metrics)
    (folder / CARD).write_text(artifact.card, encoding="utf-8")
    save_file(_contiguous(artifact.tensors.head), folder / HEAD)
    artifact.tokenizer.save_pretrained(folder / "tokenizer")
    if artifact.predictions:
        arrays.save_file(
            {name: np.ascontiguousarray(rows) for name, rows in artifact.predictions.items()}, folder / PREDICTIONS
        )
    if artifact.ranges:
        save_file(artifact.ranges, folder / RANGES)
    if artifact.plan.adapter is not None:
        config = lora_config(artifact.plan.adapter, artifact.backbone.config)
        config.base_model_name_or_path = artifact.backbone.name
        config.inference_mode = True
        config.save_pretrained(folder / "adapter")
        save_file(_contiguous(artifact.tensors.adapter), folder / ADAPTER)


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _write_json(path: Path, value: Any) -> None:
    path.write_text(to_json(value), encoding="utf-8")


def _facts(artifact: Artifact) -> dict[str, Any]:
    backbone = artifact.backbone
    return {
        "versions": versions(),
        "labels": artifact.labels.to_json(),
        "reading": artifact.input_spec.to_json(),
        "max_length": artifact.recipe.data.max_length,
        "pooling": artifact.recipe.model.pooling,
        "head": asdict(artifact.plan.head),
        "backbone": {
            "name": backbone.name,
            "revision": backbone.revision,
            "fingerprint": backbone.fingerprint(),
            "config": backbone.config,
        },
        "run": artifact.run,
    }
