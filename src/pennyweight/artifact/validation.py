"""Checks of a saved classifier's files before they are used.

Checksums reveal damage, but not bad intentions. So each part of a saved classifier is read as plain data, compared
with the others, and refused in one line if it holds anything that saving never writes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError
from torch import Tensor

from ..budget.count import count
from ..budget.plan import Plan
from ..data.input_spec import InputSpec
from ..data.labels import LabelSet
from ..errors import ArtifactError, InputError
from ..model.adapters.lora import lora_config
from ..model.backbone import Backbone, resolve
from ..model.tokenizer import load_tokenizer
from ..recipe.loading import parse
from ..recipe.schema import Recipe
from ..storage.system_errors import storage_errors
from .file_contents import damaged, parse_json
from .layout import MANIFEST
from .metrics_file import MetricsFile, MultiLabelMetricsFile
from .saved_files import SavedFiles

# Fields of a backbone's config about who wrote it, not about what it computes.
CONFIG_NOTES = ("_name_or_path", "transformers_version", "torch_dtype", "dtype")
# Fields of PEFT's config about where and by what the adapter was saved.
ADAPTER_NOTES = ("base_model_name_or_path", "inference_mode", "peft_version", "revision")
# Pydantic's errors for figures that are missing, or that a later version added: neither is damage.
ADDED_OR_LEFT_OUT = ("missing", "extra_forbidden")


def check_recipe(saved: SavedFiles, name: str) -> Recipe:
    """The recipe in a file.

    Raises:
        ArtifactError: as all functions here.
    """
    try:
        return parse(saved.yaml(name))
    except (InputError, ValueError, TypeError) as error:
        raise _as_damaged(saved.path(name), error) from error


def check_plan(saved: SavedFiles, name: str) -> Plan:
    """The plan in a file."""
    try:
        return Plan.from_json(saved.json(name))
    except (InputError, ValueError, TypeError) as error:
        raise _as_damaged(saved.path(name), error) from error


def check_metrics(saved: SavedFiles, name: str, *, multi: bool) -> dict[str, Any]:
    """The metrics in a file, if every figure in it has the form that `metrics_file` gives it.

    Args:
        multi: whether the classifier is multi-label.
    """
    found = saved.json(name)
    if found and (found.get("task") == "multi") != multi:
        raise damaged(saved.path(name), "the figures are not those of a classifier of this task")
    try:
        (MultiLabelMetricsFile if multi else MetricsFile).model_validate(found)
    except ValidationError as error:
        wrong = [one for one in error.errors(include_url=False) if one["type"] not in ADDED_OR_LEFT_OUT]
        if wrong:
            place = " -> ".join(str(part) for part in wrong[0]["loc"])
            raise damaged(saved.path(name), f"{place}: {wrong[0]['msg']}") from error
    return found


def check_predictions(saved: SavedFiles, name: str, labels: LabelSet) -> dict[str, np.ndarray]:
    """The predictions kept from training; empty where none were kept."""
    found = saved.arrays(name) if name in saved else {}
    for key, values in found.items():
        sound = values.ndim == 1 and bool(np.isfinite(values).all())
        if key.endswith((".labels", ".predicted")):  # multi-label, a hash of the labels
            sound &= np.issubdtype(values.dtype, np.integer)
            sound &= labels.multi or bool(((values >= 0) & (values < len(labels))).all())
        if not sound:
            raise damaged(saved.path(name), f"{key} holds what are no predictions")
    return found


def check_labels(path: Path, manifest: Mapping[str, Any]) -> LabelSet:
    """The class names in a manifest."""
    try:
        return LabelSet.from_json(manifest.get("labels"))
    except InputError as error:
        raise _as_damaged(path, error) from error


def check_input_spec(path: Path, manifest: Mapping[str, Any], recipe: Recipe) -> InputSpec:
    """How texts and labels are read; classifiers of version 0.1 did not record it, so their recipe says."""
    if "reading" not in manifest:
        return InputSpec.of_recipe(recipe.data)
    try:
        return InputSpec.from_json(manifest["reading"])
    except InputError as error:
        raise _as_damaged(path, error) from error


def check_agreement(path: Path, manifest: Mapping[str, Any], recipe: Recipe, plan: Plan) -> None:
    """Compare what the manifest repeats with the recipe and the plan."""
    repeated = {
        "max_length": recipe.data.max_length,
        "pooling": recipe.model.pooling,
        "head": asdict(plan.head),
    }
    for key, value in repeated.items():
        if manifest.get(key) != value:
            raise damaged(path, f"{key} is not what the recipe and the plan say")


def backbone_name(saved: SavedFiles) -> str:
    """The backbone's name in a manifest: `embedded`, a folder or a hub id."""
    stored = saved.facts.get("backbone")
    name = stored.get("name") if isinstance(stored, dict) else None
    if not isinstance(name, str):
        raise damaged(saved.path(MANIFEST), "the manifest names no backbone")
    return name


def check_backbone(path: Path, manifest: Mapping[str, Any], instead: str | None) -> Backbone:
    """The backbone that a manifest names, if its weights and config are those of training.

    Args:
        instead: where it is now, if it moved.
    """
    stored = manifest.get("backbone")
    if not isinstance(stored, dict):
        raise damaged(path, "the manifest names no backbone")
    name, revision, fingerprint = (stored.get(key) for key in ("name", "revision", "fingerprint"))
    if not isinstance(name, str) or not isinstance(fingerprint, str) or not isinstance(revision, str | None):
        raise damaged(path, "the manifest names no backbone")
    found = resolve(instead or name, None if instead else revision)
    if found.fingerprint() != fingerprint or _computes(found.config) != _computes(stored.get("config")):
        raise ArtifactError(
            "the backbone is not the one this classifier was trained on",
            where=found.folder,
            expected=f"weights of fingerprint {fingerprint[:16]}... and the config they had",
            remedy="give the right folder with --backbone",
        )
    return found


def _computes(config: Any) -> Any:
    if not isinstance(config, dict):
        return None
    return {key: value for key, value in config.items() if key not in CONFIG_NOTES}


def check_adapter(saved: SavedFiles, config: str, weights: str, plan: Plan, backbone: Backbone) -> dict[str, Tensor]:
    """The adapter's tensors, if PEFT's config beside them agrees with the plan."""
    if plan.adapter is None:
        return {}
    for name in (config, weights):
        if name not in saved:
            raise damaged(saved.path(name), "a file is missing")
    received = saved.json(config)
    expected = json.loads(json.dumps(lora_config(plan.adapter, backbone.config).to_dict(), default=list))
    for key, value in expected.items():
        if key not in ADAPTER_NOTES and _unordered(received.get(key)) != _unordered(value):
            raise damaged(saved.path(config), f"{key} is not what the plan says")
    return saved.tensors(weights)


def _unordered(value: Any) -> Any:
    return sorted(value, key=str) if isinstance(value, list) else value


def check_numbers(path: Path, plan: Plan, backbone: Backbone, labels: int, saved: Iterable[Tensor]) -> None:
    """Compare the plan with the count that the backbone's config gives, and with the numbers that were saved."""
    held = sum(tensor.numel() for tensor in saved)
    try:
        counted = count(backbone.config, adapter=plan.adapter, head=plan.head, labels=labels).trainable
    except (InputError, ValueError, TypeError) as error:
        raise _as_damaged(path, error) from error
    if not held == counted == plan.count.trainable:
        raise damaged(path, f"a plan of {plan.count.trainable:,} parameters for {held:,} saved numbers")


def check_tokenizer(saved: SavedFiles, name: str, backbone: Backbone) -> Any:
    """The tokenizer, if it is data alone and the backbone has a vector for every id.

    transformers reads folders, so the checked bytes are written to one that nobody else can change.

    Args:
        name: its folder in the classifier's.
    """
    folder = saved.path(name)
    files = {file.removeprefix(f"{name}/"): held for file, held in saved.content.items() if file.startswith(f"{name}/")}
    for file, content in sorted(files.items()):
        if file.endswith(".json") and "/" not in file and "auto_map" in parse_json(content, folder / file):
            raise damaged(folder / file, "the tokenizer wants to run code of its own (auto_map)")
    with storage_errors(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory(prefix="pennyweight-") as private:
        for file, content in files.items():
            (Path(private) / file).parent.mkdir(parents=True, exist_ok=True)
            (Path(private) / file).write_bytes(content)
        loaded = _tokenizer(Path(private), folder, backbone)
    loaded.name_or_path = str(folder)
    return loaded


def _tokenizer(private: Path, folder: Path, backbone: Backbone) -> Any:
    try:
        loaded = load_tokenizer(private)
        largest = max(loaded.backend_tokenizer.get_vocab().values())
        loaded.backend_tokenizer.encode("A word, and a sign of no alphabet: \ue000")
    except BaseException as error:
        # The Rust side raises bare exceptions, and panics that are not even exceptions, over files it cannot read.
        panic = type(error).__name__ == "PanicException"
        if isinstance(error, MemoryError) or not (panic or isinstance(error, Exception)):
            raise
        raise damaged(
            folder, f"the tokenizer cannot be read ({str(error).replace(str(private), str(folder))[:200]})"
        ) from error
    if largest >= backbone.config.get("vocab_size", largest + 1):
        raise damaged(folder, f"the tokenizer gives ids up to {largest:,}, for which the backbone has no vectors")
    return loaded


def _as_damaged(path: Path, error: Exception) -> ArtifactError:
    return error if isinstance(error, ArtifactError) else damaged(path, f"unexpected content: {str(error)[:200]}")
