"""A trained classifier in memory: `save_artifact` writes it, `load_artifact` reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..budget.plan import Plan
from ..data.input_spec import InputSpec
from ..data.labels import LabelSet
from ..model.backbone import Backbone
from ..model.classifier import SequenceClassifier
from ..recipe.schema import Recipe


@dataclass(frozen=True)
class Artifact:
    """A trained classifier in memory, with all that describes it.

    Attributes:
        input_spec: how texts and labels are read, as it was resolved in training.
        predictions: of the validation and test rows, as arrays in the form of `RowPredictions.to_arrays`.
        run: the fingerprint of the run that made it: of data, recipe, backbone and versions.
    """

    model: SequenceClassifier
    tokenizer: Any
    backbone: Backbone
    labels: LabelSet
    recipe: Recipe
    plan: Plan
    metrics: dict[str, Any]
    input_spec: InputSpec = field(default_factory=InputSpec)
    card: str = ""
    predictions: dict[str, np.ndarray] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
