"""Gradient scaling: in fp16 and nowhere else, and what it leaves of a training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pennyweight.data.batching import pack
from pennyweight.model.backbone import config_of, resolve
from pennyweight.model.classifier import ModelSettings, build
from pennyweight.model.device import Runtime
from pennyweight.model.inference import TokenFeed
from pennyweight.model.trainable import trainable
from pennyweight.recipe import loading as recipe
from pennyweight.recipe.planning import plan_for
from pennyweight.train import accelerator as accelerate
from pennyweight.train.accelerator import make_accelerator
from pennyweight.train.loop import fit
from pennyweight.train.state import TrainingState
from pennyweight.train.training_rows import TrainingRows

CPU = torch.device("cpu")


@pytest.mark.parametrize(("precision", "mixed"), [("fp32", "no"), ("bf16", "no"), ("fp16", "fp16")])
def test_only_fp16_scales_gradients(precision: str, mixed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(accelerate, "Accelerator", lambda **options: asked.update(options))
    make_accelerator(recipe.load().train, Runtime(torch.device("cuda"), precision), None)
    assert asked["mixed_precision"] == mixed
    assert asked["cpu"] is False


@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("norm", [1.0, 0.0])
def test_scaled_training_in_fp16_is_that_in_fp32_but_for_rounding(
    engine: str, norm: float, tiny_backbone: Callable[..., Path]
) -> None:
    """The scaler of a GPU, put into a run on the CPU, whose kernels compute fp16 too."""
    wanted = recipe.load(
        backbone=str(tiny_backbone("bert")), budget="9k", strategy="all-linear", encoder=engine, epochs=1, batch_size=4,
        learning_rate=1e-2, max_grad_norm=norm, adam_epsilon=1e-3, lora_dropout=0.0, eval_steps=99,
    )  # fmt: skip
    plan = plan_for(wanted, config_of(wanted.model.backbone), 3)
    draw = np.random.default_rng(0)
    encoded = pack([draw.integers(5, 40, 6 + number).tolist() for number in range(8)])
    losses: dict[str, list[float]] = {}
    weights = {}
    for precision in ("fp32", "fp16"):
        model = build(
            resolve(wanted.model.backbone), plan, 3, Runtime(CPU, precision), ModelSettings(**wanted.model.settings())
        )
        accelerator = make_accelerator(wanted.train, Runtime(CPU, "fp32"), None)
        if precision == "fp16":
            accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
            accelerator.native_amp = True
            accelerator.state._mixed_precision = "fp16"  # which Accelerate itself refuses without a GPU
        losses[precision] = []

        class Losses:
            def step(self, step: int, total: int, loss: float, rate: float, texts: int, seconds: float) -> None:
                losses[precision].append(loss)  # noqa: B023 (read within this round)

            def evaluation(self, record: dict[str, Any]) -> None:
                pass

        rows = TrainingRows(TokenFeed(encoded, 0, 8, 64, CPU), np.arange(8) % 3, encoded.lengths, 8)
        state = TrainingState(model, rows, wanted.train, accelerator, plan.count.trainable)
        evaluation = {"loss": 0.0, "accuracy": 0.0, "macro_f1": 0.0}
        fit(state, evaluate=lambda: evaluation, observer=Losses())  # noqa: B023 (called within this round)
        weights[precision] = torch.cat([parameter.detach().flatten() for parameter in trainable(model).values()])
        assert (accelerator.scaler is None) == (precision == "fp32")
    eps = torch.finfo(torch.float16).eps
    assert losses["fp16"] == pytest.approx(losses["fp32"], rel=16 * eps)
    assert losses["fp16"] != losses["fp32"]
    off = float((weights["fp16"] - weights["fp32"]).norm() / weights["fp32"].norm())
    assert 0 < off < 16 * eps
