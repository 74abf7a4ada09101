"""Logits in the order of the texts, whatever the order of the batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pennyweight.data.batching import pack
from pennyweight.errors import InputError
from pennyweight.model.inference import TokenFeed, evaluating, logits


class Sums(nn.Module):
    """Logits that name their row: the sum of its ids, its number of tokens, and how wide its batch was."""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, attention_mask: Tensor, input_ids: Tensor, tokens: int) -> Tensor:
        assert tokens == int(attention_mask.sum())
        kept = input_ids * attention_mask
        width = torch.full((len(kept),), kept.shape[1])
        return torch.stack([kept.sum(1), attention_mask.sum(1), width], dim=1).double()


def test_every_text_gets_its_own_row() -> None:
    rows = [list(range(1, 2 + (7 * number) % 20)) for number in range(50)]
    encoded = pack(rows)
    feed = TokenFeed(encoded, pad_id=99, bucket=8, max_length=20, device=torch.device("cpu"))
    model = Sums().eval()
    found = logits(model, feed, encoded.lengths, batch_size=8, bucket=8)
    assert found.dtype == np.float32
    assert found[:, 1].tolist() == [len(row) for row in rows]
    assert found[:, 0].tolist() == [sum(row) for row in rows]
    assert set(found[:, 2].tolist()) <= {8.0, 16.0, 20.0}  # a multiple of the bucket, never past max_length


def test_a_model_in_training_mode_is_refused_and_left_as_it_is() -> None:
    feed = TokenFeed(pack([[1, 2]]), pad_id=0, bucket=8, max_length=20, device=torch.device("cpu"))
    model = nn.Sequential(Sums(), nn.Dropout()).eval()
    model[1].train()
    with pytest.raises(InputError, match=r"^the model is in training mode; call \.eval\(\) on it before predicting$"):
        logits(model, feed, np.array([2]), batch_size=8, bucket=8)
    assert [module.training for module in model.modules()] == [False, False, True]


def test_evaluation_mode_ends_with_each_part_as_it_was() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Dropout().eval()).train(True)
    model[1].eval()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == [True, True, False]


def test_no_texts_are_no_rows() -> None:
    feed = TokenFeed(pack([]), pad_id=0, bucket=8, max_length=20, device=torch.device("cpu"))
    assert logits(Sums().eval(), feed, np.zeros(0, dtype=np.int64), batch_size=8, bucket=8).shape == (0, 0)
