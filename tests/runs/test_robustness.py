"""Shift from end to end: evaluate, a run's own report, compare, and the classes' shares."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pennyweight as pw
from pennyweight.artifact.metrics_file import MetricsFile
from pennyweight.data.corruption import HELD_OUT, TRAINING, corrupt
from pennyweight.data.sources import read
from pennyweight.errors import ArtifactError, InputError
from pennyweight.predict.label_shift import estimate_shares
from pennyweight.train.observer import forward_log

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def shifted_run(tiny_backbone: Callable[..., Path], news: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shifted") / "run"
    pw.train(
        news / "train.csv", test=news / "test.csv", out=folder, backbone=str(tiny_backbone("bert")), budget="5k",
        epochs=2, learning_rate=5e-3, batch_size=8, precision="fp32", report="short", shift=True,
        ood=str(news / "train.csv"),
    )  # fmt: skip
    return folder


def test_every_condition_is_the_classifier_on_those_texts(tiny_run: Path, news: Path) -> None:
    classifier = pw.load(tiny_run)
    found = pw.shift(classifier, news / "test.csv", severities=[3], ood=news / "train.csv")
    assert [row.name for row in found.rows] == [*TRAINING, *HELD_OUT]
    table = read(news / "test.csv")
    truth = classifier.artifact.labels.encode(table)
    for row in found.rows:
        texts = [corrupt(text, row.name, 3, 0) for text in table.texts]
        assert row.accuracy == (classifier.logits(texts).argmax(axis=1) == truth).mean()
    assert found.clean.accuracy == classifier.metrics["test"]["accuracy"]
    assert (found.ood[0].name, found.ood[0].n) == ("train.csv", 60)
    assert found.ood[0].accuracy == classifier.evaluate(news / "train.csv").accuracy
    assert pw.shift(classifier, news / "test.csv", severities=[3], rows=9).clean.n == 9


def test_evaluate_prints_and_writes_it(tiny_run: Path, news: Path, tmp_path: Path, command: Command) -> None:
    page = tmp_path / "shift.html"
    data = ("evaluate", tiny_run, news / "test.csv")
    answer = command(
        *data, "--shift", "--severity", "1,5", "--rows", "9", "--ood", news / "train.csv", "--report", page
    )
    assert answer.code == 0, answer.err
    assert "mean, training family" in answer.out
    assert "train.csv" in answer.out
    html = page.read_text("utf-8")
    assert "Robustness under shift" in html
    assert "keyboard typos" in html
    assert 'aria-label="Accuracy by corruption and severity"' in html
    values = json.loads(command(*data, "--shift", "--rows", "9", "--json").out)["shift"]
    assert {row["severity"] for row in values["corruptions"]} == {1, 3, 5}
    only = json.loads(command(*data, "--ood", news / "train.csv", "--json").out)["shift"]
    assert only["corruptions"] == []
    assert only["ood"][0]["n"] == 60
    assert "shift" not in json.loads(command(*data, "--json").out)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--severity", "6"), "no such severity; expected 1, 2, 3, 4 or 5; received 6"),
        (("--severity", "mild"), "no such severity; expected numbers from 1 to 5, such as 1,3,5; received mild"),
    ],
)
def test_what_evaluate_refuses(flags: tuple[str, ...], said: str, tiny_run: Path, news: Path, command: Command) -> None:
    answer = command("evaluate", tiny_run, news / "test.csv", "--shift", *flags)
    assert (answer.code, answer.error) == (2, said)


def test_a_run_carries_it_and_compare_shows_it(shifted_run: Path, tiny_run: Path, command: Command) -> None:
    values = json.loads((shifted_run / "metrics.json").read_text("utf-8"))
    MetricsFile.model_validate(values)
    assert values["shift"]["measured_on"] == "test"
    assert values["shift"]["ood"][0]["name"] == "train.csv"
    assert "Robustness under shift" in (shifted_run / "report.html").read_text("utf-8")
    assert pw.load(shifted_run).metrics == values
    lines = command("compare", shifted_run, tiny_run).out.splitlines()
    header = next(number for number, line in enumerate(lines) if "held out %" in line)
    assert "ood %" in lines[header]
    first, second = lines[header + 1 : header + 3]
    held_out = next(one for one in values["shift"]["means"] if one["family"] == "held out" and one["severity"] == 3)
    assert f"{100 * held_out['accuracy']:.1f}" in first
    rows = json.loads(command("compare", shifted_run, tiny_run, "--json").out)["runs"]
    assert rows[0]["held_out_accuracy"] == held_out["accuracy"]
    assert "held_out_accuracy" not in rows[1]
    assert "held out" not in command("compare", tiny_run, tiny_run).out
    assert len(second) > 10


def test_shift_is_no_reason_to_train_again(shifted_run: Path, news: Path) -> None:
    said: list[str] = []
    recipe = shifted_run / "recipe.yaml"
    with forward_log(said.append):
        pw.train(
            news / "train.csv",
            test=news / "test.csv",
            ood=str(news / "train.csv"),
            recipe=recipe,
            out=shifted_run,
            resume=True,
            shift=False,
        )
    assert any("this run is finished" in line for line in said)


def test_a_prior_reweighs_the_probabilities(tiny_run: Path, news: Path, command: Command) -> None:
    classifier = pw.load(tiny_run)
    texts = read(news / "test.csv").texts
    plain = classifier.predict_proba(texts)
    names = classifier.labels
    counts = np.array(classifier.metrics["data"]["counts"])
    assert counts.sum() == classifier.metrics["train"]["rows"]
    wanted = np.array([0.9, 0.05, 0.05])
    said = ",".join(f"{name}={share}" for name, share in zip(names, wanted, strict=True))
    found = classifier.with_prior(said)
    weighed = plain * wanted / (counts / counts.sum())
    expected = weighed / weighed.sum(axis=1, keepdims=True)
    assert np.allclose(found.predict_proba(texts), expected, atol=1e-5)
    assert found.predict(texts) == [names[index] for index in expected.argmax(axis=1)]
    assert np.allclose(classifier.predict_proba(texts), plain)
    answer = command("predict", tiny_run, news / "test.csv", "--prior", said)
    first = json.loads(answer.out.splitlines()[0])
    assert first[f"p_{names[0]}"] == pytest.approx(expected[0, 0], abs=1e-4)
    assert command("evaluate", tiny_run, news / "test.csv", "--prior", "em").code == 0
    refused = command("predict", tiny_run, "-", "--prior", "em", stdin="A text.\n")
    assert (refused.code, refused.error) == (2, "the class shares cannot be estimated without texts; received em")


def _corrected(classifier: pw.Classifier, texts: list[str], offsets: np.ndarray, trained: np.ndarray) -> np.ndarray:
    """Probabilities for equal shares, worked out from the logits without the offsets."""
    found = np.exp((classifier.logits(texts) - offsets) / classifier.temperature) / trained
    corrected: np.ndarray = found / found.sum(axis=1, keepdims=True)
    return corrected


def test_a_prior_takes_the_place_of_a_logit_adjustment(tiny_run: Path, news: Path) -> None:
    classifier, texts = pw.load(tiny_run), read(news / "test.csv").texts
    counts = np.array(classifier.metrics["data"]["counts"])
    offsets = np.array([2.0, 0.0, -1.0])
    for entry in ({"bias_offsets": {"values": offsets.tolist()}}, {"merged": {"bias_offsets": offsets.tolist()}}):
        classifier.metrics.pop("bias_offsets", None)
        classifier.metrics.update(entry)
        found = classifier.with_prior("balanced").predict_proba(texts)
        assert np.allclose(found, _corrected(classifier, texts, offsets, counts / counts.sum()), atol=1e-5)
    classifier.metrics["merged"]["bias_offsets"] = [1.0]
    with pytest.raises(ArtifactError, match="the saved bias offsets are damaged; expected 3 numbers"):
        classifier.with_prior("balanced")


def test_a_prior_keeps_a_threshold_but_estimates_shares_without_it(tiny_run: Path, news: Path) -> None:
    classifier, texts = pw.load(tiny_run), read(news / "test.csv").texts
    counts = np.array(classifier.metrics["data"]["counts"])
    before = classifier.with_prior("em", texts).weights
    kept = classifier.with_prior("balanced").predict_proba(texts)
    # The same classifier as if 3 had been added to a bias for a threshold.
    classifier.metrics["bias_offsets"] = {"values": [3.0, 0.0, 0.0]}
    recipe = classifier.artifact.recipe
    train = recipe.train.model_copy(update={"thresholds": "precision=0.9"})
    artifact = replace(classifier.artifact, recipe=recipe.model_copy(update={"train": train}))
    moved = pw.Classifier(artifact, classifier.runtime)
    assert np.allclose(moved.with_prior("balanced").predict_proba(texts), kept)
    after = moved.with_prior("em", texts).weights
    assert before is not None
    assert after is not None
    plain = np.exp((classifier.logits(texts) - [3.0, 0.0, 0.0]) / classifier.temperature)
    shares = counts / counts.sum()
    expected = estimate_shares(plain / plain.sum(axis=1, keepdims=True), shares) / shares
    assert np.allclose(after, expected, rtol=1e-3)
    assert not np.allclose(after, before, rtol=1e-3)


@pytest.mark.parametrize(
    ("settings", "factors"),
    [
        ({"class_weights": "balanced"}, None),
        ({"class_weights": {"Sports": 4.0}}, [1, 4, 1]),
        ({"oversample": True}, None),
    ],
)
def test_a_prior_knows_that_training_weighed_the_classes(
    tiny_run: Path, settings: dict[str, Any], factors: list[float] | None
) -> None:
    classifier = pw.load(tiny_run)
    recipe = classifier.artifact.recipe
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update=settings)})
    weighed = pw.Classifier(replace(classifier.artifact, recipe=recipe), classifier.runtime)
    weighed.metrics["data"]["counts"] = [10, 20, 70]
    trained = np.ones(3) if factors is None else np.array([10, 20, 70]) * factors
    expected = (1 / 3) / (trained / trained.sum())
    assert weighed.with_prior("balanced").weights == pytest.approx(expected)


def test_a_prior_where_the_shares_in_training_are_not_known(tiny_run: Path) -> None:
    classifier = pw.load(tiny_run)
    del classifier.metrics["data"]["counts"]
    assert classifier.with_prior("balanced").weights is not None  # from the validation rows that it kept
    classifier.artifact.predictions.clear()
    with pytest.raises(ArtifactError, match="this classifier has no record of the class shares in training"):
        classifier.with_prior("balanced")
    with pytest.raises(InputError, match="the class shares cannot be estimated without texts"):
        pw.load(tiny_run).with_prior("em")
