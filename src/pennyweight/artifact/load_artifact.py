"""Loading a saved classifier, whole or in parts."""

from __future__ import annotations

from dataclasses import replace
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
from .checked_parts import check_parts
from .file_contents import damage_as_errors
from .layout import CARD, MANIFEST, METRICS, PREDICTIONS, RECIPE, TOKENIZER, WRITER
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
        recipe = recipe_of(saved) if recipe is None else recipe
        parts = check_parts(saved, recipe, lambda path, facts: validation.check_backbone(path, facts, backbone))
        tensors = replace(parts.tensors, adapter=scale_tensors(parts.tensors.adapter, adapter_scale))
        tokenizer = validation.check_tokenizer(saved, TOKENIZER, parts.backbone)
        settings = ModelSettings(**recipe.model.settings())
        card = saved.text(CARD) if CARD in saved else ""
    found, plan = parts.backbone, parts.plan
    run = saved.facts.get("run")
    return Artifact(
        tensors,
        tokenizer,
        _model_on_demand(saved.folder, found, plan, tensors, runtime, settings),
        OnDemand(lambda: validation.build_tokenizer(saved, TOKENIZER)),
        found,
        parts.labels,
        recipe,
        plan,
        parts.metrics,
        parts.input_spec,
        card,
        parts.predictions,
        run if isinstance(run, dict) else {},
        parts.ranges,
    )


def rebuilt(artifact: Artifact, plan: Plan, tensors: TrainedTensors, runtime: Runtime) -> Artifact:
    """The artifact with another adapter and head of the same backbone.

    Args:
        plan: plan of the new tensors.
        runtime: device and number format that its model, if it is asked for, computes with.
    """
    settings = ModelSettings(**artifact.recipe.model.settings())
    model = _model_on_demand(artifact.backbone.folder, artifact.backbone, plan, tensors, runtime, settings)
    return replace(artifact, plan=plan, tensors=tensors, model_on_demand=model)


def _model_on_demand(
    folder: Path, backbone: Backbone, plan: Plan, tensors: TrainedTensors, runtime: Runtime, settings: ModelSettings
) -> OnDemand[SequenceClassifier]:
    def build_model() -> SequenceClassifier:
        with damage_as_errors(folder):
            model = build(backbone, plan.as_saved, len(tensors.head["out.bias"]), runtime, settings)
            model.adapter.load(tensors.adapter)
            model.head.load_state_dict(dict(tensors.head))
            return model.eval()

    return OnDemand(build_model)


def read_fingerprint(folder: str | Path) -> dict[str, Any]:
    """The fingerprint of the run that made the classifier in a folder; empty if there is no complete classifier.

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
    """The predictions kept from training, as arrays; empty if none were kept."""
    return validation.check_predictions(saved, PREDICTIONS, validation.check_labels(saved.path(MANIFEST), saved.facts))
