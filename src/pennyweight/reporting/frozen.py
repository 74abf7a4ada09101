"""The frozen backbone's features, for the baseline that trains nothing but a linear head on them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor, nn

from ..artifact import Artifact
from ..data.batch import Encoded
from ..model.build import build
from ..model.infer import TokenFeed, logits
from ..model.protocol import Encoder
from ..model.runtime import Runtime


class Pooled(nn.Module):
    """The backbone alone, its tokens averaged: the stronger pooling where nothing is trained, so the harder rival."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.module = encoder.module

    def forward(self, attention_mask: Tensor, input_ids: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        hidden = self.encoder.embed(input_ids, attention_mask, token_type_ids)  # (B, T, H)
        return self.encoder.pooled(hidden, attention_mask, 0, "mean")  # (B, H)


class FrozenBackbone:
    """The backbone of a classifier as it was before training.

    It is loaded afresh: an adapter could be switched off, but not the biases that some plans train.
    """

    def __init__(self, artifact: Artifact, runtime: Runtime) -> None:
        bare = build(
            artifact.backbone, artifact.recipe.model, replace(artifact.plan, adapter=None), len(artifact.labels.names),
            runtime,
        )  # fmt: skip
        self.model = Pooled(bare.encoder).eval()
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
