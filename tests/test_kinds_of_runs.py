"""Every kind of run through every later verb: however a classifier came about, it is an ordinary one."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pennyweight as pw
from pennyweight.runs.merging import merge
from pennyweight.serve.classifiers.open_registry import open_registry

KINDS = ("soup", "composed", "lora-xs", "distilled", "frozen-head", "contrastive")
TEXTS = ["The bank and the rate in the forecast", "The striker and the match in the cup", "The polls in the valley"]


@pytest.fixture(scope="module")
def runs(tiny_backbone: Callable[..., Path], news: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of each kind, all on one backbone."""
    root, others = tmp_path_factory.mktemp("kinds"), tmp_path_factory.mktemp("seeds")
    usual = {
        "backbone": str(tiny_backbone("minilm", num_hidden_layers=2)), "budget": "20k", "precision": "fp32",
        "report": "short", "audit": "off", "test": news / "test.csv",
    }  # fmt: skip
    loop = {"epochs": 1, "learning_rate": 5e-3, "batch_size": 8, "frozen_head": "off"}

    def train(folder: Path, data: Any = news / "train.csv", **settings: Any) -> Path:
        pw.train(data, out=folder, **usual | settings)
        return folder

    seeds = [train(others / str(seed), adapter="lora", seed=seed, **loop) for seed in (0, 1)]
    merge(seeds, out=root / "soup", test=news / "test.csv")
    merge(seeds, out=root / "composed", method="compose", test=news / "test.csv")
    train(root / "lora-xs", adapter="lora-xs", **loop)
    train(root / "distilled", teacher=str(seeds[0]), **loop)
    with (news / "train.csv").open(encoding="utf-8", newline="") as handle:
        first = {row["label"]: row["text"] for row in csv.DictReader(handle)}
    train(root / "frozen-head", [(text, label) for label, text in first.items()], validation_size=0)
    train(root / "contrastive", contrastive="on")
    return root


@pytest.fixture(params=KINDS)
def run(request: pytest.FixtureRequest, runs: Path) -> Path:
    return runs / str(request.param)


def test_predict_and_explain(run: Path, command: Callable[..., Any]) -> None:
    done = command("predict", run, "--text", TEXTS[0], "--format", "jsonl")
    assert done.code == 0, done.err
    classifier = pw.load(run)
    assert json.loads(done.out)["label"] == classifier.predict(TEXTS[0])
    # The engine computes what the model as trained does.
    np.testing.assert_allclose(
        classifier.text_model.logits(classifier.tokens(TEXTS)), classifier.logits(TEXTS), atol=1e-4
    )
    assert len(classifier.explain(TEXTS[0]).words) == 8


def test_evaluate_and_report(run: Path, news: Path, tmp_path: Path, command: Callable[..., Any]) -> None:
    page = tmp_path / "report.html"
    done = command("evaluate", run, news / "test.csv", "--report", page)
    assert done.code == 0, done.err
    assert page.read_text("utf-8").rstrip().endswith("</html>")
    found = pw.load(run)
    assert found.metrics["test"]["accuracy"] == pytest.approx(found.evaluate(news / "test.csv").accuracy)
    assert (run / "report.html").exists() or "merged" in found.metrics


@pytest.mark.parametrize("run", ["composed"], indirect=True)  # all are saved in one form, and an export takes seconds
def test_onnx(run: Path, tmp_path: Path, command: Callable[..., Any]) -> None:
    done = command("export", run, tmp_path / "onnx", "--format", "onnx")
    assert done.code == 0, done.err
    exported = pw.load(tmp_path / "onnx")
    np.testing.assert_allclose(exported.predict_proba(TEXTS), pw.load(run).predict_proba(TEXTS), atol=1e-4)


def test_a_server_computes_all_kinds_in_one_batch(runs: Path) -> None:
    registry = open_registry([str(runs)], threads=1, precision="fp32")
    served = [registry.get(kind) for kind in KINDS]
    tokens = served[0].tokens(TEXTS)
    readers = [[each.member for each in served] for _ in TEXTS]
    answers = registry.engine.logits(tokens, readers)
    for number, kind in enumerate(KINDS):
        logits = np.stack([answers[text][number] for text in range(len(TEXTS))])
        alone = pw.load(runs / kind)
        np.testing.assert_allclose(served[number].probabilities(logits), alone.predict_proba(TEXTS), atol=1e-4)
