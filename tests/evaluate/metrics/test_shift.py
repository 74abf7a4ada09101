"""The figures of shift: families apart, intervals over rows, there and back through JSON."""

from __future__ import annotations

import numpy as np
import pytest

from pennyweight.errors import DataError, InputError
from pennyweight.evaluate.metrics.shift import Shift, check_names, row, shift, suite
from pennyweight.evaluate.report.shift_plot import heat_map

LABELS = np.array([0, 1] * 20)


def answers(wrong: int) -> np.ndarray:
    """Probabilities that are right but for the first `wrong` rows."""
    found = np.full((40, 2), 0.1)
    predicted = LABELS.copy()
    predicted[:wrong] = 1 - predicted[:wrong]
    found[np.arange(40), predicted] = 0.9
    return found


@pytest.fixture
def found() -> Shift:
    corrupted = {
        ("word_drop", 3): answers(4), ("truncation", 3): answers(8), ("keyboard_typos", 3): answers(20),
        ("keyboard_typos", 5): answers(30),
    }  # fmt: skip
    return shift(LABELS, answers(2), corrupted, ood=[row("other.csv", 0, LABELS, answers(10))], seed=7)


def test_means_of_the_families_stand_apart(found: Shift) -> None:
    assert found.clean.accuracy == 0.95
    assert found.clean.ece == pytest.approx(0.05)
    training = found.mean("training")
    assert (training.accuracy, training.corruptions) == (pytest.approx(0.85), 2)
    assert training.loss == pytest.approx(0.10)
    # Each row counts by its mean over the two corruptions: 4 with 0, 4 with a half, 32 with 1.
    deviation = np.std([0] * 4 + [0.5] * 4 + [1] * 32, ddof=1)
    assert training.interval[1] - training.interval[0] == pytest.approx(2 * 1.959964 * deviation / 40**0.5, rel=1e-5)
    assert found.mean("held out").accuracy == 0.5
    assert found.mean("held out", 5).accuracy == 0.25
    with pytest.raises(KeyError):
        found.mean("training", 5)


def test_there_and_back_and_in_words(found: Shift) -> None:
    assert Shift.from_json(found.to_json()) == found
    text = str(found)
    assert "mean, held out family" in text
    assert "keyboard_typos" in text
    assert "other.csv" in text
    assert text.index("word_drop") < text.index("mean, training family") < text.index("keyboard_typos")


def test_the_picture_shows_every_line(found: Shift) -> None:
    figure = heat_map(found)
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "clean", "word drop", "truncation", "mean, training family", "keyboard typos", "mean, held out family"
    ]  # fmt: skip
    assert [label.get_text() for label in axis.get_xticklabels()] == ["3", "5"]
    assert "25.0" in {text.get_text() for text in axis.texts}


def test_the_suite_gives_each_condition_once() -> None:
    made = list(suite(["One two three.", "Four."], names=["word_drop", "upper_case"], severities=[5, 1, 5], seed=1))
    assert [(name, severity) for name, severity, _ in made] == [
        ("word_drop", 1), ("word_drop", 5), ("upper_case", 1), ("upper_case", 5)
    ]  # fmt: skip
    assert made[-1][2] == ["ONE TWO THREE.", "FOUR."]


def test_what_cannot_be_measured() -> None:
    with pytest.raises(InputError, match="no such severity; expected 1, 2, 3, 4 or 5; received 9"):
        check_names(None, [1, 9])
    with pytest.raises(InputError, match="received none"):
        check_names(None, [])
    with pytest.raises(InputError, match="no such corruption"):
        check_names(["leet"], [1])
    with pytest.raises(DataError, match=r"other.csv: there are no rows to measure on"):
        row("other.csv", 0, LABELS[:0], answers(0)[:0])
