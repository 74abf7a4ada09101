"""MPNet's relative positions against transformers' own."""

from __future__ import annotations

import pytest
import torch
from transformers import MPNetConfig
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

from pennyweight.model.kernels.relative_positions import relative_position_bias


@pytest.mark.parametrize("length", [1, 2, 9, 40, 300])
@torch.no_grad()
def test_each_pair_of_tokens_has_transformers_number(length: int) -> None:
    torch.manual_seed(0)
    encoder = MPNetEncoder(MPNetConfig(hidden_size=12, num_attention_heads=3, num_hidden_layers=0))
    (expected,) = encoder.compute_position_bias(torch.zeros(1, length, 12))
    assert torch.equal(relative_position_bias(encoder.relative_attention_bias.weight, length), expected)
