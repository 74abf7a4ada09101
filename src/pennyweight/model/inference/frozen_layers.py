"""The lower layers of a frozen backbone, computed by the inference encoder's int8 products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...data import sample
from ...data.batching import Encoded, Integers
from ..backbone import Backbone
from ..tokenizer import encode, load_tokenizer
from .build import frozen_weights
from .inference_encoder import InferenceEncoder
from .token_rows import token_rows

CALIBRATED_ON = 128  # texts


@dataclass(frozen=True)
class FrozenLayers:
    """Hidden states of texts before a layer, as the input of the trained layers."""

    encoder: InferenceEncoder
    pad_id: int

    def hidden(self, tokens: Encoded, indices: Integers, first: int) -> Tensor:
        """The hidden states before layer `first` of the texts at `indices`, end to end without padding.

        Returns:
            (tokens, H) fp32; one row of a text without tokens.
        """
        order = np.argsort(-tokens.lengths[indices], kind="stable")
        batch = token_rows(tokens, indices[order], self.pad_id)
        with torch.inference_mode():
            x, positions = self.encoder.embed(batch), self.encoder.positions(batch)
            for layer in self.encoder.layers[:first]:
                x = layer(x, batch, positions)
        begins, lengths = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
        begins[order], lengths[order] = batch.firsts.numpy(), np.maximum(tokens.lengths[indices[order]], 1)
        ends = np.cumsum(lengths)
        rows = np.arange(ends[-1]) + np.repeat(begins - (ends - lengths), lengths)
        return x.float().index_select(0, torch.from_numpy(rows))


def calibrated_layers(backbone: Backbone, max_length: int) -> FrozenLayers | None:
    """A backbone's layers in int8, their ranges measured over texts of the built-in sample.

    Always the same texts, so that a classifier does not depend on the others trained with it.
    """
    texts = sample.load("train").texts[:CALIBRATED_ON]
    tokenizer = load_tokenizer(backbone.folder)
    return int8_layers(backbone, int(tokenizer.pad_token_id), encode(tokenizer, texts, max_length))


def int8_layers(backbone: Backbone, pad_id: int, calibration: Encoded) -> FrozenLayers | None:
    """A backbone's layers in int8; None if its family has no inference encoder.

    Args:
        calibration: texts over which the ranges of the products' inputs are measured.
    """
    weights = frozen_weights(backbone, pad_id)
    engine = None if weights is None else weights.int8_engine(calibration)
    return None if engine is None else FrozenLayers(engine.encoder, pad_id)
