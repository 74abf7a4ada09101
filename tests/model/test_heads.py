"""The three heads: what they compute and how many parameters they have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pennyweight.errors import BackboneError
from pennyweight.model.backbone import pooler_tensors, resolve
from pennyweight.model.encoders import FAMILIES, stock_head_of
from pennyweight.model.heads import Head


@pytest.mark.parametrize("kind", sorted(FAMILIES))
@pytest.mark.parametrize("head", ["linear", "low_rank", "full"])
def test_parameters_are_the_plans(kind: str, head: str, tiny_backbone: Callable[..., Path]) -> None:
    from pennyweight import plan

    settings = {"backbone": str(tiny_backbone(kind)), "head": head, "head_rank": 3, "strategy": "head-only"}
    made = plan(labels=5, budget="none", **settings)
    module = Head(head, resolve(settings["backbone"]).config, 5, rank=3)
    assert sum(parameter.numel() for parameter in module.parameters()) == made.count.trainable


def test_linear_is_a_matrix_and_a_bias() -> None:
    head = Head("linear", {"model_type": "bert", "hidden_size": 8}, 3).eval()
    pooled = torch.randn(4, 8)
    assert torch.equal(head(pooled), pooled @ head.out.weight.T + head.out.bias)


def test_low_rank_is_a_full_head_whose_dense_matrix_is_a_product() -> None:
    config = {"model_type": "roberta", "hidden_size": 8}
    small, full = Head("low_rank", config, 3, rank=2).eval(), Head("full", config, 3).eval()
    assert small.dense is not None
    assert small.down is not None
    assert full.dense is not None
    with torch.no_grad():
        full.dense.weight.copy_(small.dense.weight @ small.down.weight)
        full.dense.bias.copy_(small.dense.bias)
        full.out.load_state_dict(small.out.state_dict())
    pooled = torch.randn(4, 8)
    assert torch.allclose(small(pooled), full(pooled), atol=1e-6)
    assert torch.allclose(full(pooled), full.out(torch.tanh(full.dense(pooled))))


def test_dropout_only_while_training() -> None:
    head = Head("linear", {"model_type": "bert", "hidden_size": 64}, 3, dropout=0.5)
    pooled = torch.ones(2, 64)
    assert not torch.equal(head.train()(pooled), head(pooled))
    assert torch.equal(head.eval()(pooled), head(pooled))


def test_a_full_bert_head_starts_at_the_pretrained_pooler() -> None:
    found = resolve("embedded")
    tensors = pooler_tensors(found)
    head = Head("full", found.config, 4)
    head.start_from_pooler(tensors)
    assert head.dense is not None
    assert torch.equal(head.dense.weight, tensors["weight"])
    fresh = Head("full", found.config | {"hidden_size": 16}, 4)
    assert fresh.dense is not None
    before = fresh.dense.weight.clone()
    fresh.start_from_pooler(tensors)  # another shape: left alone
    assert torch.equal(fresh.dense.weight, before)


def test_an_architecture_without_a_known_head() -> None:
    with pytest.raises(BackboneError, match=r"the gpt2 architecture's own head is not known; .*; use --head linear"):
        stock_head_of({"model_type": "gpt2"})
    assert stock_head_of({"model_type": "deberta-v2", "pooler_hidden_act": "tanh"}).activation == "tanh"
