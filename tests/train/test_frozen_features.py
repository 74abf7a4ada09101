"""The frozen backbone's features: by the engine and by the model the same, computed once for head and baseline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import pennyweight as pw
from pennyweight.data.batching import pack
from pennyweight.model.backbone import resolve
from pennyweight.model.device import Runtime
from pennyweight.model.inference.build import InferenceWeights
from pennyweight.model.inference.engine import ENCODERS, InferenceEngine
from pennyweight.model.kernels.int8_linear import has_int8
from pennyweight.recipe.loading import resolve_recipe
from pennyweight.recipe.planning import plan_for
from pennyweight.train import frozen_features
from pennyweight.train.frozen_features import FrozenBackbone

TOKENS = pack([[5, 9, 11], [7] * 12, [6, 8], [5, 9, 11, 6, 12]])


needs_int8 = pytest.mark.skipif(not has_int8(), reason="oneDNN's int8 product does not exist here")


def frozen_of(folder: Path, *, int8: bool = False, **settings: object) -> FrozenBackbone:
    recipe = resolve_recipe("default", {"backbone": str(folder), "budget": "5k", "max_length": 32, **settings})
    backbone = resolve(recipe.model.backbone, None)
    plan = plan_for(recipe, backbone.config, 3)
    runtime = Runtime(torch.device("cpu"), "fp32")
    return FrozenBackbone(backbone, recipe, plan, runtime, backbone.config["pad_token_id"], int8=int8)


@pytest.mark.parametrize("kind", sorted(ENCODERS))
def test_the_engine_gives_the_reference_encoders_features(kind: str, tiny_backbone: Callable[..., Path]) -> None:
    folder = tiny_backbone(kind)
    fast, reference = frozen_of(folder), frozen_of(folder, encoder="reference")
    assert reference.engine() is None
    found = fast.features(TOKENS)
    assert np.allclose(found, reference.features(TOKENS), atol=1e-5)
    alone = fast.pooled(pack([[5]]), "cls")  # of one token the first is the mean
    assert np.allclose(alone, fast.pooled(pack([[5]]), "mean"), atol=1e-6)
    assert not np.allclose(fast.pooled(TOKENS, "cls"), found, atol=1e-3)


def test_features_of_the_same_tokens_are_computed_once(
    tiny_backbone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = frozen_of(tiny_backbone("bert"))
    first = frozen.features(TOKENS)
    frozen.release()
    loaded: list[object] = []
    monkeypatch.setattr(frozen_features, "frozen_weights", lambda *given: loaded.append(given))
    assert np.array_equal(frozen.pooled(TOKENS, "mean"), first)
    assert np.array_equal(frozen.features(TOKENS), first)
    assert not loaded  # nor is the engine built again for what is known


@pytest.mark.parametrize("quantization", ["none", pytest.param("int8", marks=needs_int8)])
def test_a_run_computes_the_training_texts_once_for_head_and_baseline(
    quantization: str, tiny_backbone: Callable[..., Path], news: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    loaded: list[str] = []
    compute, load = InferenceEngine.features, InferenceWeights.int8_engine

    def counted(engine: InferenceEngine, tokens: frozen_features.Encoded) -> np.ndarray:
        rows.append(len(tokens))
        return compute(engine, tokens)

    def noted(weights: InferenceWeights, calibration: frozen_features.Encoded) -> InferenceEngine | None:
        loaded.append("int8")
        return load(weights, calibration)

    monkeypatch.setattr(InferenceEngine, "features", counted)
    monkeypatch.setattr(InferenceWeights, "int8_engine", noted)
    monkeypatch.setattr(frozen_features, "FEWEST_IN_INT8", 20)
    settings = {"budget": "20k", "max_steps": 1, "validation_size": 40, "precision": "fp32", "adapter": "lora"}
    settings |= {"quantization": quantization, "inference_precision": "fp32"}
    found = pw.train(news / "train.csv", out=tmp_path / "run", backbone=str(tiny_backbone("bert")), **settings)
    assert rows == [found.metrics["train"]["rows"], 40]
    assert ("int8" in loaded) == (quantization == "int8")
    assert "frozen backbone + linear head" in [row["name"] for row in found.metrics["baselines"]]


@needs_int8
def test_a_head_is_fitted_on_int8_features_and_measured_on_those_in_fp32(
    tiny_backbone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_backbone("bert")
    exact, mixed = frozen_of(folder), frozen_of(folder, int8=True)
    few, many = frozen_features.select(TOKENS, np.arange(3)), frozen_features.select(TOKENS, np.arange(4))
    monkeypatch.setattr(frozen_features, "FEWEST_IN_INT8", 4)
    rounded = mixed.features(many, fitted=True)
    assert np.allclose(rounded, exact.features(many, fitted=True), atol=0.1)
    assert not np.allclose(rounded, exact.features(many), atol=1e-5)
    for tokens, fitted in ((few, True), (few, False), (frozen_features.select(many, np.arange(4)), False)):
        assert np.allclose(mixed.features(tokens, fitted=fitted), exact.features(tokens), atol=1e-6)
    mixed.release()
    assert np.array_equal(mixed.pooled(many, "mean"), rounded)  # what is known is not computed again
