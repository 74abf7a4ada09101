"""The model card is Hugging Face's form, drawn from the same numbers as metrics.json."""

from __future__ import annotations

import json
from pathlib import Path

import yaml


def test_the_card_is_of_this_classifier(tiny_run: Path) -> None:
    card = (tiny_run / "README.md").read_text("utf-8")
    metrics = json.loads((tiny_run / "metrics.json").read_text("utf-8"))
    _, front, body = card.split("---\n", 2)
    head = yaml.safe_load(front)
    assert head["library_name"] == "pennyweight"
    assert head["pipeline_tag"] == "text-classification"
    assert f"# Text classifier, {metrics['trainable']:,} trained parameters" in body
    assert f"Accuracy {metrics['test']['accuracy']:.1%}" in body
    assert "on 15 test texts" in body
    assert "a budget of 5,000" in body
    assert "Business" in body
    assert "Texts are cut at 128 tokens." in body
