from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pennyweight as pw
from pennyweight.errors import ArtifactError, InputError
from pennyweight.evaluate.row_predictions import RowPredictions
from pennyweight.predict.abstention import Abstainer, make_abstainer, threshold_for_accuracy


def given(*confidence: float) -> list[dict[str, Any]]:
    return [{"label": "a", "probability": value, "p_a": value} for value in confidence]


def test_unsure_answers_lose_their_label_and_nothing_else() -> None:
    abstain = Abstainer(0.7, "why")
    kept = list(abstain(given(0.9, 0.6, 0.7)))
    assert [row["label"] for row in kept] == ["a", None, "a"]
    assert [row["p_a"] for row in kept] == [0.9, 0.6, 0.7]
    assert str(abstain) == "labelled 2 of 3 texts (66.7%), why"


def test_without_a_threshold_everything_is_answered(run: Path) -> None:
    abstain = make_abstainer(pw.load(run))
    assert list(abstain(given(0.1))) == given(0.1)


def test_the_threshold_comes_from_the_validation_rows(run: Path) -> None:
    classifier = pw.load(run)
    confidence = np.linspace(0.5, 0.99, 100).astype(np.float32)
    labels = np.zeros(100, dtype=np.int32)
    wrong = (np.arange(100) < 40).astype(np.int32)  # the unsure ones are wrong
    kept = RowPredictions(np.arange(100), labels, wrong, confidence)
    classifier.artifact = replace(classifier.artifact, predictions=kept.to_arrays("validation"))
    picked = threshold_for_accuracy(classifier, 0.9)
    assert confidence[34] < picked.value < confidence[41]
    assert picked.accuracy >= 0.9
    abstain = make_abstainer(classifier, target=0.9)
    assert abstain.threshold == picked.value
    assert "which on 100 validation texts answers" in abstain.why


@pytest.mark.parametrize(
    ("below", "target", "said"),
    [
        (0.5, 0.9, "a confidence and a target accuracy contradict each other; give one of them"),
        (1.5, None, "a confidence is a probability; expected 0 to 1; received 1.5"),
        (None, 98.0, "a target accuracy is a share; expected above 0 and at most 1; received 98.0"),
    ],
)
def test_thresholds_out_of_range_are_refused(run: Path, below: float, target: float, said: str) -> None:
    with pytest.raises(InputError) as caught:
        make_abstainer(pw.load(run), below, target)
    assert str(caught.value) == said


def test_a_classifier_without_validation_answers_says_so(run: Path) -> None:
    classifier = pw.load(run)
    classifier.artifact = replace(classifier.artifact, predictions={})
    with pytest.raises(
        ArtifactError, match="has no saved validation predictions for choosing a threshold; train it again"
    ):
        threshold_for_accuracy(classifier, 0.9)
