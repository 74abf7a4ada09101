"""Products of training steps in int8: near those in fp32 in every row, and only in training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

import pennyweight as pw
from pennyweight.errors import ResourceError
from pennyweight.model.backbone import config_of, resolve
from pennyweight.model.classifier import ModelSettings, SequenceClassifier, build
from pennyweight.model.device import Runtime
from pennyweight.model.kernels import int8_rows
from pennyweight.model.kernels.int8_linear import Int8Linear, has_int8
from pennyweight.model.kernels.int8_rows import Int8Rows, check_int8_rows, int8_rows_are_faster
from pennyweight.recipe import loading as recipe
from pennyweight.recipe.planning import plan_for

from .products import error, tensors

needs_int8 = pytest.mark.skipif(not has_int8(), reason="no exact int8 product here")
CPU = Runtime(torch.device("cpu"), "fp32")
FAST = ("bert", "roberta", "electra", "distilbert", "mpnet", "modernbert")


@needs_int8
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("with_addend", [True, False])
def test_it_is_near_the_product_in_fp32(with_bias: bool, with_addend: bool) -> None:
    x, weight, bias, addend = tensors((50, 64), (48, 64), (48,), (50, 48))
    before = [each.clone() for each in (x, weight, bias, addend)]
    found = Int8Rows(weight)(x, bias if with_bias else None, addend if with_addend else None)
    expected = linear(x, weight, bias if with_bias else None) + (addend if with_addend else 0)
    assert found.dtype == torch.float32
    assert error(found, expected) < 0.02
    assert all(map(torch.equal, (x, weight, bias, addend), before))


@needs_int8
def test_rows_of_very_different_size_are_all_near() -> None:
    x, weight = tensors((50, 64), (48, 64))
    left, right = torch.logspace(-12, 6, 50)[:, None], torch.logspace(-3, 3, 48)[:, None]
    found = Int8Rows(weight * right)(x * left) / left / right.t()
    assert max(map(error, found, linear(x, weight))) < 0.03


@needs_int8
def test_a_row_does_not_depend_on_the_others() -> None:
    x, weight = tensors((50, 64), (48, 64))
    product = Int8Rows(weight)
    assert torch.equal(product(x[7:8]), product(x)[7:8])


@needs_int8
def test_zeros_and_what_is_not_finite_stay_so() -> None:
    x, weight, bias = tensors((5, 64), (48, 64), (48,))
    x[1] = 0
    x[2, 3], x[3, 3] = float("nan"), float("-inf")
    found = Int8Rows(weight)(x, bias)
    assert torch.equal(found[1], bias)
    assert not found[2:4].isfinite().any()
    assert error(found[[0, 4]], linear(x[[0, 4]], weight, bias)) < 0.02
    assert Int8Rows(weight)(x[:0]).shape == (0, 48)


@pytest.fixture
def unknown() -> Any:
    has_int8.cache_clear()
    int8_rows_are_faster.cache_clear()
    yield
    has_int8.cache_clear()
    int8_rows_are_faster.cache_clear()


@pytest.mark.usefixtures("unknown")
@pytest.mark.parametrize("fails", [lambda self, x, addend=None: torch.full((len(x), 16), 32.0), None])
def test_a_product_that_overflows_or_is_missing_is_not_used(
    fails: Callable[..., Tensor] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(self: Int8Linear, x: Tensor, addend: Tensor | None = None) -> Tensor:
        raise RuntimeError("no such operator")

    usual, sums = Int8Linear.from_bytes, fails or missing
    largest = lambda x: fails is None or bool((x == 255).all())  # noqa: E731
    monkeypatch.setattr(
        Int8Linear, "from_bytes", lambda self, x, addend=None: (sums if largest(x) else usual)(self, x, addend)
    )
    assert not has_int8()
    assert not int8_rows_are_faster()
    with pytest.raises(ResourceError) as caught:
        check_int8_rows()
    assert str(caught.value) == (
        "train -> quantization: this CPU does not compute in int8 without overflow; use --quantization auto"
    )


@pytest.mark.usefixtures("unknown")
@pytest.mark.parametrize(("seconds", "faster"), [([1.0, 2.0], True), ([1.9, 2.0], False)])
def test_it_is_faster_only_if_it_saves_a_fifth(
    seconds: list[float], faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8_rows, "has_int8", lambda: True)
    monkeypatch.setattr(int8_rows, "Int8Rows", lambda weight: lambda x: x)
    monkeypatch.setattr(int8_rows, "_seconds", lambda products: seconds)
    assert int8_rows_are_faster() is faster


def built(folder: Path, quantization: str, **settings: Any) -> SequenceClassifier:
    given = {"budget": "60k", "adapter": "lora", "lora_dropout": 0.0, "head_dropout": 0.0, "encoder": "fast"} | settings
    wanted = recipe.load(backbone=str(folder), **given)
    plan = plan_for(wanted, config_of(str(folder)), 3)
    model = build(resolve(str(folder)), plan, 3, CPU, ModelSettings(**wanted.model_settings(quantization)))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():  # LoRA's B begins at zero, and would hide what comes before it
        for _, parameter in sorted(model.named_parameters()):
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


def step(model: SequenceClassifier) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits of a batch with padding, and the gradients of a loss."""
    ids = torch.randint(5, 30, (4, 40), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    logits = model(mask, ids)
    logits.square().sum().backward()
    return logits.detach(), {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


@needs_int8
@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("kind", FAST)
def test_training_has_nearly_the_gradients_of_fp32_and_evaluation_its_bits(
    kind: str, pooling: str, tiny_backbone: Callable[..., Path]
) -> None:
    model, exact = (built(tiny_backbone(kind), each, pooling=pooling) for each in ("int8", "none"))
    (logits, found), (expected_logits, expected) = step(model.train()), step(exact.train())
    assert found.keys() == expected.keys()
    assert 0 < error(logits, expected_logits) < 0.05
    together = [torch.cat([each[name].flatten() for name in expected]) for each in (found, expected)]
    assert 0 < error(*together) < 0.1
    mask = torch.ones(2, 9, dtype=torch.long)
    with torch.no_grad():
        assert torch.equal(model.eval()(mask, mask * 7), exact.eval()(mask, mask * 7))


@needs_int8
def test_a_training_in_int8_says_so_and_goes_on_where_it_was(
    news: Path, tmp_path: Path, tiny_backbone: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pennyweight")
    settings = {
        "backbone": str(tiny_backbone("bert")), "budget": "20k", "quantization": "int8", "precision": "fp32",
        "device": "cpu", "epochs": 2, "contrastive": "off", "frozen_head": "off", "report": "short",
    }  # fmt: skip

    class Stop(Exception):
        pass

    class StopAfterAnEpoch:
        def step(self, *told: Any) -> None:
            pass

        def evaluation(self, record: dict[str, Any]) -> None:
            if record["epoch"] == 1:
                return
            raise Stop

    whole = pw.train(news / "train.csv", out=tmp_path / "whole", **settings)
    with pytest.raises(Stop):
        pw.train(news / "train.csv", out=tmp_path / "parts", observer=StopAfterAnEpoch(), **settings)
    resumed = pw.train(news / "train.csv", out=tmp_path / "parts", resume=True, **settings | {"quantization": "auto"})
    assert any(message.endswith("in fp32, fast (int8 in training) encoder") for message in caplog.messages)
    assert whole.metrics["machine"]["quantization"] == resumed.metrics["machine"]["quantization"] == "int8"
    texts = ["shares of the bank", "the striker and the cup"]
    np.testing.assert_array_equal(resumed.logits(texts), whole.logits(texts))
    plain = pw.train(news / "train.csv", **settings | {"quantization": "none"})
    assert plain.metrics["machine"]["quantization"] == "none"
    assert not np.array_equal(plain.logits(texts), whole.logits(texts))
    np.testing.assert_allclose(plain.logits(texts), whole.logits(texts), atol=0.2)
