"""Lower layers in int8: as the encoder that trains, but for rounding, for texts in any order and of any length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pennyweight.data.batching import Encoded
from pennyweight.model.backbone import resolve
from pennyweight.model.encoders import EncoderSettings, load_encoder
from pennyweight.model.inference.frozen_layers import int8_layers
from pennyweight.model.kernels.int8_linear import has_int8
from pennyweight.model.tokenizer import encode, load_tokenizer

WIDE = {"hidden_size": 128, "num_attention_heads": 4, "num_hidden_layers": 3, "intermediate_size": 256}
TEXTS = ["The bank cut its rate.", "", "The striker scored twice in the final ten minutes to win the cup. " * 4, "Rain"]


@pytest.fixture
def tokens(tiny_backbone: Callable[..., Path]) -> Callable[[str], tuple[Path, Encoded, int]]:
    def make(kind: str) -> tuple[Path, Encoded, int]:
        folder = tiny_backbone(kind, **(WIDE if kind != "distilbert" else {}))
        tokenizer = load_tokenizer(folder)
        return folder, encode(tokenizer, TEXTS, 64), int(tokenizer.pad_token_id)

    return make


@pytest.mark.skipif(not has_int8(), reason="this processor's kernels have no int8")
@pytest.mark.parametrize("kind", ["bert", "roberta", "modernbert"])
@pytest.mark.parametrize("first", [1, 2])
def test_hidden_states_are_the_encoders_but_for_rounding(
    kind: str, first: int, tokens: Callable[[str], tuple[Path, Encoded, int]]
) -> None:
    folder, encoded, pad = tokens(kind)
    backbone = resolve(str(folder))
    layers = int8_layers(backbone, pad, encoded)
    assert layers is not None
    encoder, _ = load_encoder(backbone, "fast", EncoderSettings(torch.float32, torch.device("cpu"), 0.0, 0.0))
    for indices in (np.array([2, 0, 3, 1]), np.array([1, 3]), np.array([0])):
        found = layers.hidden(encoded, indices, first)
        parts = []
        for index in indices:
            begin, length = encoded.offsets[index], encoded.lengths[index]
            ids = torch.from_numpy(encoded.ids[begin : begin + length].astype(np.int64))[None]
            mask = torch.ones_like(ids)
            with torch.no_grad():
                parts.append(encoder.run(encoder.embed(ids, mask), mask, 0, first)[0])
        expected = torch.cat(parts)
        assert found.shape == expected.shape
        assert found.dtype == torch.float32
        assert float((found - expected).norm() / expected.norm()) < 0.1


def test_a_family_without_an_inference_encoder_has_none(tokens: Callable[[str], tuple[Path, Encoded, int]]) -> None:
    folder, encoded, pad = tokens("deberta-v2")
    assert int8_layers(resolve(str(folder)), pad, encoded) is None
