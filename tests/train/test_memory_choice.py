"""Layers are computed again where the recipe says so or memory demands it, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pennyweight as pw
from pennyweight.errors import Interrupted
from pennyweight.model import device
from pennyweight.train import memory_choice

from ..stop_at import StopAt

TEXTS = ["The bank raised its rate.", "The team won the match.", "The storm crossed the sea."]


@pytest.fixture
def settings(tiny_backbone: Callable[..., Path]) -> dict[str, Any]:
    backbone = tiny_backbone("bert", num_hidden_layers=4)
    return {
        "backbone": str(backbone), "budget": "20k", "epochs": 2, "batch_size": 16, "seed": 1, "report": "short",
        "audit": "off", "precision": "fp32", "contrastive": "off", "frozen_head": "off",
    }  # fmt: skip


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_the_classifier_is_the_same(engine: str, settings: dict[str, Any], news: Path) -> None:
    runs = [
        pw.train(news / "train.csv", encoder=engine, gradient_checkpointing=wanted, **settings)
        for wanted in ("off", "on")
    ]
    assert [run.metrics["train"]["gradient_checkpointing"] for run in runs] == [False, True]
    assert np.array_equal(*(run.logits(TEXTS) for run in runs))


@pytest.mark.usefixtures("default_signals")
def test_a_run_may_be_resumed_with_it(settings: dict[str, Any], news: Path, tmp_path: Path) -> None:
    whole = pw.train(news / "train.csv", gradient_checkpointing="off", **settings)
    with pytest.raises(Interrupted):
        pw.train(
            news / "train.csv", out=tmp_path, gradient_checkpointing="off", observer=StopAt(3), **settings
        )  # fmt: skip
    resumed = pw.train(news / "train.csv", out=tmp_path, gradient_checkpointing="on", resume=True, **settings)
    assert resumed.metrics["train"]["gradient_checkpointing"] is True
    assert np.array_equal(resumed.logits(TEXTS), whole.logits(TEXTS))


@pytest.mark.parametrize(("free", "taken"), [(10**12, False), (10**5, True)])
def test_auto_goes_by_the_free_memory(
    free: int, taken: bool, settings: dict[str, Any], news: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(memory_choice, "free_memory", lambda device: free)
    caplog.set_level("INFO", "pennyweight")
    found = pw.train(news / "train.csv", **settings, max_steps=1)
    assert found.metrics["train"]["gradient_checkpointing"] is taken
    said = [line for line in caplog.messages if line.startswith("memory: ")]
    assert len(said) == taken
    for line in said:
        assert "gradient checkpointing is on for all layers but the last: a step takes about" in line
        assert "; 0 MB are free" in line


def test_free_memory_of_a_cpu_is_that_of_the_machine() -> None:
    assert device.free_memory(torch.device("cpu")) > 0
