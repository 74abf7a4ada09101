"""Figures that know the order of the classes."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

import pennyweight as pw
from pennyweight.artifact.metrics_file import MetricsFile
from pennyweight.errors import InputError
from pennyweight.evaluate.metrics.classification import score
from pennyweight.evaluate.metrics.ordinal import ordinal

ORDER = ["low", "medium", "high"]
TEXTS = {"low": "The rate and the cut.", "medium": "The cup and the match.", "high": "The polls and the river."}


@pytest.mark.parametrize("seed", range(10))
def test_the_figures_are_scikit_learns(seed: int) -> None:
    draw = np.random.default_rng(seed)
    labels, predicted = draw.integers(0, 4, 50), draw.integers(0, 4, 50)
    found = ordinal(score(labels, np.eye(4)[predicted], "abcd").confusion)
    assert found.quadratic_kappa == pytest.approx(cohen_kappa_score(labels, predicted, weights="quadratic"), abs=1e-12)
    assert found.mean_absolute_error == pytest.approx(np.abs(labels - predicted).mean(), abs=1e-12)
    for value, (low, high) in (
        (found.quadratic_kappa, found.quadratic_kappa_interval),
        (found.mean_absolute_error, found.mean_absolute_error_interval),
    ):
        assert low < value < high


def test_one_class_alone_says_nothing_about_agreement() -> None:
    assert ordinal(score(np.zeros(3, dtype=int), np.eye(2)[[0, 0, 0]], "ab").confusion).quadratic_kappa == 0


@pytest.fixture(scope="module")
def settings(tiny_backbone: Callable[..., Path]) -> dict[str, Any]:
    return {
        "backbone": str(tiny_backbone("bert")), "budget": "5k", "epochs": 4, "learning_rate": 1e-2, "batch_size": 8,
        "precision": "fp32", "report": "short",
    }  # fmt: skip


def test_a_stated_order_holds_everywhere(settings: dict[str, Any], tmp_path: Path, command: Callable[..., Any]) -> None:
    rows = [(TEXTS[ORDER[number % 3]], ORDER[number % 3]) for number in range(60)]
    classifier = pw.train(rows, test=rows[:30], out=tmp_path / "run", label_names=ORDER, ordinal=True, **settings)
    found = json.loads((tmp_path / "run" / "metrics.json").read_text("utf-8"))
    MetricsFile.model_validate(found, strict=True)
    assert found["data"]["labels"] == ORDER
    assert [row["name"] for row in found["test"]["per_class"]] == ORDER
    confusion = np.array(found["test"]["confusion"])
    assert confusion.sum(axis=1).tolist() == [10, 10, 10]
    ranks = np.abs(np.subtract.outer(np.arange(3), np.arange(3)))
    assert found["test"]["ordinal"]["mean_absolute_error"] == pytest.approx((confusion * ranks).sum() / 30)
    assert classifier.metrics["test"]["accuracy"] == 1.0
    assert found["test"]["ordinal"]["quadratic_kappa"] == 1.0
    assert pw.load(tmp_path / "run").labels == tuple(ORDER)
    assert (tmp_path / "run" / "README.md").read_text("utf-8").index("0. low\n1. medium\n2. high") > 0
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "Quadratic kappa" in page
    with (tmp_path / "test.csv").open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([("text", "label"), *rows[:6]])
    shown = command("predict", tmp_path / "run", tmp_path / "test.csv", "--format", "csv")
    answers = list(csv.DictReader(shown.out.splitlines()))
    assert list(answers[0])[2:] == ["predicted_label", "probability", "p_low", "p_medium", "p_high"]
    assert [row["predicted_label"] for row in answers] == ORDER * 2
    evaluated = command("evaluate", tmp_path / "run", tmp_path / "test.csv")
    assert "mean absolute error 0.000 ranks (95% interval 0.000 to 0.000), quadratic kappa 1.000" in evaluated.out


def test_an_order_that_nothing_states(settings: dict[str, Any]) -> None:
    rows = [(TEXTS[ORDER[number % 3]], ORDER[number % 3]) for number in range(30)]
    with pytest.raises(InputError) as caught:
        pw.train(rows, ordinal=True, **settings)
    assert str(caught.value) == (
        "data: the order of the classes is unknown; expected --label-names with --ordinal, lowest first; "
        "received high, low, medium"
    )
    stars = [(text, ORDER.index(label) + 1) for text, label in rows]
    assert pw.train(stars, ordinal=True, **settings | {"max_steps": 1}).metrics["validation"]["ordinal"]
    with pytest.raises(InputError, match="multi-label classes have no order; leave out --ordinal"):
        pw.train([(text, [label]) for text, label in rows], ordinal=True, **settings)
