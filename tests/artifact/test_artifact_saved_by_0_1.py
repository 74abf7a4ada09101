"""Classifiers that version 0.1 saved, on the embedded backbone: they load, answer and evaluate as they did then."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pennyweight as pw
from pennyweight.export.peft import to_peft
from pennyweight.predict.explanation import explain
from pennyweight.train.observer import forward_log

FIXTURES = Path(__file__).parents[1] / "fixtures" / "artifacts-0.1"
# Logits of fp32 products in another order of summation.
TOLERANCE = 2e-4
KINDS = ("single", "several", "pair")
EXPECTED: dict[str, Any] = json.loads((FIXTURES / "expected.json").read_text("utf-8"))


def assembled(kind: str, folder: Path) -> Path:
    """The classifier as it was saved: the three have the same tokenizer, which is kept once."""
    shutil.copytree(FIXTURES / kind, folder)
    shutil.copytree(FIXTURES / "tokenizer", folder / "tokenizer")
    return folder


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def classifier(kind: str, tmp_path_factory: pytest.TempPathFactory) -> pw.Classifier:
    return pw.load(assembled(kind, tmp_path_factory.mktemp("old") / kind), device="cpu", precision="fp32")


def texts_of(kind: str) -> list[Any]:
    return [tuple(text) if kind == "pair" else text for text in EXPECTED[kind]["texts"]]


def test_the_same_labels_and_logits(kind: str, classifier: pw.Classifier) -> None:
    texts = texts_of(kind)
    assert classifier.predict(texts) == EXPECTED[kind]["labels"]
    np.testing.assert_allclose(classifier.logits(texts), EXPECTED[kind]["logits"], atol=TOLERANCE, rtol=0)


def test_the_same_figures(kind: str, classifier: pw.Classifier) -> None:
    rows = EXPECTED[kind]["test"]
    data: Any = [(text, label) for text, label in rows] if kind != "pair" else {
        "first": [row[0] for row in rows], "second": [row[1] for row in rows], "label": [row[2] for row in rows],
    }  # fmt: skip
    found = classifier.evaluate(data)
    if kind == "several":
        assert found.micro.f1 == pytest.approx(EXPECTED[kind]["micro_f1"])
    else:
        assert found.accuracy == pytest.approx(EXPECTED[kind]["accuracy"])
        assert found.accuracy == pytest.approx(classifier.metrics["test"]["accuracy"])


def test_it_is_explained_and_saved_again(kind: str, classifier: pw.Classifier, tmp_path: Path) -> None:
    text = texts_of(kind)[0]
    assert explain(classifier, text).words
    classifier.save(tmp_path / "again")
    again = pw.load(tmp_path / "again", device="cpu", precision="fp32")
    assert np.array_equal(again.logits([text]), classifier.logits([text]))
    assert again.metrics == classifier.metrics


def test_it_is_exported(tmp_path: Path) -> None:
    classifier = pw.load(assembled("single", tmp_path / "old"), device="cpu", precision="fp32")
    assert to_peft(classifier.artifact, tmp_path / "peft") < 1e-3


def test_its_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "unfinished" / "checkpoints", tmp_path / "run" / "checkpoints")
    rows = [tuple(row) for row in json.loads((FIXTURES / "unfinished" / "train.json").read_text("utf-8"))]
    said: list[str] = []
    with forward_log(said.append):
        made = pw.train(
            rows, test=[tuple(row) for row in EXPECTED["single"]["test"]], out=tmp_path / "run", resume=True,
            resume_anyway=True,  # versions and threads are others than those of the machine that began it
            backbone="embedded", strategy="manual", r=1, layers="5", target_modules="query,value",
            budget="5k", epochs=2, learning_rate=3e-3, pooling="cls", save_total_limit=2, device="cpu",
            precision="fp32", report="short", max_length=48, validation_size=8, batch_size=8, lp_ft=False,
            lora_dropout=0.0, head_dropout=0.0,
            early_stopping_patience=9,  # keeps the best evaluation, as 0.1 did, not the latest that is about as good
        )  # fmt: skip
    assert "checkpoint: step 4" in said
    assert made.metrics["train"]["steps"] == 8
    # Its last four steps may sum in another order here than where it began.
    np.testing.assert_allclose(made.logits(texts_of("single")), EXPECTED["single"]["logits"], atol=2e-2, rtol=0)
