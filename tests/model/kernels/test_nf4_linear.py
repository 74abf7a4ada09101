"""Frozen matrices in 4 bits while training, the original ones afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pennyweight as pw
from pennyweight.budget.cost import NF4_BYTES
from pennyweight.errors import RecipeError, ResourceError
from pennyweight.model.backbone import config_of, resolve
from pennyweight.model.classifier import ModelSettings, SequenceClassifier, build
from pennyweight.model.device import Runtime
from pennyweight.model.inference.merge import backbone_state
from pennyweight.model.kernels.nf4_linear import NF4Linear, has_quantized, restore_linears
from pennyweight.model.resident import ResidentBackbone
from pennyweight.recipe import loading as recipe
from pennyweight.recipe.planning import plan_for

CPU = torch.device("cpu")
TEXTS = ["The bank raised its rate.", "The team won the match.", "The storm crossed the sea."]
IDS = torch.randint(5, 30, (3, 12), generator=torch.Generator().manual_seed(0))
# Widths of whole blocks of 64, as bitsandbytes packs them.
WIDE = {"hidden_size": 64, "intermediate_size": 128}


def built(folder: Path, precision: str = "fp32", quantization: str = "nf4", **settings: Any) -> SequenceClassifier:
    given = {"budget": "60k", "adapter": "lora", "lora_dropout": 0.0, "head_dropout": 0.0} | settings
    wanted = recipe.load(backbone=str(folder), quantization=quantization, **given)
    plan = plan_for(wanted, config_of(str(folder)), 3)
    model = build(
        resolve(str(folder)), plan, 3, Runtime(CPU, precision), ModelSettings(**wanted.model_settings(quantization))
    )
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


def gradients(model: SequenceClassifier) -> dict[str, torch.Tensor]:
    model.train()
    model(torch.ones_like(IDS), IDS).square().sum().backward()
    return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


def test_without_bitsandbytes_it_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tiny_backbone: Callable[..., Path]
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ResourceError) as caught:
        built(tiny_backbone("bert", **WIDE))
    assert str(caught.value) == (
        "train -> quantization: 4-bit weights need bitsandbytes, which is not installed; run "
        '`pip install "pennyweight[quantize]"`, or use --quantization none'
    )


@pytest.mark.parametrize(
    ("settings", "beside"),
    [
        ({"bias": "all"}, "none beside trained biases; received nf4; use --bias none"),
        (
            {"adapter": "lora-xs"},
            "none beside lora-xs with gradient bases; received nf4; use --adapter lora or --bases svd",
        ),
    ],
    ids=str,
)
def test_what_needs_gradients_of_the_weights_is_refused(
    settings: dict[str, Any], beside: str, tiny_backbone: Callable[..., Path]
) -> None:
    with pytest.raises(RecipeError) as caught:
        built(tiny_backbone("bert", **WIDE), **settings)
    assert str(caught.value) == f"train -> quantization: 4-bit weights have no gradients; expected {beside}"


def test_a_shared_backbone_is_not_quantized(tiny_backbone: Callable[..., Path]) -> None:
    folder = tiny_backbone("bert", **WIDE)
    wanted = recipe.load(backbone=str(folder), quantization="nf4", budget="60k", adapter="lora")
    plan = plan_for(wanted, config_of(str(folder)), 3)
    shared = ResidentBackbone(resolve(str(folder)), Runtime(CPU, "fp32"))
    with pytest.raises(RecipeError, match="classifiers that share a backbone are trained on its original weights"):
        shared.build(plan, 3, ModelSettings(**wanted.model_settings("nf4")))


@pytest.mark.parametrize("shape", [(768, 768), (3072, 768)])
def test_it_holds_as_many_bytes_as_plans_count(shape: tuple[int, int]) -> None:
    pytest.importorskip("bitsandbytes")
    layer = NF4Linear(torch.nn.Linear(shape[1], shape[0]), torch.float32, CPU)
    held = [layer._packed, layer._state.absmax, layer._state.state2.absmax]
    size = sum(each.numel() * each.element_size() for each in held)
    assert size == pytest.approx(NF4_BYTES * shape[0] * shape[1], rel=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_it_computes_with_the_dequantized_matrices(
    kind: str, engine: str, precision: str, tiny_backbone: Callable[..., Path]
) -> None:
    pytest.importorskip("bitsandbytes")
    folder = tiny_backbone(kind, **WIDE)
    model = built(folder, precision, encoder=engine)
    names = [name for name, layer in model.module.named_modules() if isinstance(layer, NF4Linear)]
    assert names
    assert not any("embed" in name for name in names)
    held = {name: model.module.get_submodule(name).weight for name in names}
    state = backbone_state(resolve(str(folder)))
    for name, matrix in held.items():
        original = state[f"{name.removesuffix('.base_layer')}.weight"]
        assert matrix.dtype == Runtime(CPU, precision).dtype
        assert 0 < float((matrix.float() - original).norm() / original.norm()) < 0.15
    same = built(folder, precision, quantization="none", encoder=engine)
    with torch.no_grad():
        for name, matrix in held.items():
            same.module.get_submodule(name).weight.copy_(matrix)
    found, expected = gradients(model), gradients(same)
    assert found.keys() == expected.keys()
    loose = 1e-4 if precision == "fp32" else 0.05
    for name, gradient in expected.items():
        assert float((found[name] - gradient).norm()) <= loose * max(1.0, float(gradient.norm())), name


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_the_original_matrices_come_back(engine: str, tiny_backbone: Callable[..., Path]) -> None:
    pytest.importorskip("bitsandbytes")
    folder = tiny_backbone("bert", **WIDE)
    model, plain = built(folder, encoder=engine).eval(), built(folder, quantization="none", encoder=engine).eval()
    mask = torch.ones_like(IDS)
    with torch.no_grad():
        expected = plain(mask, IDS)
        assert not torch.allclose(model(mask, IDS), expected, atol=1e-3)
        restore_linears(model.module, backbone_state(resolve(str(folder))))
        assert not has_quantized(model.module)
        torch.testing.assert_close(model(mask, IDS), expected)


@pytest.mark.parametrize("encoder", ["fast", "reference"])
def test_a_saved_classifier_says_so_and_predicts_what_was_measured(
    encoder: str, news: Path, tmp_path: Path, tiny_backbone: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("bitsandbytes")
    caplog.set_level("INFO", "pennyweight")
    trained = pw.train(
        news / "train.csv", test=news / "test.csv", out=tmp_path / "run", backbone=str(tiny_backbone("bert", **WIDE)),
        budget="60k", quantization="nf4", gradient_checkpointing="on", encoder=encoder, epochs=1, precision="fp32",
        report="short", contrastive="off", frozen_head="off",
    )  # fmt: skip
    assert "inference: trained on 4-bit weights; metrics and predictions use the original ones" in caplog.messages
    loaded = pw.load(tmp_path / "run", device="cpu")
    assert loaded.artifact.recipe.train.quantization == "nf4"
    assert not has_quantized(loaded.artifact.model.module)
    np.testing.assert_allclose(loaded.logits(TEXTS), trained.logits(TEXTS), atol=1e-5)
