"""Loading a saved classifier, whole or in parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..data.input_spec import InputSpec
from ..errors import ArtifactError
from ..model.classifier import ModelSettings, build
from ..model.device import Runtime
from ..recipe.schema import Recipe
from ..storage.atomic import recover
from . import validation
from .artifact import Artifact
from .file_contents import damage_as_errors, damaged
from .layout import ADAPTER, ADAPTER_CONFIG, CARD, HEAD, MANIFEST, METRICS, PLAN, PREDICTIONS, RECIPE, TOKENIZER, WRITER
from .saved_files import SavedFiles, read_files


def load_artifact(saved: SavedFiles | str | Path, runtime: Runtime, backbone: str | None = None) -> Artifact:
    """Read and check a saved classifier.

    Args:
        saved: its folder, or its files as `read_files` gave them.
        runtime: device and number format to compute with.
        backbone: where the backbone is now, if not where it was when the classifier was trained.

    Raises:
        ArtifactError: damaged, foreign or newer files, or another backbone than the one it was trained on.
        ResourceError: when memory runs out.
    """
    saved = saved if isinstance(saved, SavedFiles) else read_files(Path(saved))
    with damage_as_errors(saved.folder):
        facts, path = saved.facts, saved.path(MANIFEST)
        recipe = recipe_of(saved)
        plan = validation.check_plan(saved, PLAN)
        labels = validation.check_labels(path, facts)
        input_spec = validation.check_input_spec(path, facts, recipe)
        validation.check_agreement(path, facts, recipe, plan)
        metrics, predictions = metrics_of(saved), predictions_of(saved)
        found = validation.check_backbone(path, facts, backbone)
        head = saved.tensors(HEAD)
        adapter = validation.check_adapter(saved, ADAPTER_CONFIG, ADAPTER, plan, found)
        # Checked before anything of the plan's size is built: as many numbers are there as the plan says.
        validation.check_numbers(saved.path(PLAN), plan, found, len(labels), (*head.values(), *adapter.values()))
        tokenizer = validation.check_tokenizer(saved, TOKENIZER, found)
        model = build(found, plan, len(labels), runtime, ModelSettings(**recipe.model.settings()))
        try:
            model.adapter.load(adapter)
        except ArtifactError as error:
            raise damaged(saved.path(ADAPTER), str(error)) from error
        if {key: held.shape for key, held in head.items()} != {k: v.shape for k, v in model.head.state_dict().items()}:
            raise damaged(saved.path(HEAD), "the head's tensors do not fit the plan")
        model.head.load_state_dict(head)
        card = saved.text(CARD) if CARD in saved else ""
    run = facts.get("run")
    return Artifact(
        model.eval(),
        tokenizer,
        found,
        labels,
        recipe,
        plan,
        metrics,
        input_spec,
        card,
        predictions,
        run if isinstance(run, dict) else {},
    )


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
