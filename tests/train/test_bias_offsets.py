"""Offsets of the head's biases: for rare classes, and for a threshold of two classes."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import precision_score, recall_score

import pennyweight as pw
from pennyweight.errors import RecipeError
from pennyweight.evaluate.metrics.probabilities import softmax
from pennyweight.evaluate.metrics.thresholds import Target
from pennyweight.recipe.schema import TrainRecipe
from pennyweight.train.bias_offsets import MOST_LOST, adjusted_offsets, choose_offsets, threshold_offsets

NAMES = ("common", "other", "rare")


def overlapping(rows: int = 20_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits of a classifier that knows the true posterior, labels, and counts: a rare class that hides in another."""
    random = np.random.default_rng(seed)
    shares = np.array([0.6, 0.36, 0.04])
    labels = random.choice(3, rows, p=shares)
    centres = np.array([[0.0, 0.0], [4.0, 0.0], [1.5, 2.0]])
    points = centres[labels] + random.normal(size=(rows, 2))
    logits = -0.5 * ((points[:, None] - centres) ** 2).sum(axis=2) + np.log(shares)
    return logits, labels, np.array([600, 360, 40])


def test_a_rare_class_that_is_given_up_is_raised() -> None:
    logits, labels, counts = overlapping()
    found = adjusted_offsets(logits, labels, counts, NAMES)
    assert found.strength is not None
    assert found.strength > 0
    assert found.values[0] == 0 < found.values[1] < found.values[2]
    assert found.after.macro_f1 > found.before.macro_f1
    assert found.after.accuracy > found.before.accuracy - 2 * MOST_LOST
    again, truth, _ = overlapping(seed=1)  # other rows gain, too
    before, after = again.argmax(axis=1), (again + found.values).argmax(axis=1)
    assert recall_score(truth, after, average="macro") > recall_score(truth, before, average="macro")
    assert json.loads(json.dumps(found.to_json()))["summary"].startswith("biases of rarer classes raised")


def test_a_class_without_training_rows_is_not_raised() -> None:
    logits, labels, counts = overlapping()
    logits = np.concatenate([logits, np.full((len(logits), 1), -20.0)], axis=1)
    found = adjusted_offsets(logits, labels, np.append(counts, 0), [*NAMES, "unseen"])
    assert found.values[3] == 0 < found.values[2]
    assert f"{NAMES[2]} has 4.0% of the training rows" in found.summary


def test_classes_told_apart_are_left_as_trained() -> None:
    labels = np.array([0] * 60 + [1] * 36 + [2] * 4)
    found = adjusted_offsets(20.0 * np.eye(3)[labels], labels, np.array([600, 360, 40]), NAMES)
    assert found.strength == 0
    assert not found.values.any()
    assert found.before == found.after
    assert "left as trained" in found.summary


@pytest.mark.parametrize(
    "given", [{"class_weights": "balanced"}, {"oversample": True}, {"logit_adjustment": "off"}], ids=str
)
def test_who_weighs_classes_keeps_what_was_set(given: dict[str, Any]) -> None:
    logits, labels, counts = overlapping(300)
    assert choose_offsets(logits, labels, counts, TrainRecipe(), NAMES) is not None
    assert choose_offsets(logits, labels, counts, TrainRecipe(**given), NAMES) is None
    even = np.array([300, 400, 300])
    assert choose_offsets(logits, labels, even, TrainRecipe(), NAMES) is None


@pytest.mark.parametrize("wanted", ["precision=0.9", "recall=0.9"])
def test_a_threshold_of_two_classes_stands_at_a_half(wanted: str) -> None:
    random = np.random.default_rng(0)
    labels = (random.random(400) < 0.2).astype(np.int64)
    logits = np.stack([np.zeros(400), 2.0 * labels - 1 + random.normal(size=400)], axis=1)
    target = Target.of(wanted)
    assert target is not None
    found = threshold_offsets(logits, labels, np.array([80, 20]), target, ("ham", "spam"))
    said = softmax(logits + found.values)[:, 1] >= 0.5
    measured = {"precision": precision_score(labels, said), "recall": recall_score(labels, said)}
    assert found.threshold is not None
    assert found.threshold.label == "spam"
    assert found.threshold.reached
    assert measured[target.figure] >= 0.9
    assert found.threshold.precision == pytest.approx(measured["precision"])
    assert found.threshold.recall == pytest.approx(measured["recall"])
    assert (said == (softmax(logits)[:, 1] >= found.threshold.probability)).all()


def test_a_precision_out_of_reach_is_said() -> None:
    labels = np.array([0, 1, 0, 1, 0, 0])
    logits = np.array([[0.0, score] for score in (3.0, 2.0, 1.0, 0.5, -1.0, -2.0)])
    found = threshold_offsets(logits, labels, np.array([4, 2]), Target("precision", 0.9), ("ham", "spam"))
    assert found.threshold is not None
    assert not found.threshold.reached
    assert found.threshold.precision == 0.5
    assert found.summary.startswith("precision 90% is out of reach for spam; the threshold of the highest precision:")


def rows_of(words: dict[str, int]) -> list[tuple[str, str]]:
    """Texts of each label, as many as said; every second one of a rare label reads like another's."""
    return [
        (f"the {label if number % 2 else 'bank'} {number % 7}", label)
        for label, count in words.items()
        for number in range(count)
    ]


def test_offsets_are_part_of_what_is_saved(
    tiny_backbone: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = rows_of({"match": 60, "bank": 60})
    settings: dict[str, Any] = {"backbone": str(tiny_backbone("bert")), "budget": "5k", "max_steps": 4}
    settings |= {"contrastive": "off", "report": "tables", "validation_size": 0.3, "progress": False}
    plain = pw.train(rows, **settings)
    with caplog.at_level(logging.INFO, "pennyweight"):
        found = pw.train(rows, out=tmp_path / "run", thresholds="recall=1.0", **settings)
    said = found.metrics["bias_offsets"]
    assert found.logits("the match 1") - plain.logits("the match 1") == pytest.approx(said["values"], abs=1e-4)
    assert f"threshold: {said['summary']}" in caplog.text
    assert found.metrics["validation"]["per_class"][1]["recall"] == 1.0  # what is measured has them too
    assert pw.load(tmp_path / "run").logits("the match 1") == pytest.approx(found.logits("the match 1"), abs=1e-5)
    assert said["summary"] in (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "Its threshold is set for recall=1 of match, which may cost accuracy" in found.metrics["verdict"]["headline"]
    card = (tmp_path / "run" / "README.md").read_text("utf-8")
    assert "Adjustment of the head's biases on the validation texts" in card


def test_a_rare_class_chooses_metric_and_offsets(
    tiny_backbone: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    settings: dict[str, Any] = {"backbone": str(tiny_backbone("bert")), "budget": "5k", "max_steps": 2}
    settings |= {"contrastive": "off", "progress": False}
    rows = rows_of({"match": 60, "bank": 60, "polls": 5})
    with caplog.at_level(logging.INFO, "pennyweight"):
        found = pw.train(rows, **settings)
    assert found.artifact.recipe.train.metric == "macro_f1"
    assert "metric: macro_f1 (auto; polls is rare, 3.6% of the training rows)" in caplog.text
    assert found.metrics["bias_offsets"]["strength"] is not None
    even = pw.train(rows_of({"match": 20, "bank": 20}), **settings)
    assert even.artifact.recipe.train.metric == "auto"
    assert even.artifact.run["train -> metric"] == "accuracy"
    kept = pw.train(rows, metric="accuracy", logit_adjustment="off", **settings)
    assert kept.artifact.recipe.train.metric == "accuracy"
    assert "bias_offsets" not in kept.metrics


def test_many_classes_have_no_threshold(tiny_backbone: Callable[..., Path]) -> None:
    rows = rows_of({"match": 10, "bank": 10, "polls": 10})
    settings: dict[str, Any] = {"backbone": str(tiny_backbone("bert")), "budget": "5k", "thresholds": "precision=0.9"}
    with pytest.raises(RecipeError) as error:
        pw.train(rows, **settings)
    assert str(error.value) == (
        "train -> thresholds: a threshold needs two classes or multi-label data; expected two classes, or any number "
        "of labels per text; received 3 classes; leave out --thresholds, and use `predict --target-accuracy 0.95` to "
        "label only sure texts"
    )
    with pytest.raises(RecipeError, match="macro_f1, micro_f1 or fixed with validation_size 0"):
        pw.train(rows, **settings, validation_size=0)
    with pytest.raises(RecipeError, match=r"precision=X or recall=X with X .* at most 1, received precision=2"):
        pw.train(rows, **settings | {"thresholds": "precision=2"})
