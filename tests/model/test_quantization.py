"""Which quantization `auto` comes to, and what int8 is refused beside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pennyweight.errors import PennyweightError
from pennyweight.model import quantization
from pennyweight.model.backbone import config_of
from pennyweight.model.classifier import ModelSettings
from pennyweight.model.device import Runtime
from pennyweight.model.kernels import int8_rows
from pennyweight.model.quantization import choose_quantization
from pennyweight.recipe import loading as recipe
from pennyweight.recipe.planning import plan_for

CPU = torch.device("cpu")


def chosen(wanted: str, runtime: Runtime | None = None, **settings: Any) -> str:
    loaded = recipe.load(**settings)
    config = config_of(loaded.model.backbone)
    plan = plan_for(loaded, config, 3)
    model = ModelSettings(**loaded.model_settings(wanted))
    return choose_quantization(model, config, plan, runtime or Runtime(CPU, "fp32"))


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """One whose int8 products are exact and faster."""
    monkeypatch.setattr(quantization, "int8_rows_are_faster", lambda: True)
    monkeypatch.setattr(int8_rows, "has_int8", lambda: True)
    return monkeypatch


def test_auto_is_int8_where_that_is_faster(processor: pytest.MonkeyPatch) -> None:
    assert chosen("auto") == "int8"
    assert chosen("auto", backbone="answerdotai/ModernBERT-base", budget="1M") == "int8"
    processor.setattr(quantization, "int8_rows_are_faster", lambda: False)
    assert chosen("auto") == "none"


@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize(
    ("runtime", "settings"),
    [
        (Runtime(CPU, "bf16"), {}),
        (Runtime(torch.device("cuda"), "fp32"), {}),
        (None, {"encoder": "reference"}),
        (None, {"hidden_dropout": 0.1}),
        (None, {"bias": "all", "adapter": "lora"}),
        (None, {"backbone": "microsoft/deberta-v3-base", "budget": "1M"}),
    ],
)
def test_auto_is_none_elsewhere(runtime: Runtime | None, settings: dict[str, Any]) -> None:
    assert chosen("auto", runtime, **settings) == "none"


@pytest.mark.usefixtures("processor")
def test_auto_is_none_for_a_narrow_backbone(tiny_backbone: Callable[..., Path]) -> None:
    assert chosen("auto", backbone=str(tiny_backbone("bert"))) == "none"
    assert chosen("int8", backbone=str(tiny_backbone("bert"))) == "int8"


@pytest.mark.usefixtures("processor")
def test_what_is_asked_for_is_taken() -> None:
    assert [chosen(wanted) for wanted in ("none", "int8", "nf4")] == ["none", "int8", "nf4"]


@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize(
    ("runtime", "settings", "message"),
    [
        (Runtime(CPU, "bf16"), {}, "training steps in int8 need a CPU that computes in fp32; expected cpu in fp32; "
         "received cpu in bf16; use --device cpu --precision fp32, or --quantization auto"),
        (Runtime(torch.device("cuda"), "fp16"), {}, "training steps in int8 need a CPU that computes in fp32; expected "
         "cpu in fp32; received cuda in fp16; use --device cpu --precision fp32, or --quantization auto"),
        (None, {"encoder": "reference"}, "training steps in int8 need the fast encoder, which the recipe or the "
         "backbone rules out; use --quantization auto"),
    ],
)  # fmt: skip
def test_int8_is_refused_beside(runtime: Runtime | None, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PennyweightError) as caught:
        chosen("int8", runtime, **settings)
    assert str(caught.value) == f"train -> quantization: {message}"


def test_int8_is_refused_on_a_processor_without_it(processor: pytest.MonkeyPatch) -> None:
    processor.setattr(int8_rows, "has_int8", lambda: False)
    with pytest.raises(PennyweightError, match="does not compute in int8 without overflow"):
        chosen("int8")
