"""The reference encoder can be entered and left between layers, for every architecture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pennyweight.model.backbone import load_module, resolve
from pennyweight.model.generic import GenericEncoder, pool

KINDS = ["bert", "roberta", "xlm-roberta", "distilbert", "electra", "deberta-v2", "modernbert"]


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_parts_give_the_whole(kind: str, tiny_backbone: Callable[..., Path]) -> None:
    module = load_module(resolve(str(tiny_backbone(kind))))
    encoder = GenericEncoder(module)
    ids = torch.randint(5, 30, (3, 12))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    ids[1, 7:] = module.config.pad_token_id
    whole = module(input_ids=ids, attention_mask=mask).last_hidden_state
    hidden = encoder.embed(ids, mask)
    lower = encoder.run(hidden, mask, 0, 2)
    upper = encoder.run(lower, mask, 2, encoder.num_layers)
    torch.testing.assert_close(upper[mask.bool()], whole[mask.bool()], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(encoder.pooled(lower, mask, 2, "cls"), whole[:, 0], rtol=1e-5, atol=1e-5)
    # Everything is back in its place afterwards.
    torch.testing.assert_close(module(input_ids=ids, attention_mask=mask).last_hidden_state, whole)


def test_mean_pooling_leaves_padding_out() -> None:
    hidden = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert pool(hidden, torch.tensor([[1, 1, 0]]), "mean").item() == 2.0
    assert pool(hidden, torch.tensor([[1, 1, 0]]), "cls").item() == 1.0
