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


@pytest.mark.parametrize("kind", KINDS)
def test_with_cls_the_last_feed_forward_sees_one_token(kind: str, tiny_backbone: Callable[..., Path]) -> None:
    module = load_module(resolve(str(tiny_backbone(kind)))).eval()
    encoder = GenericEncoder(module)
    ids = torch.randint(5, 30, (3, 12), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    seen: list[int] = []
    wide = {"distilbert": "lin1", "modernbert": "Wi"}.get(kind, "intermediate.dense")
    linears = [layer for name, layer in module.named_modules() if name.endswith(wide)]
    for linear in linears:
        linear.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[1]))
    encoder.pooled(encoder.embed(ids, mask), mask, 0, "cls").sum().backward()
    assert seen == [12] * (len(linears) - 1) + [1]
    cut = {name: parameter.grad.clone() for name, parameter in module.named_parameters() if parameter.grad is not None}
    module.zero_grad()
    module(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0].sum().backward()
    assert cut
    for name, parameter in module.named_parameters():
        if name in cut and not name.startswith("embeddings."):  # `embed` looks ids up on its own
            torch.testing.assert_close(cut[name], parameter.grad, rtol=1e-4, atol=1e-5)


def test_mean_pooling_leaves_padding_out() -> None:
    hidden = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert pool(hidden, torch.tensor([[1, 1, 0]]), "mean").item() == 2.0
    assert pool(hidden, torch.tensor([[1, 1, 0]]), "cls").item() == 1.0
