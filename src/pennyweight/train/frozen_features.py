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
from ..recipe.schema import Recipe

# Past so many rows a linear model learns nothing more, and a baseline should cost seconds.
MOST_ROWS = 20_000


class FrozenBackbone:
    """A backbone as it was before training.

    It is loaded afresh: an adapter could be switched off, but not the biases that some plans train.

    Args:
        recipe: how the backbone is computed and how long texts are; `plan`: of the run, its adapter is left out.
        pad_id: the tokenizer's padding id.

    Attributes:
        seconds: spent on loading and computing.
    """

    def __init__(self, backbone: Backbone, recipe: Recipe, plan: Plan, runtime: Runtime, pad_id: int) -> None:
        began = time.perf_counter()
        # The mean over tokens is the stronger pooling where nothing is trained, so the harder baseline.
        settings = ModelSettings(**recipe.model.settings() | {"pooling": "mean"})
        self.model = Pooled(build(backbone, replace(plan, adapter=None), 2, runtime, settings)).eval()
        self.recipe = recipe
        self.runtime = runtime
        self.pad_id = pad_id
        self.seconds = time.perf_counter() - began

    def features(self, encoded: Encoded) -> np.ndarray:
        """(N, H) fp32 of texts that are token ids, computed in batches of similar length."""
        began = time.perf_counter()
        bucket, longest = self.recipe.data.pad_to_multiple_of, self.recipe.data.max_length
        feed = TokenFeed(encoded, self.pad_id, bucket, longest, self.runtime.device)
        size = self.recipe.train.eval_batch_size
        found = logits(self.model, feed, encoded.lengths, batch_size=size, bucket=bucket)
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
    learnt = backbone.features(train if len(chosen) == len(train) else select(train, chosen))
    features = np.concatenate([backbone.features(part) for part in rows])
    found = linear_probe(learnt, train_labels[chosen], features, n_labels, seed=seed)
    found = found.split(len(rows[0]) if len(rows) > 1 else 0)
    return replace(found, seconds=found.seconds + backbone.seconds)
