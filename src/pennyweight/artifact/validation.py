"""Checks of a saved classifier's files before they are used.

Checksums reveal damage, but not bad intentions. So each part of a saved classifier is read as plain data, compared
with the others, and refused in one line if it holds anything that saving never writes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError
from torch import Tensor

from ..budget.count import adapter_shapes, count
from ..budget.plan import Plan
from ..budget.specs import AdapterSpec
from ..budget.targets import lora_arguments, scales
from ..data.input_spec import InputSpec
from ..data.labels import LabelSet
from ..errors import ArtifactError, InputError
from ..model.adapters.adapter import check_shapes
from ..model.adapters.lora import PREFIX, lora_config
from ..model.backbone import Backbone, resolve
from ..model.heads import head_of
from ..model.inference.int8_products import MARGIN
from ..model.tokenizer import FastTokenizer, fast_tokenizer, load_tokenizer
from ..recipe.loading import parse
from ..recipe.schema import Recipe
from ..storage.system_errors import storage_errors
from .file_contents import damaged, parse_json
from .layout import ADAPTER, HEAD, MANIFEST, PLAN
from .metrics_file import MetricsFile, MultiLabelMetricsFile
from .saved_files import SavedFiles

# Fields of a backbone's config about who wrote it, not about what it computes.
CONFIG_NOTES = ("_name_or_path", "transformers_version", "torch_dtype", "dtype")
# Fields of PEFT's config about where and by what the adapter was saved.
ADAPTER_NOTES = ("base_model_name_or_path", "inference_mode", "peft_version", "revision")
# The fields that PEFT 0.21 writes for plain LoRA besides its arguments, and that are not switched off.
PEFT_DEFAULTS = {
    "peft_type": "LORA",
    "init_lora_weights": True,
    "megatron_core": "megatron.core",
    "qalora_group_size": 16,
}
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
        raise damaged(saved.path(name), "the metrics do not match the classifier's task")
    try:
        (MultiLabelMetricsFile if multi else MetricsFile).model_validate(found)
    except ValidationError as error:
        wrong = [one for one in error.errors(include_url=False) if one["type"] not in ADDED_OR_LEFT_OUT]
        if wrong:
            place = " -> ".join(str(part) for part in wrong[0]["loc"])
            raise damaged(saved.path(name), f"{place}: {wrong[0]['msg']}") from error
    return found


def check_predictions(saved: SavedFiles, name: str, labels: LabelSet) -> dict[str, np.ndarray]:
    """The predictions kept from training; empty if none were kept."""
    found = saved.arrays(name) if name in saved else {}
    for key, values in found.items():
        sound = values.ndim == 1 and bool(np.isfinite(values).all())
        if key.endswith((".labels", ".predicted")):  # multi-label, a hash of the labels
            sound &= np.issubdtype(values.dtype, np.integer)
            sound &= labels.multi or bool(((values >= 0) & (values < len(labels))).all())
        if not sound:
            raise damaged(saved.path(name), f"{key} does not hold predictions")
    return found


def check_ranges(saved: SavedFiles, name: str) -> dict[str, Tensor]:
    """The ranges that inference in int8 rounds by; empty if none were kept."""
    found = saved.tensors(name) if name in saved else {}
    for key, values in found.items():
        if values.dim() != 1 or (key == MARGIN and len(values) != 1):
            raise damaged(saved.path(name), f"{key} does not hold ranges")
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
            raise damaged(path, f"{key} differs from the recipe and the plan")


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
    stored = stored_backbone(path, manifest)
    return same_backbone(stored, resolve(instead or stored.name, None if instead else stored.revision))


@dataclass(frozen=True)
class StoredBackbone:
    """The backbone as described in a manifest.

    Attributes:
        name: `embedded`, a folder or a hub id.
        revision: the hub commit, if it came from the hub.
        fingerprint: fingerprint of its weights.
        computes: the fields of its config that say what it computes.
    """

    name: str
    revision: str | None
    fingerprint: str
    computes: dict[str, Any] | None


def stored_backbone(path: Path, manifest: Mapping[str, Any]) -> StoredBackbone:
    """The backbone that a manifest names, as the manifest says; nothing is looked for."""
    stored = manifest.get("backbone")
    if not isinstance(stored, dict):
        raise damaged(path, "the manifest names no backbone")
    name, revision, fingerprint = (stored.get(key) for key in ("name", "revision", "fingerprint"))
    if not isinstance(name, str) or not isinstance(fingerprint, str) or not isinstance(revision, str | None):
        raise damaged(path, "the manifest names no backbone")
    return StoredBackbone(name, revision, fingerprint, _computes(stored.get("config")))


def is_backbone(stored: StoredBackbone, found: Backbone) -> bool:
    """Whether a backbone's weights and config are those of training."""
    return found.fingerprint() == stored.fingerprint and _computes(found.config) == stored.computes


def same_backbone(stored: StoredBackbone, found: Backbone) -> Backbone:
    """The backbone that was found, if it is the one of training."""
    if not is_backbone(stored, found):
        raise ArtifactError(
            "the backbone is not the one this classifier was trained on",
            where=found.folder,
            expected=f"weights with fingerprint {stored.fingerprint[:16]}... and their config",
            remedy="give the right folder with --backbone",
        )
    return found


def _computes(config: Any) -> Any:
    if not isinstance(config, dict):
        return None
    return {key: value for key, value in config.items() if key not in CONFIG_NOTES}


def check_adapter(saved: SavedFiles, config: str, weights: str, plan: Plan, backbone: Backbone) -> dict[str, Tensor]:
    """The adapter's tensors, if they and PEFT's config agree with the plan."""
    if plan.adapter is None:
        return {}
    for name in (config, weights):
        if name not in saved:
            raise damaged(saved.path(name), "a file is missing")
    received = saved.json(config)
    if not _is_plain_lora(received, lora_arguments(backbone.config, plan.adapter)):
        _compare_with_peft(received, plan.adapter, backbone, saved.path(config))
    scales(backbone.config, plan.adapter)  # every one a finite number, or it raises
    return saved.tensors(weights)


def _is_plain_lora(received: Mapping[str, Any], arguments: Mapping[str, Any]) -> bool:
    """Whether PEFT's config holds exactly these arguments of `LoraConfig`, and all else is switched off.

    Importing PEFT, to ask what its defaults are, takes longer than all the rest of loading.
    """
    known = PEFT_DEFAULTS | json.loads(json.dumps(arguments))
    return all(_unordered(received.get(key)) == _unordered(value) for key, value in known.items()) and all(
        value in (None, False, [], {}) for key, value in received.items() if key not in {*known, *ADAPTER_NOTES}
    )


def _compare_with_peft(received: Mapping[str, Any], spec: AdapterSpec, backbone: Backbone, path: Path) -> None:
    """Compare a config with what this PEFT would write for a plan: it may know fields that we do not."""
    expected = json.loads(json.dumps(lora_config(spec, backbone.config).to_dict(), default=list))
    for key, value in expected.items():
        if key not in ADAPTER_NOTES and _unordered(received.get(key)) != _unordered(value):
            raise damaged(path, f"{key} differs from the plan")


def _unordered(value: Any) -> Any:
    return sorted(value, key=str) if isinstance(value, list) else value


def check_weights(
    saved: SavedFiles, plan: Plan, backbone: Backbone, labels: int, adapter: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The head's tensors, if they and the adapter's are as many and of the shapes that the plan says."""
    head = saved.tensors(HEAD)
    # First, before anything of the plan's size is built: as many numbers are there as the plan says.
    check_numbers(saved.path(PLAN), plan, backbone, labels, (*head.values(), *adapter.values()))
    if plan.adapter is not None:
        shapes = adapter_shapes(backbone.config, plan.adapter)
        try:
            check_shapes({f"{PREFIX}{name}": shape for name, shape in shapes.items()}, adapter)
        except ArtifactError as error:
            raise damaged(saved.path(ADAPTER), str(error)) from error
    own = head_of(plan.head, backbone.config, labels).state_dict()
    if {key: tensor.shape for key, tensor in head.items()} != {key: tensor.shape for key, tensor in own.items()}:
        raise damaged(saved.path(HEAD), "the head's tensors do not fit the plan")
    return head


def check_numbers(path: Path, plan: Plan, backbone: Backbone, labels: int, saved: Iterable[Tensor]) -> None:
    """Compare the plan with the count that the backbone's config gives, and with the numbers that were saved."""
    held = sum(tensor.numel() for tensor in saved)
    try:
        counted = count(backbone.config, adapter=plan.adapter, head=plan.head, labels=labels)
    except (InputError, ValueError, TypeError) as error:
        raise _as_damaged(path, error) from error
    planned = plan.count
    # Adaptive ranks are plain LoRA here: as much is stored as the plan of what is left trains.
    if not (held == counted.stored == planned.stored and counted.trainable == planned.trainable):
        raise damaged(path, f"the plan has {planned.trainable:,} parameters, but {held:,} numbers are saved")


def check_tokenizer(saved: SavedFiles, name: str, backbone: Backbone) -> FastTokenizer:
    """The tokenizer, if it is data alone and the backbone has a vector for every id.

    Args:
        name: its folder in the classifier's.
    """
    folder, files = saved.path(name), _tokenizer_files(saved, name)
    with _tokenizer_errors(folder):
        found = fast_tokenizer(files)
    if found is None:  # only transformers knows its padding token
        found = FastTokenizer.of(build_tokenizer(saved, name))
    with _tokenizer_errors(folder):
        ids = found.backend_tokenizer.encode("A word, and a sign of no alphabet: \ue000").ids
        largest = max(*found.backend_tokenizer.get_vocab().values(), *ids)
    if largest >= backbone.config.get("vocab_size", largest + 1):
        raise damaged(folder, f"the tokenizer produces ids up to {largest:,}, but the backbone has no vectors for them")
    return found


def build_tokenizer(saved: SavedFiles, name: str) -> Any:
    """Transformers' tokenizer of the files that `check_tokenizer` checked.

    transformers reads folders, so the checked bytes are written to one that nobody else can change.
    """
    folder = saved.path(name)
    with storage_errors(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory(prefix="pennyweight-") as private:
        for file, content in _tokenizer_files(saved, name).items():
            (Path(private) / file).parent.mkdir(parents=True, exist_ok=True)
            (Path(private) / file).write_bytes(content)
        with _tokenizer_errors(folder, private):
            loaded = load_tokenizer(Path(private))
    loaded.name_or_path = str(folder)
    return loaded


def _tokenizer_files(saved: SavedFiles, name: str) -> dict[str, bytes]:
    """The files of the tokenizer's folder, by their names in it."""
    files = {file.removeprefix(f"{name}/"): held for file, held in saved.content.items() if file.startswith(f"{name}/")}
    for file, content in sorted(files.items()):
        where = saved.path(name) / file
        # tokenizer.json, by far the largest, is read by `tokenizers` alone, which runs no code.
        small = file.endswith(".json") and "/" not in file and file != "tokenizer.json"
        if small and "auto_map" in parse_json(content, where):
            raise damaged(where, "the tokenizer needs to run its own code (auto_map)")
    return files


@contextmanager
def _tokenizer_errors(folder: Path, private: str | None = None) -> Iterator[None]:
    """Turn what libraries raise over a tokenizer into one line; `private` is the folder's name in their messages."""
    try:
        yield
    except BaseException as error:
        # The Rust side raises bare exceptions, and panics that are not even exceptions, over files it cannot read.
        panic = type(error).__name__ == "PanicException"
        if isinstance(error, MemoryError) or not (panic or isinstance(error, Exception)):
            raise
        said = str(error).replace(private, str(folder)) if private else str(error)
        raise damaged(folder, f"the tokenizer cannot be read ({said[:200]})") from error


def _as_damaged(path: Path, error: Exception) -> ArtifactError:
    return error if isinstance(error, ArtifactError) else damaged(path, f"unexpected content: {str(error)[:200]}")
