"""Logits in the order of the texts, whatever the order of the batches."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pennyweight.data.batch import pack
from pennyweight.model.infer import TokenFeed, logits


class Sums(nn.Module):
    """Logits that name their row: the sum of its ids, its number of tokens, and how wide its batch was."""

    def __init__(self) -> None:
        super().__init__()
        self.modes: list[bool] = []

    def forward(self, attention_mask: Tensor, input_ids: Tensor) -> Tensor:
        self.modes.append(self.training)
        kept = input_ids * attention_mask
        width = torch.full((len(kept),), kept.shape[1])
        return torch.stack([kept.sum(1), attention_mask.sum(1), width], dim=1).double()


def test_every_text_gets_its_own_row() -> None:
    rows = [list(range(1, 2 + (7 * number) % 20)) for number in range(50)]
    encoded = pack(rows)
    feed = TokenFeed(encoded, pad_id=99, bucket=8, max_length=20, device=torch.device("cpu"))
    model = Sums().train()
    found = logits(model, feed, encoded.lengths, batch_size=8, bucket=8)
    assert found.dtype == np.float32
    assert found[:, 1].tolist() == [len(row) for row in rows]
    assert found[:, 0].tolist() == [sum(row) for row in rows]
    assert set(found[:, 2].tolist()) <= {8.0, 16.0, 20.0}  # a multiple of the bucket, never past max_length
    assert not any(model.modes)
    assert model.training  # as it was before


def test_no_texts_are_no_rows() -> None:
    feed = TokenFeed(pack([]), pad_id=0, bucket=8, max_length=20, device=torch.device("cpu"))
    assert logits(Sums(), feed, np.zeros(0, dtype=np.int64), batch_size=8, bucket=8).shape == (0, 0)
