"""The parts of a saved classifier, each checked on its own and against the others: all that loading refuses, in one
place for those who load one classifier and for those who load thousands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..budget.plan import Plan
from ..data.input_spec import InputSpec
from ..data.labels import LabelSet
from ..model.backbone import Backbone
from ..recipe.schema import Recipe
from . import validation
from .artifact import TrainedTensors
from .layout import ADAPTER, ADAPTER_CONFIG, MANIFEST, METRICS, PLAN, PREDICTIONS, RANGES
from .saved_files import SavedFiles


@dataclass(frozen=True)
class CheckedParts:
    """A saved classifier but for its tokenizer and its card.

    Attributes:
        predictions: kept from training, as arrays; empty if none were kept.
        ranges: ranges that int8 rounds by; empty if int8 was not tried in training.
    """

    plan: Plan
    labels: LabelSet
    input_spec: InputSpec
    metrics: dict[str, Any]
    predictions: dict[str, np.ndarray]
    backbone: Backbone
    tensors: TrainedTensors
    ranges: dict[str, Tensor]


def check_parts(
    saved: SavedFiles, recipe: Recipe, find_backbone: Callable[[Path, Mapping[str, Any]], Backbone]
) -> CheckedParts:
    """Check what `read_files` read.

    Args:
        recipe: that of these files.
        find_backbone: the backbone that a manifest names, from where it lies and what it says; raises for another.

    Raises:
        ArtifactError: whatever saving never writes.
    """
    facts, path = saved.facts, saved.path(MANIFEST)
    plan = validation.check_plan(saved, PLAN)
    labels = validation.check_labels(path, facts)
    input_spec = validation.check_input_spec(path, facts, recipe)
    validation.check_agreement(path, facts, recipe, plan)
    metrics = validation.check_metrics(saved, METRICS, multi=labels.multi)
    predictions = validation.check_predictions(saved, PREDICTIONS, labels)
    backbone = find_backbone(path, facts)
    adapter = validation.check_adapter(saved, ADAPTER_CONFIG, ADAPTER, plan, backbone)
    head = validation.check_weights(saved, plan, backbone, len(labels), adapter)
    ranges = validation.check_ranges(saved, RANGES)
    return CheckedParts(
        plan, labels, input_spec, metrics, predictions, backbone, TrainedTensors(adapter, head), ranges
    )  # fmt: skip
