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
from pennyweight.model.inference.engine import ENCODERS, InferenceEngine
from pennyweight.recipe.loading import resolve_recipe
from pennyweight.recipe.planning import plan_for
from pennyweight.train import frozen_features
from pennyweight.train.frozen_features import FrozenBackbone

TOKENS = pack([[5, 9, 11], [7] * 12, [6, 8], [5, 9, 11, 6, 12]])


def frozen_of(folder: Path, **settings: object) -> FrozenBackbone:
    recipe = resolve_recipe("default", {"backbone": str(folder), "budget": "5k", "max_length": 32, **settings})
    backbone = resolve(recipe.model.backbone, None)
    plan = plan_for(recipe, backbone.config, 3)
    return FrozenBackbone(backbone, recipe, plan, Runtime(torch.device("cpu"), "fp32"), backbone.config["pad_token_id"])


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
    monkeypatch.setattr(frozen_features, "frozen_engine", lambda *given: loaded.append(given))
    assert np.array_equal(frozen.pooled(TOKENS, "mean"), first)
    assert np.array_equal(frozen.features(TOKENS), first)
    assert not loaded  # nor is the engine built again for what is known


def test_a_run_computes_the_training_texts_once_for_head_and_baseline(
    tiny_backbone: Callable[..., Path], news: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    compute = InferenceEngine.features

    def counted(engine: InferenceEngine, tokens: frozen_features.Encoded) -> np.ndarray:
        rows.append(len(tokens))
        return compute(engine, tokens)

    monkeypatch.setattr(InferenceEngine, "features", counted)
    settings = {"budget": "20k", "max_steps": 1, "validation_size": 40, "precision": "fp32", "adapter": "lora"}
    found = pw.train(news / "train.csv", out=tmp_path / "run", backbone=str(tiny_backbone("bert")), **settings)
    assert rows == [found.metrics["train"]["rows"], 40]
    assert "frozen backbone + linear head" in [row["name"] for row in found.metrics["baselines"]]
