"""A tree of parameters has the names and shapes of transformers' own model, and says which weights do not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pennyweight.errors import BackboneError
from pennyweight.model.backbone import load_module, resolve
from pennyweight.model.encoders.parameter_tree import load_state, parameter_tree


@pytest.mark.parametrize("kind", ["bert", "distilbert", "electra", "mpnet", "modernbert"])
def test_names_shapes_and_values_are_those_of_transformers(kind: str, tiny_backbone: Callable[..., Path]) -> None:
    backbone = resolve(str(tiny_backbone(kind)))
    tree = parameter_tree(backbone.config, torch.bfloat16)
    state = load_module(backbone).state_dict()
    load_state(tree, state)
    found = dict(tree.named_parameters())
    assert {name: value.shape for name, value in found.items()} == {name: state[name].shape for name in found}
    assert [name for name in state if name not in found and "pooler" not in name] == []
    assert not any(value.requires_grad for value in found.values())
    kept = ("position_embeddings", "token_type_embeddings", "relative_attention_bias")
    for name, value in found.items():
        exact = value.dim() == 1 or any(each in name for each in kept)
        assert value.dtype == (torch.float32 if exact else torch.bfloat16), name
        assert torch.equal(value, state[name].to(value.dtype)), name
    epsilons = {module.eps for module in tree.modules() if isinstance(module, torch.nn.LayerNorm)}
    assert epsilons == {1e-5 if kind == "modernbert" else 1e-12}


def test_missing_and_misshapen_weights_are_named(tiny_backbone: Callable[..., Path]) -> None:
    backbone = resolve(str(tiny_backbone("modernbert")))
    tree, state = parameter_tree(backbone.config, torch.float32), load_module(backbone).state_dict()
    missing = {name: value for name, value in state.items() if name != "layers.1.mlp.Wo.weight"}
    with pytest.raises(BackboneError) as error:
        load_state(tree, missing)
    assert str(error.value) == (
        "layers.1.mlp.Wo.weight: the weights do not fit the config; expected shape (32, 64); received nothing"
    )
    with pytest.raises(BackboneError, match=r"^final_norm\.weight: .*received shape \(3,\)"):
        load_state(tree, state | {"final_norm.weight": torch.zeros(3)})
