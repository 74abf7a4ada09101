"""A classifier as one plain forward pass from token ids to logits, for exporters that trace a module."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ..artifact.artifact import Artifact
from ..model.encoders import Encoder, EncoderSettings, load_encoder
from ..model.heads import Head
from ..model.inference.merge import merged_state
from .temperature import folded_output


class PlainClassifier(nn.Module):
    """Logits (B, L) of token ids (B, T): transformers' own modules, the adapter merged into them, and the head.

    Args:
        encoder: the reference encoder in fp32.
    """

    def __init__(self, encoder: Encoder, head: Head, pooling: str) -> None:
        super().__init__()
        self.module = encoder.module  # registered, so that its weights belong to this module
        self.head = head
        self._encoder = encoder
        self._pooling = pooling

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        hidden = self._encoder.embed(input_ids, attention_mask, token_type_ids)
        logits: Tensor = self.head(self._encoder.pooled(hidden, attention_mask, 0, self._pooling))
        return logits


def plain_classifier(artifact: Artifact) -> PlainClassifier:
    """A copy of a classifier in fp32 on the CPU, its adapter merged and its temperature in the output layer."""
    settings = EncoderSettings(torch.float32, torch.device("cpu"))
    encoder, _ = load_encoder(artifact.backbone, "reference", settings)
    module: Any = encoder.module
    state = merged_state(artifact.backbone.config, module.state_dict(), artifact.plan.adapter, artifact.tensors.adapter)
    module.load_state_dict(dict(state), strict=False)  # it has buffers too
    head = copy.deepcopy(artifact.model.head).cpu().float()
    head.out.load_state_dict(folded_output(artifact))
    # Plain matrix products and a softmax: runtimes recognise these, and the fused operator exports with extra steps.
    module.set_attn_implementation("eager")
    return PlainClassifier(encoder, head, artifact.recipe.model.pooling).eval().requires_grad_(False)


def reads_segments(artifact: Artifact, plain: PlainClassifier) -> bool:
    """Whether the exported model takes `token_type_ids`: for pairs, where the backbone knows more than one segment."""
    return artifact.recipe.data.pair and int(getattr(plain.module.config, "type_vocab_size", 0) or 0) > 1
