"""The frozen backbone's features, for the baseline that trains nothing but a linear head on them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..artifact.artifact import Artifact
from ..data.batching import Encoded, select
from ..evaluate.row_predictions import sample
from ..model.classifier import ModelSettings, Pooled, build
from ..model.device import Runtime
from ..model.inference import TokenFeed, logits
from ..predict.predictor import Classifier

# Past this a linear model learns nothing more, and a baseline should cost seconds.
FROZEN_ROWS = 20_000


class FrozenBackbone:
    """The backbone of a classifier as it was before training.

    It is loaded afresh: an adapter could be switched off, but not the biases that some plans train.
    """

    def __init__(self, artifact: Artifact, runtime: Runtime) -> None:
        # Its tokens averaged: the stronger pooling where nothing is trained, so the harder rival.
        settings = ModelSettings(**artifact.recipe.model.settings() | {"pooling": "mean"})
        plan = replace(artifact.plan, adapter=None)
        self.model = Pooled(build(artifact.backbone, plan, len(artifact.labels.names), runtime, settings)).eval()
        self.artifact = artifact
        self.runtime = runtime

    def features(self, encoded: Encoded) -> np.ndarray:
        """(N, H) fp32 of texts that are token ids, computed in batches of similar length."""
        recipe = self.artifact.recipe
        bucket = recipe.data.pad_to_multiple_of
        feed = TokenFeed(
            encoded, self.artifact.tokenizer.pad_token_id, bucket, recipe.data.max_length, self.runtime.device
        )
        return logits(self.model, feed, encoded.lengths, batch_size=recipe.train.eval_batch_size, bucket=bucket)


@dataclass(frozen=True)
class Features:
    """What a linear head on the frozen backbone is trained and measured on.

    Attributes:
        train: (N, H) of the training rows in `rows`.
        others: (M, H) of the rows to answer, end to end.
        rows: (N,) which training rows: all, or a sample past the limit.
        seconds: of the forward passes.
    """

    train: np.ndarray
    others: np.ndarray
    rows: np.ndarray
    seconds: float


def features_of(classifier: Classifier, train: Encoded, others: Sequence[Encoded], seed: int) -> Features:
    """The frozen backbone's features of training texts and of the rows to answer."""
    began = time.perf_counter()
    backbone = FrozenBackbone(classifier.artifact, classifier.runtime)
    some = sample(len(train), FROZEN_ROWS, seed)
    learnt = backbone.features(train if len(some) == len(train) else select(train, some))
    answered = np.concatenate([backbone.features(each) for each in others])
    return Features(learnt, answered, some, time.perf_counter() - began)
