"""What the benchmarks conclude from their measurements; nothing is measured here."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("predict")


@pytest.fixture
def inputs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("inputs")


@pytest.fixture
def length_sorted(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("peers.length_sorted")


def figure(speed: float, p50: float = 1.0, passes: bool | None = True) -> dict[str, Any]:
    return {"texts_per_second": speed, "p50_ms": p50, "passes_gate": passes}


def test_ours_is_compared_with_the_fastest_peer_of_its_precision(predict: Any) -> None:
    figures = {
        "ours_fp32": figure(300.0), "transformers_fp32": figure(100.0), "openvino_fp32": figure(200.0),
        "ours_int8": figure(600.0, 2.0), "onnxruntime_int8": figure(500.0, 3.0),
    }  # fmt: skip
    found = predict.ratios(figures)
    assert (found["ratio_fp32"], found["ratio_int8"], found["ratio_p50"]) == (1.5, 1.2, 1.5)


def test_a_ratio_without_both_sides_is_none(predict: Any) -> None:
    found = predict.ratios({"ours_bf16": figure(300.0), "transformers_fp32": figure(100.0)})
    assert (found["ratio_bf16"], found["ratio_int8"], found["ratio_p50"]) == (None, None, None)
    assert found["ratio_gate"] == 3.0


def test_who_fails_the_gate_is_not_the_peer_to_beat(predict: Any) -> None:
    figures = {
        "ours_fp32": figure(300.0), "ours_int8": figure(900.0, passes=False),
        "openvino_fp32": figure(200.0), "openvino_int8": figure(1000.0, passes=False),
    }  # fmt: skip
    assert predict.ratios(figures)["ratio_gate"] == 1.5


@pytest.mark.parametrize(
    ("wrong", "passes"), [(0, True), (1, True), (2, False)], ids=["none changed", "0.1 % changed", "0.2 % changed"]
)
def test_the_gate_counts_changed_labels(predict: Any, wrong: int, passes: bool) -> None:
    reference = [0] * 1000
    truth = [1] * 1000  # so that no change costs accuracy
    found = predict.quality([1] * wrong + [0] * (1000 - wrong), reference, truth)
    assert found["passes_gate"] is passes
    assert found["labels_changed"] == wrong / 1000


def test_the_gate_counts_lost_accuracy(predict: Any) -> None:
    truth = [0] * 10_000
    lost = [1] * 11 + [0] * 9_989
    assert predict.quality(lost, truth, truth)["passes_gate"] is False
    assert predict.quality([*lost[1:], 0], truth, truth)["passes_gate"] is True


def test_without_a_reference_nothing_is_said_about_the_gate(predict: Any) -> None:
    found = predict.quality([0, 1], None, [0, 0])
    assert found == {"accuracy": 0.5, "labels_changed": None, "passes_gate": None}


def test_parts_share_no_row_and_the_last_stays_the_same(inputs: Any) -> None:
    texts = [f"text {number}" for number in range(100)], list(range(100))
    few, held = inputs.parts(texts, 10, 30)
    many, same = inputs.parts(texts, 70, 30)
    assert held == same
    assert not set(many[0]) & set(same[0])
    assert (len(few[0]), len(many[0])) == (10, 70)
    assert all(text == f"text {label}" for text, label in zip(*many, strict=True))


def test_classes_come_back_in_the_order_of_the_texts(length_sorted: Any) -> None:
    parts = [(np.array([2, 0]), np.array([[0.0, 1.0], [1.0, 0.0]])), (np.array([1]), np.array([[0.0, 2.0]]))]
    assert length_sorted.in_order(parts, 3).tolist() == [0, 1, 1]
