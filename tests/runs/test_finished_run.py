"""What a run leaves behind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

import pennyweight as pw
from pennyweight.artifact.metrics_file import MetricsFile, schema
from pennyweight.data import sample
from pennyweight.evaluate.metrics.probabilities import softmax

DOCS = Path(__file__).parents[2] / "docs"


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text("utf-8"))


def test_metrics_have_the_published_form(run: Path, second_run: Path) -> None:
    assert json.loads((DOCS / "metrics.schema.json").read_text("utf-8")) == schema()
    for folder in (run, second_run):
        MetricsFile.model_validate(metrics(folder), strict=True)
    with pytest.raises(ValidationError, match="calibration"):
        MetricsFile.model_validate({key: value for key, value in metrics(run).items() if key != "calibration"})


def test_the_run_is_held_against_baselines_trained_on_its_own_rows(run: Path, second_run: Path) -> None:
    found = metrics(run)
    assert [one["name"] for one in found["baselines"]] == [
        "majority class", "TF-IDF + logistic regression", "frozen backbone + linear head",
    ]  # fmt: skip
    assert {one["rows"] for one in found["baselines"]} == {found["train"]["rows"]} == {108}
    assert len(metrics(second_run)["baselines"]) == 2  # report: short
    for one in found["baselines"]:
        assert found["test"]["accuracy"] - one["accuracy"] == pytest.approx(one["difference"])


def test_the_report_opens_with_the_verdict_and_says_how_to_repeat_it(run: Path) -> None:
    page = (run / "report.html").read_text("utf-8")
    body = re.sub(r"<[^>]+>", " ", page[page.index("<body>") :]).replace("\N{NO-BREAK SPACE}", " ")
    assert metrics(run)["verdict"]["headline"].replace("&", "&amp;") in body[: body.index("Trained parameters")]
    assert f"{run.name} --text" in body  # what to do next
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings[:4] == ["All figures", "Baselines", "Trained parameters by part", "Data"]
    assert {"Slices", "Most confident errors", "Reproducing this run", "Time, machine and versions"} <= set(headings)
    assert "source" in metrics(run)["slices"]  # a column of the sample with few values
    assert "id" not in metrics(run)["slices"]
    assert f"{run.name}/recipe.yaml" in page or "trained on data passed in Python" in page


def test_the_temperature_is_kept_used_and_changes_no_label(train_run: Callable[..., Path]) -> None:
    run = train_run("warm", validation_size=60, report="short", learning_rate=0.05)
    classifier = pw.load(run)
    assert metrics(run)["calibration"]["not_fitted"] is None
    texts = sample.load("test").texts[:20]
    assert classifier.temperature == metrics(run)["calibration"]["temperature"]
    assert classifier.temperature != 1.0
    logits = classifier.logits(texts)
    assert classifier.predict_proba(texts) == pytest.approx(softmax(logits, classifier.temperature), abs=1e-12)
    assert classifier.predict(texts) == [classifier.labels[index] for index in logits.argmax(axis=1)]


def test_of_a_few_validation_rows_no_temperature_is_fitted_and_why_is_said(run: Path) -> None:
    found, why = metrics(run), "12 validation rows are too few to fit one; at least 50 are needed"
    assert (found["calibration"]["temperature"], found["calibration"]["not_fitted"]) == (1.0, why)
    assert found["calibration"]["ece_before"] == found["calibration"]["ece_after"]
    page = (run / "report.html").read_text("utf-8")
    assert f"The probabilities are not temperature-scaled: {why}.</p>" in page
    assert "The temperature changes no predicted label" not in page


@pytest.mark.parametrize("damaged", ["hot", 0, -1.0, 1e9])
def test_a_damaged_temperature_is_refused(run: Path, damaged: object) -> None:
    classifier = pw.load(run)
    classifier.metrics["calibration"]["temperature"] = damaged
    with pytest.raises(pw.PennyweightError, match=r"the saved temperature is damaged; expected 0\.05 to 20\.0"):
        classifier.predict_proba(["a text"])


def test_figures_are_those_of_the_saved_classifier(run: Path) -> None:
    table = sample.load("test").select(range(60))
    again = pw.load(run).evaluate(table)
    assert again.to_json()["confusion"] == metrics(run)["test"]["confusion"]
    assert again.log_loss == pytest.approx(metrics(run)["test"]["log_loss"], rel=1e-4)


def test_the_card_carries_the_same_numbers(run: Path) -> None:
    from huggingface_hub.repocard_data import ModelCardData

    card = (run / "README.md").read_text("utf-8")
    front = yaml.safe_load(card.split("---")[1])
    results = ModelCardData(**{"model_name": "x", **front}).eval_results
    assert {one.metric_type: one.metric_value for one in results} == {
        "accuracy": round(metrics(run)["test"]["accuracy"], 4),
        "f1": round(metrics(run)["test"]["macro_f1"], 4),
    }
    assert metrics(run)["verdict"]["headline"] in card
    assert "| frozen backbone + linear head |" in card


def test_without_a_test_set_validation_rows_are_measured_and_that_is_said(
    tiny_backbone: Callable[..., Path], tmp_path: Path
) -> None:
    table = sample.load("train").select(range(80))
    pw.train(table, out=tmp_path / "run", epochs=1, strategy="head-only", backbone=str(tiny_backbone("bert")))
    assert "test" not in metrics(tmp_path / "run")
    assert "8 validation texts" in (tmp_path / "run" / "report.html").read_text("utf-8")


def test_in_memory_nothing_is_compared_but_the_temperature_is_fitted(tiny_backbone: Callable[..., Path]) -> None:
    table = sample.load("train").select(range(80))
    classifier = pw.train(table, epochs=1, strategy="head-only", backbone=str(tiny_backbone("bert")))
    assert "baselines" not in classifier.metrics
    assert classifier.temperature == classifier.metrics["calibration"]["temperature"]


def test_frozen_features_are_the_backbones_own_whatever_was_trained(tiny_backbone: Callable[..., Path]) -> None:
    import torch

    from pennyweight.model.tokenizer import encode
    from pennyweight.model.trainable import trainable
    from pennyweight.train.frozen_features import FrozenBackbone

    table = sample.load("train").select(range(40))
    settings = {"epochs": 1, "budget": "none", "bias": "all", "r": 2, "precision": "fp32"}
    classifier = pw.train(table, backbone=str(tiny_backbone("roberta")), **settings)
    tokens = encode(classifier.artifact.tokenizer, table.texts, 128)
    bundle = classifier.artifact
    facts = bundle.backbone, bundle.recipe, bundle.plan, classifier.runtime, bundle.tokenizer.pad_token_id
    before = FrozenBackbone(*facts).features(tokens)
    with torch.no_grad():
        for parameter in trainable(classifier.artifact.model).values():
            parameter.add_(1.0)
    after = FrozenBackbone(*facts).features(tokens)
    assert np.array_equal(before, after)
    assert before.shape == (40, 32)
