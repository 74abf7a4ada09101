"""The number format by measurement: the fastest whose accuracy is fp32's within 0.1 points."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pennyweight.data.batching import Encoded, pack
from pennyweight.model.inference import precision as precisions
from pennyweight.model.inference.precision import MOST_ROWS, PrecisionChoice, measure_precisions

ROWS = 2000
TRUTH = np.arange(ROWS) % 3


class Clock:
    """Stands still but for what engines take."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(precisions.time, "perf_counter", made)
    return made


class Engine:
    """Right about all texts but some; a text is its own row number."""

    def __init__(self, clock: Clock, texts_per_second: float, wrong: range = range(0), labels: int = 3) -> None:
        self.clock, self.texts_per_second, self.wrong, self.labels = clock, texts_per_second, wrong, labels
        self.calls: list[int] = []

    def logits(self, tokens: Encoded) -> np.ndarray:
        self.calls.append(len(tokens))
        self.clock.now += len(tokens) / self.texts_per_second
        rows = tokens.ids[tokens.offsets[:-1]]
        answers = (rows + np.isin(rows, list(self.wrong))) % 3
        found: np.ndarray = np.eye(self.labels, dtype=np.float32)[answers] - 0.5
        return found


def best(logits: np.ndarray) -> np.ndarray:
    found: np.ndarray = logits.argmax(1)
    return found


def measure(engines: dict[str, Any], rows: int = ROWS) -> PrecisionChoice:
    return measure_precisions(engines, pack([[row] for row in range(rows)]), best, np.arange(rows) % 3)


def test_of_those_that_are_as_good_it_is_the_fastest(clock: Clock) -> None:
    # Two wrong answers of 2,000 are 0.1 points.
    engines = {"fp32": Engine(clock, 100), "bf16": Engine(clock, 250), "int8": Engine(clock, 400, range(2))}
    choice = measure(engines)
    assert choice.precision == "int8"
    assert choice.rows == ROWS
    assert list(choice.measured) == ["fp32", "bf16", "int8"]
    figures = choice.measured["int8"]
    assert (figures.accuracy, figures.labels_changed) == pytest.approx((0.999, 0.001))
    assert figures.texts_per_second == pytest.approx(400)
    assert choice.measured["fp32"].labels_changed == 0
    # First calls, in which kernels are made, are not timed.
    assert all(len(engine.calls) == 2 for engine in engines.values())
    assert str(choice) == (
        "int8 (on 2,000 validation texts: fp32 100.00% at 100 texts/s, bf16 100.00% at 250 texts/s, "
        "int8 99.90% at 400 texts/s)"
    )


def test_what_changes_the_accuracy_by_more_is_refused_however_fast(clock: Clock) -> None:
    choice = measure({"fp32": Engine(clock, 100), "bf16": Engine(clock, 250), "int8": Engine(clock, 400, range(3))})
    assert choice.precision == "bf16"
    assert choice.measured["int8"].accuracy == pytest.approx(0.9985)


def test_what_is_better_by_more_is_refused_too(clock: Clock) -> None:
    """That it is another classifier is all that is known: on other texts it may be as much worse."""
    choice = measure({"fp32": Engine(clock, 100, range(3)), "int8": Engine(clock, 400)})
    assert choice.precision == "fp32"


def test_what_is_slower_is_not_taken(clock: Clock) -> None:
    assert (
        measure({"fp32": Engine(clock, 100), "bf16": Engine(clock, 99), "int8": Engine(clock, 50)}).precision == "fp32"
    )


def test_changed_labels_are_counted_even_where_the_accuracy_stays(clock: Clock) -> None:
    choice = measure({"fp32": Engine(clock, 100, range(10)), "int8": Engine(clock, 400, range(10, 20))})
    assert choice.precision == "int8"
    assert choice.measured["int8"].labels_changed == pytest.approx(20 / ROWS)


def test_of_many_rows_a_part_is_measured_the_same_for_each(clock: Clock) -> None:
    engines = {"fp32": Engine(clock, 100), "bf16": Engine(clock, 250)}
    assert measure(engines, 3 * MOST_ROWS).rows == MOST_ROWS
    assert {engine.calls[-1] for engine in engines.values()} == {MOST_ROWS}


def test_multi_label_answers_are_right_where_all_labels_are(clock: Clock) -> None:
    truth = np.eye(3, dtype=bool)[TRUTH]
    tokens = pack([[row] for row in range(ROWS)])
    engines: dict[str, Any] = {"fp32": Engine(clock, 100, range(4)), "bf16": Engine(clock, 200, range(4))}
    choice = measure_precisions(engines, tokens, lambda logits: logits > 0, truth)
    assert choice.precision == "bf16"
    assert choice.measured["bf16"].accuracy == pytest.approx(1 - 4 / ROWS)


def test_it_is_saved_as_plain_numbers(clock: Clock) -> None:
    saved = measure({"fp32": Engine(clock, 100)}).to_json()
    assert saved == {
        "precision": "fp32",
        "rows": ROWS,
        "measured": {"fp32": {"accuracy": 1.0, "labels_changed": 0.0, "texts_per_second": pytest.approx(100)}},
    }
    assert PrecisionChoice("bf16").to_json() == {"precision": "bf16", "rows": 0, "measured": {}}
    assert str(PrecisionChoice("bf16")) == "bf16"
