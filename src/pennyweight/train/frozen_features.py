"""The frozen backbone's features, for the baseline that trains nothing but a linear head on them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..budget.plan import Plan
from ..data.batching import Encoded, select
from ..data.sampling import sample_rows
from ..evaluate.baselines.baseline import Baseline
from ..evaluate.baselines.linear_probe import linear_probe
from ..model.backbone import Backbone
from ..model.classifier import ModelSettings, Pooled, build
from ..model.device import Runtime
from ..model.inference import TokenFeed, logits
from ..model.inference.build import frozen_weights
from ..model.inference.engine import InferenceEngine
from ..model.inference.frozen_layers import CALIBRATED_ON, FrozenLayers, calibrated_layers
from ..model.kernels.int8_linear import has_int8
from ..model.on_demand import OnDemand
from ..recipe.schema import Recipe
from .process_group import ProcessGroup

# Past so many rows a linear model learns nothing more, and a baseline should cost seconds.
MOST_ROWS = 20_000
# From so many texts on, int8 saves more time than the measurement of its ranges takes.
FEWEST_IN_INT8 = 1000


class FrozenBackbone:
    """A backbone as it was before training, read afresh: the biases that some plans train cannot be switched off.

    Computed by the inference engine where there is one, which gives both poolings in one pass.

    Args:
        recipe: how the backbone is computed and how long texts are; `plan`: of the run, its adapter is left out.
        pad_id: the tokenizer's padding id.
        layers: those that `prefix_layers` gives, where they stay loaded for further trainings.
        int8: whether features that a head is fitted on may be computed in int8, those of many texts. All others are in
            the number format of `runtime`, so that a head is measured as it predicts.

    Attributes:
        seconds: spent on loading and computing.
        group: the processes that train, where they prepare it together.
    """

    def __init__(
        self,
        backbone: Backbone,
        recipe: Recipe,
        plan: Plan,
        runtime: Runtime,
        pad_id: int,
        layers: OnDemand[FrozenLayers | None] | None = None,
        int8: bool = False,
    ) -> None:
        self.backbone = backbone
        self.recipe = recipe
        self.plan = plan
        self.runtime = runtime
        self.pad_id = pad_id
        self.seconds = 0.0
        self.group = ProcessGroup()
        self._layers = layers or OnDemand(lambda: calibrated_layers(backbone, recipe.data.max_length))
        self._int8 = int8
        self._engines: dict[str, InferenceEngine] = {}  # by number format
        self._model: Pooled | None = None
        # Both poolings of few texts, by whose they are: fitting the head and the linear probe read the same.
        self._kept: list[tuple[Encoded, np.ndarray]] = []

    def engine(self, fitted: Encoded | None = None) -> InferenceEngine | None:
        """The engine, its weights loaded; None if there is none, or the reference encoder was asked for.

        Args:
            fitted: texts that a head is fitted on, and whose features it is for; they give the ranges of int8.
        """
        on_cpu = self.runtime.device.type == "cpu"
        if self.recipe.model.encoder == "reference" or self.runtime.precision == "fp16" or not on_cpu:
            return None  # before any weight is read
        calibration: Encoded | None = None
        if self._int8 and fitted is not None and len(fitted) >= FEWEST_IN_INT8:
            calibration = select(fitted, sample_rows(len(fitted), CALIBRATED_ON, 0))
        precision = self.runtime.precision if calibration is None else "int8"
        if precision not in self._engines:
            began = time.perf_counter()
            weights = frozen_weights(self.backbone, self.pad_id)
            if weights is not None:
                made = weights.plain_engine(self.runtime) if calibration is None else weights.int8_engine(calibration)
                if made is not None:
                    self._engines[precision] = made
            self.seconds += time.perf_counter() - began
        return self._engines.get(precision)

    def identity(self, engine: str) -> str:
        """Whose hidden states its layers give, as kept ones are told apart by it.

        Args:
            engine: `fast` or `reference`.
        """
        held = self.recipe.train.quantization
        products = f"{self.runtime.precision}-nf4" if held == "nf4" else self.runtime.precision
        return f"{self.backbone.fingerprint()}/{engine}/{products}/{self.runtime.unit}"

    @property
    def stochastic(self) -> bool:
        """Whether its layers have dropout in training."""
        return bool(self.recipe.model.hidden_dropout or self.recipe.model.attention_dropout)

    def prefix_layers(self) -> FrozenLayers | None:
        """The layers in int8, for a prefix; None if the recipe asks for none, or this machine is better without."""
        wanted = self.recipe.train.prefix_precision
        suits = self.runtime.device.type == "cpu" and self.runtime.precision == "fp32" and has_int8()
        if wanted == "same" or self.recipe.model.encoder == "reference" or (wanted == "auto" and not suits):
            return None
        return self._layers.get()

    def release(self) -> None:
        """Forget the weights, but not the features computed so far."""
        self._engines.clear()
        self._model = None

    def features(self, encoded: Encoded, *, fitted: bool = False) -> np.ndarray:
        """(N, H) of N texts that are token ids, fp32: the mean over tokens.

        It is the stronger pooling where nothing is trained, so the harder baseline.

        Args:
            fitted: whether a head is fitted on them.
        """
        if self._known(encoded) is None and self.engine(encoded if fitted else None) is None:
            return self._by_model(encoded)
        return self.pooled(encoded, "mean", fitted=fitted)

    def pooled(
        self, encoded: Encoded, pooling: str, group: ProcessGroup | None = None, *, fitted: bool = False
    ) -> np.ndarray:
        """(N, H) of N texts, `cls` or `mean`, fp32; only where there is an engine.

        Args:
            group: processes that call this together: each computes its share.
            fitted: whether a head is fitted on them.
        """
        both = self._known(encoded)
        if both is None:
            engine = self.engine(encoded if fitted else None)
            assert engine is not None
            began = time.perf_counter()
            if group is None or group.size == 1:
                both = engine.features(encoded)  # (N, 2H)
            else:
                both = group.by_rows(encoded.lengths, lambda rows: engine.features(select(encoded, rows)))
            self.seconds += time.perf_counter() - began
            if len(encoded) <= MOST_ROWS:
                self._kept.append((encoded, both))
        first, mean = np.split(both, 2, axis=1)
        return first if pooling == "cls" else mean

    def _known(self, encoded: Encoded) -> np.ndarray | None:
        """(N, 2H), both poolings of texts that were computed before."""
        return next((kept for tokens, kept in self._kept if tokens is encoded), None)

    def _by_model(self, encoded: Encoded) -> np.ndarray:
        """The mean through the encoder that trains, in batches of similar length."""
        began = time.perf_counter()
        if self._model is None:
            settings = ModelSettings(**self.recipe.model.settings() | {"pooling": "mean"})
            self._model = Pooled(build(self.backbone, replace(self.plan, adapter=None), 2, self.runtime, settings))
        bucket, longest = self.recipe.data.pad_to_multiple_of, self.recipe.data.max_length
        feed = TokenFeed(encoded, self.pad_id, bucket, longest, self.runtime.device)
        size = self.recipe.train.eval_batch_size
        found = logits(self._model.eval(), feed, encoded.lengths, batch_size=size, bucket=bucket)
        self.seconds += time.perf_counter() - began
        return found


def train_linear_probe(
    backbone: FrozenBackbone,
    train: Encoded,
    train_labels: np.ndarray,
    rows: Sequence[Encoded],
    n_labels: int,
    *,
    seed: int = 0,
) -> Baseline:
    """The linear probe, trained on at most 20,000 random training rows; its seconds include computing the features.

    Args:
        train_labels: (N,) class numbers, or (N, L) of 0 and 1.
        rows: those to predict: the measured ones, or the validation rows and the measured ones.
    """
    chosen = sample_rows(len(train), MOST_ROWS, seed)
    learnt = backbone.features(train if len(chosen) == len(train) else select(train, chosen), fitted=True)
    features = np.concatenate([backbone.features(part) for part in rows])
    found = linear_probe(learnt, train_labels[chosen], features, n_labels, seed=seed)
    found = found.split(len(rows[0]) if len(rows) > 1 else 0)
    return replace(found, seconds=found.seconds + backbone.seconds)
