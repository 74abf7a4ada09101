"""Loading a saved classifier, whole or in parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..budget.plan import Plan
from ..data.input_spec import InputSpec
from ..errors import ArtifactError
from ..model.adapters.lora import scale_tensors
from ..model.backbone import Backbone
from ..model.classifier import ModelSettings, SequenceClassifier, build
from ..model.device import Runtime
from ..model.on_demand import OnDemand
from ..recipe.schema import Recipe
from ..storage.atomic import recover
from . import validation
from .artifact import Artifact, TrainedTensors
from .file_contents import damage_as_errors
from .layout import (
    ADAPTER,
    ADAPTER_CONFIG,
    CARD,
    MANIFEST,
    METRICS,
    PLAN,
    PREDICTIONS,
    RANGES,
    RECIPE,
    TOKENIZER,
    WRITER,
)
from .saved_files import SavedFiles, read_files


def load_artifact(
    saved: SavedFiles | str | Path,
    runtime: Runtime,
    backbone: str | None = None,
    *,
    recipe: Recipe | None = None,
    adapter_scale: float = 1.0,
) -> Artifact:
    """Read and check a saved classifier.

    Args:
        saved: its folder, or its files as `read_files` gave them.
        runtime: device and number format that its model, if it is asked for, computes with.
        backbone: where the backbone is now, if not where it was when the classifier was trained.
        recipe: that of these files, if it was read already.
        adapter_scale: multiplies the adapter's update, see `Adapter.scale`.

    Raises:
        ArtifactError: damaged, foreign or newer files, or another backbone than the one it was trained on.
        InputError: an adapter scale that cannot be used.
        ResourceError: when memory runs out.
    """
    saved = saved if isinstance(saved, SavedFiles) else read_files(Path(saved))
    with damage_as_errors(saved.folder):
        facts, path = saved.facts, saved.path(MANIFEST)
        recipe = recipe_of(saved) if recipe is None else recipe
        plan = validation.check_plan(saved, PLAN)
        labels = validation.check_labels(path, facts)
        input_spec = validation.check_input_spec(path, facts, recipe)
        validation.check_agreement(path, facts, recipe, plan)
        metrics, predictions = metrics_of(saved), predictions_of(saved)
        found = validation.check_backbone(path, facts, backbone)
        adapter = validation.check_adapter(saved, ADAPTER_CONFIG, ADAPTER, plan, found)
        head = validation.check_weights(saved, plan, found, len(labels), adapter)
        tensors = TrainedTensors(scale_tensors(adapter, adapter_scale), head)
        tokenizer = validation.check_tokenizer(saved, TOKENIZER, found)
        settings = ModelSettings(**recipe.model.settings())
        card = saved.text(CARD) if CARD in saved else ""
        ranges = validation.check_ranges(saved, RANGES)
    run = facts.get("run")
    return Artifact(
        tensors,
        tokenizer,
        OnDemand(lambda: _build_model(saved.folder, found, plan, tensors, runtime, settings)),
        OnDemand(lambda: validation.build_tokenizer(saved, TOKENIZER)),
        found,
        labels,
        recipe,
        plan,
        metrics,
        input_spec,
        card,
        predictions,
        run if isinstance(run, dict) else {},
        ranges,
    )


def _build_model(
    folder: Path, backbone: Backbone, plan: Plan, tensors: TrainedTensors, runtime: Runtime, settings: ModelSettings
) -> SequenceClassifier:
    with damage_as_errors(folder):
        model = build(backbone, plan, len(tensors.head["out.bias"]), runtime, settings)
        model.adapter.load(tensors.adapter)
        model.head.load_state_dict(dict(tensors.head))
        return model.eval()


def read_fingerprint(folder: str | Path) -> dict[str, Any]:
    """The fingerprint of the run that made the classifier in a folder; empty where there is no complete classifier.

    What a killed save left is cleaned up first.
    """
    recover(Path(folder), WRITER)
    try:
        run = read_files(Path(folder)).facts.get("run")
    except ArtifactError:
        return {}  # not there yet, or damaged: the run's checkpoints can make it again
    return run if isinstance(run, dict) else {}


def read_recipe(folder: str | Path) -> Recipe:
    """The recipe a saved classifier was trained with; its other files are not read.

    Raises:
        ArtifactError: as for `read_files`.
    """
    return recipe_of(read_files(Path(folder), only=(RECIPE,)))


def read_input_spec(folder: str | Path) -> InputSpec:
    """How a saved classifier reads its data; its other files are not read.

    The default for a classifier that cannot be read: loading it reports why.
    """
    try:
        saved = read_files(Path(folder), only=(RECIPE,))
        return validation.check_input_spec(saved.path(MANIFEST), saved.facts, recipe_of(saved))
    except ArtifactError:
        return InputSpec()


def recipe_of(saved: SavedFiles) -> Recipe:
    """The recipe among a classifier's files."""
    return validation.check_recipe(saved, RECIPE)


def metrics_of(saved: SavedFiles) -> dict[str, Any]:
    """The metrics among a classifier's files, their form checked."""
    labels = validation.check_labels(saved.path(MANIFEST), saved.facts)
    return validation.check_metrics(saved, METRICS, multi=labels.multi)


def predictions_of(saved: SavedFiles) -> dict[str, np.ndarray]:
    """The predictions kept from training, as arrays; empty where none were kept."""
    return validation.check_predictions(saved, PREDICTIONS, validation.check_labels(saved.path(MANIFEST), saved.facts))
