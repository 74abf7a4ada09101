"""Several adapters as one: the sum of their updates, exactly or at a lower rank."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pennyweight.budget.count import adapter_shapes
from pennyweight.budget.specs import AdapterSpec
from pennyweight.budget.targets import ranks, scales
from pennyweight.errors import InputError
from pennyweight.model.adapters.combined import WeightedAdapter, average, combine
from pennyweight.model.adapters.lora import PREFIX

CONFIG: dict[str, Any] = {
    "model_type": "bert", "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20,
    "max_position_embeddings": 16, "vocab_size": 30, "type_vocab_size": 2,
}  # fmt: skip
SMALL = AdapterSpec(r=2, lora_alpha=6.0, target_modules=("query", "value"))
WIDE = AdapterSpec(
    r=3, lora_alpha=3.0, target_modules=("query", "output.dense"), layers=(1,), rank_pattern={"query": 1},
    use_rslora=True,
)  # fmt: skip


def drawn(spec: AdapterSpec, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = adapter_shapes(CONFIG, spec)
    return {f"{PREFIX}{name}": torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def updates(spec: AdapterSpec, tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {
        name: scale * (tensors[f"{PREFIX}{name}.lora_B.weight"] @ tensors[f"{PREFIX}{name}.lora_A.weight"]).numpy()
        for name, scale in scales(CONFIG, spec).items()
    }


def test_composed_adapters_add_what_their_updates_add() -> None:
    first, second = drawn(SMALL, 0), drawn(WIDE, 1)
    found = combine(CONFIG, [WeightedAdapter(SMALL, first, 0.25), WeightedAdapter(WIDE, second, 0.75)], exact=True)
    assert found.kept == 1
    assert {name: tuple(tensor.shape) for name, tensor in found.tensors.items()} == {
        f"{PREFIX}{name}": shape for name, shape in adapter_shapes(CONFIG, found.spec).items()
    }
    one, other, both = updates(SMALL, first), updates(WIDE, second), updates(found.spec, found.tensors)
    assert both.keys() == one.keys() | other.keys()
    assert sum(ranks(CONFIG, found.spec).values()) == 8 + 7
    for name, update in both.items():
        np.testing.assert_allclose(update, 0.25 * one.get(name, 0) + 0.75 * other.get(name, 0), atol=1e-5)


def test_a_soup_is_the_nearest_update_of_its_rank() -> None:
    tensors = [drawn(SMALL, seed) for seed in range(3)]
    found = combine(CONFIG, [WeightedAdapter(SMALL, each, 1 / 3) for each in tensors], exact=False)
    assert found.spec == SMALL
    kept = whole = 0.0
    for name, update in updates(SMALL, found.tensors).items():
        mean = np.mean([updates(SMALL, each)[name] for each in tensors], axis=0)
        left, values, right = np.linalg.svd(mean)
        np.testing.assert_allclose(update, left[:, :2] * values[:2] @ right[:2], atol=1e-5)
        kept, whole = kept + float((values[:2] ** 2).sum()), whole + float((values**2).sum())
    assert found.kept == pytest.approx(kept / whole, rel=1e-5)
    assert 0.3 < found.kept < 1


def test_adapters_that_are_alike_lose_nothing() -> None:
    tensors = drawn(SMALL, 0)
    found = combine(CONFIG, [WeightedAdapter(SMALL, tensors, 0.5)] * 2, exact=False)
    assert found.kept == pytest.approx(1)
    for name, update in updates(SMALL, tensors).items():
        np.testing.assert_allclose(updates(SMALL, found.tensors)[name], update, atol=1e-5)


def test_a_rank_ends_at_the_shorter_side_of_its_matrix() -> None:
    large = replace(SMALL, r=8)
    tensors = [drawn(large, seed) for seed in range(2)]
    found = combine(CONFIG, [WeightedAdapter(large, each, 0.5) for each in tensors], exact=True)
    assert set(ranks(CONFIG, found.spec).values()) == {12}
    assert found.kept == pytest.approx(1)
    for name, update in updates(found.spec, found.tensors).items():
        np.testing.assert_allclose(update, np.mean([updates(large, each)[name] for each in tensors], axis=0), atol=1e-4)


def test_trained_biases_are_averaged() -> None:
    spec = replace(SMALL, bias="lora_only")
    tensors = [drawn(spec, seed) for seed in range(2)]
    parts = [WeightedAdapter(spec, tensors[0], 0.2), WeightedAdapter(spec, tensors[1], 0.8)]
    found = combine(CONFIG, parts, exact=True)
    name = next(name for name in tensors[0] if name.endswith(".bias"))
    assert torch.allclose(found.tensors[name], 0.2 * tensors[0][name] + 0.8 * tensors[1][name])
    assert found.spec.bias == "lora_only"


def test_what_is_not_a_sum_of_updates_is_refused() -> None:
    dora = replace(SMALL, use_dora=True)
    with pytest.raises(InputError, match="DoRA cannot be merged"):
        combine(CONFIG, [WeightedAdapter(dora, drawn(dora, 0), 1.0)] * 2, exact=True)
    other = replace(SMALL, bias="all")
    with pytest.raises(InputError, match="different biases; expected bias none in all; received none, all"):
        combine(CONFIG, [WeightedAdapter(SMALL, {}, 0.5), WeightedAdapter(other, {}, 0.5)], exact=True)


def test_the_mean_by_weights() -> None:
    found = average([torch.tensor([0.0, 1.0]), torch.tensor([4.0, 1.0])], [3.0, 1.0])
    assert found.tolist() == [1.0, 1.0]
