"""Logits, labels and names in, one evaluation out: no model is needed."""

import json

import numpy as np
import pytest

from pennyweight.evaluate.baselines.text_baselines import train_text_baselines
from pennyweight.evaluate.evaluation import EvaluationSettings, LabelThresholds, evaluate, unmeasured
from pennyweight.evaluate.labelled_rows import LabelledRows
from pennyweight.evaluate.metrics.calibration import Temperature

NAMES = ("bad", "fair", "good")


def rows(labels: np.ndarray, unknown: int = 0) -> LabelledRows:
    texts = [f"text {number} of class {label}" for number, label in enumerate(labels.tolist())]
    return LabelledRows(texts, labels, np.arange(1, len(labels) + 1), "data.csv", unknown=unknown)


def logits_of(labels: np.ndarray, seed: int) -> np.ndarray:
    """Of the classes (N,) or, twice the sharpness, of each label (N, 3)."""
    noise = np.random.default_rng(seed).normal(size=(len(labels), 3))
    return noise + (2 * np.eye(3)[labels] if labels.ndim == 1 else 4 * labels - 2)


@pytest.fixture
def single() -> dict[str, LabelledRows]:
    random = np.random.default_rng(0)
    return {name: rows(random.integers(0, 3, 100)) for name in ("train", "validation", "test")}


@pytest.fixture
def multi() -> dict[str, LabelledRows]:
    random = np.random.default_rng(0)
    return {name: rows(random.integers(0, 2, (100, 3))) for name in ("train", "validation", "test")}


def logits(parts: dict[str, LabelledRows], *names: str) -> dict[str, np.ndarray]:
    return {name: logits_of(parts[name].labels, seed) for seed, name in enumerate(names)}


def test_one_label_a_text(single: dict[str, LabelledRows]) -> None:
    baselines = train_text_baselines(single["train"], single["test"], single["validation"], 3)
    found = evaluate(single, logits(single, "validation", "test"), NAMES, EvaluationSettings(ordinal=True), baselines)
    assert found.measured_on == "test"
    assert found.calibration is not None
    assert found.calibration.temperature != 1.0
    assert found.thresholds is None
    assert found.metrics.accuracy == found.predictions["test"].correct.mean()
    values = json.loads(json.dumps(found.to_json()))
    assert list(values) == ["validation", "test", "calibration", "verdict", "baselines", "slices", "abstention"]
    assert values["test"]["ordinal"]["mean_absolute_error"] > 0
    assert values["baselines"][0]["difference"] == pytest.approx(
        values["test"]["accuracy"] - values["baselines"][0]["accuracy"]
    )
    for row in values["baselines"]:  # what the verdict judges beside the accuracy
        assert row["macro_f1_difference"] == pytest.approx(values["test"]["macro_f1"] - row["macro_f1"])
        low, high = row["macro_f1_difference_interval"]
        assert low < row["macro_f1_difference"] < high


def test_any_number_of_labels_a_text(multi: dict[str, LabelledRows]) -> None:
    baselines = train_text_baselines(multi["train"], multi["test"], multi["validation"], 3)
    found = evaluate(multi, logits(multi, "validation", "test"), NAMES, None, baselines)
    assert (found.calibration, found.ordinal, found.abstention) == (None, None, {})
    assert found.thresholds is not None
    assert (found.thresholds.tuned_for, found.thresholds.tuned_on) == ("macro_f1", "validation")
    assert found.metrics.accuracy == found.predictions["test"].correct.mean()
    values = json.loads(json.dumps(found.to_json()))
    assert list(values) == ["task", "validation", "test", "thresholds", "verdict", "baselines", "slices"]
    assert values["baselines"][1]["difference"] == pytest.approx(
        values["test"]["micro_f1"] - values["baselines"][1]["micro_f1"]
    )


def test_without_validation_rows_nothing_is_fitted(
    single: dict[str, LabelledRows], multi: dict[str, LabelledRows]
) -> None:
    found = evaluate(single, logits(single, "test"), NAMES)
    assert found.to_json()["calibration"]["temperature"] == 1.0
    assert found.to_json()["calibration"]["not_fitted"] == "no rows were held out for validation"
    assert (found.validation, found.abstention) == (None, {})
    found = evaluate(multi, logits(multi, "test"), NAMES)
    assert found.to_json()["thresholds"] == {"values": [0.5] * 3, "tuned_for": "fixed", "tuned_on": None}


def test_without_test_rows_the_validation_rows_are_measured(single: dict[str, LabelledRows]) -> None:
    found = evaluate(single, logits(single, "validation"), NAMES)
    assert found.measured_on == "validation"
    assert found.metrics == found.validation


def test_a_saved_temperature_and_saved_thresholds_are_kept(
    single: dict[str, LabelledRows], multi: dict[str, LabelledRows]
) -> None:
    saved = EvaluationSettings(
        temperature=Temperature(2.0, 0), thresholds=LabelThresholds(np.array([0.2, 0.5, 0.7]), "micro_f1", "validation")
    )
    assert evaluate(single, logits(single, "test"), NAMES, saved).calibration.temperature == 2.0
    assert evaluate(multi, logits(multi, "test"), NAMES, saved).metrics.thresholds == (0.2, 0.5, 0.7)


@pytest.mark.parametrize("shape", [(100,), (100, 3)])
def test_unknown_rows_count_as_wrong(shape: tuple[int, ...]) -> None:
    labels = np.ones(shape, int)
    found = evaluate({"test": rows(labels, unknown=100)}, {"test": logits_of(labels, 0) * 9}, NAMES)
    assert found.metrics.unknown == 100
    assert found.metrics.accuracy == found.predictions["test"].correct.mean() / 2


def test_what_is_served_unmeasured() -> None:
    assert unmeasured(NAMES, multi_label=False) == {}
    assert unmeasured(NAMES, multi_label=True)["thresholds"]["values"] == [0.5] * 3
