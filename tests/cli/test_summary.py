"""The lines that end a training run on the terminal."""

import json
from pathlib import Path

from pennyweight.cli.summary import summary


def test_the_verdict_fits_the_terminal_and_names_stay_whole(tiny_run: Path) -> None:
    metrics = json.loads((tiny_run / "metrics.json").read_text("utf-8"))
    for words in range(70, 80):
        metrics["verdict"] = {"headline": f"{'x' * words} TF-IDF + logistic regression reaches 90.0%."}
        lines = summary(metrics).splitlines()
        assert any("TF-IDF" in line for line in lines[-2:])
        assert max(map(len, lines[-2:])) <= 80


def test_a_head_that_was_fitted_without_a_step_has_no_rate(tiny_run: Path) -> None:
    metrics = json.loads((tiny_run / "metrics.json").read_text("utf-8"))
    assert "texts/s" in summary(metrics)
    metrics["train"]["texts_per_second"] = 0.0
    assert "texts/s" not in summary(metrics)
