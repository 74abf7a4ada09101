"""A trained classifier in memory: `save_artifact` writes it, `load_artifact` reads it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor

from ..budget.plan import Plan
from ..data.input_spec import InputSpec
from ..data.labels import LabelSet
from ..model.adapters.lora import scale_tensors
from ..model.backbone import Backbone
from ..model.classifier import SequenceClassifier
from ..model.on_demand import OnDemand
from ..model.tokenizer import FastTokenizer
from ..recipe.schema import Recipe


@dataclass(frozen=True)
class TrainedTensors:
    """The trained tensors, on the CPU in fp32.

    Attributes:
        adapter: by the names that PEFT saves; empty if only the head was trained.
        head: by the names of `model.heads.Head`.
    """

    adapter: Mapping[str, Tensor]
    head: Mapping[str, Tensor]

    @classmethod
    def of_model(cls, model: SequenceClassifier) -> TrainedTensors:
        """Copies of a model's adapter and head."""
        head = {name: tensor.detach().cpu().clone() for name, tensor in model.head.state_dict().items()}
        return cls(model.adapter.state(), head)


@dataclass(frozen=True)
class Artifact:
    """A trained classifier in memory, with all that describes it.

    Predicting needs its tensors alone. The module with PEFT's layers and transformers' tokenizer, for exports and for
    backbones that have no inference encoder, are made when they are first asked for: importing these libraries takes
    longer than a prediction.

    Attributes:
        tensors: the trained weights.
        fast_tokenizer: turns texts into token ids.
        model_on_demand: the backbone with adapter and head, see `model`.
        tokenizer_on_demand: transformers' tokenizer, see `tokenizer`.
        input_spec: how texts and labels are read, as it was resolved in training.
        predictions: predictions of the validation and test rows, as arrays in the form of `RowPredictions.to_arrays`.
        run: the fingerprint of the run that made it: of data, recipe, backbone and versions.
        ranges: ranges of the inputs of each product, which int8 rounds by; empty if int8 was not tried in training.
    """

    tensors: TrainedTensors
    fast_tokenizer: FastTokenizer
    model_on_demand: OnDemand[SequenceClassifier]
    tokenizer_on_demand: OnDemand[Any]
    backbone: Backbone
    labels: LabelSet
    recipe: Recipe
    plan: Plan
    metrics: dict[str, Any]
    input_spec: InputSpec = field(default_factory=InputSpec)
    card: str = ""
    predictions: dict[str, np.ndarray] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    ranges: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of_model(cls, model: SequenceClassifier, tokenizer: Any, *described: Any, **more: Any) -> Artifact:
        """A classifier that was just trained.

        Args:
            model: in evaluation mode, its adapter folded; it must not be trained on.
            tokenizer: transformers' own.
            *described, **more: the fields from `backbone` on.
        """
        return cls(
            TrainedTensors.of_model(model), FastTokenizer.of(tokenizer), OnDemand.of(model), OnDemand.of(tokenizer),
            *described, **more,
        )  # fmt: skip

    @property
    def model(self) -> SequenceClassifier:
        """The backbone with PEFT's layers and the head, in evaluation mode, on the device it was loaded for."""
        return self.model_on_demand.get()

    @property
    def tokenizer(self) -> Any:
        """Transformers' tokenizer."""
        return self.tokenizer_on_demand.get()

    def scaled(self, factor: float) -> Artifact:
        """A copy whose adapter's update counts `factor` times.

        Raises:
            InputError: as `Adapter.scale`.
        """
        adapter = scale_tensors(self.tensors.adapter, factor)

        def scaled_model() -> SequenceClassifier:
            model = copy.deepcopy(self.model)
            model.adapter.scale(factor)
            return model

        return replace(
            self, tensors=replace(self.tensors, adapter=adapter), model_on_demand=OnDemand(scaled_model)
        )  # fmt: skip
