from typing import Any

import numpy as np
import pytest

from pennyweight.evaluate.metrics.calibration import reliability
from pennyweight.evaluate.metrics.classification import Metrics, score
from pennyweight.evaluate.report import figures


def metrics(classes: int) -> Metrics:
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, 20 * classes)
    logits = random.random((len(labels), classes)) + np.eye(classes)[labels]
    probabilities = logits / logits.sum(axis=1, keepdims=True)
    return score(labels, probabilities, [f"class {index}" for index in range(classes)])


def matrix(found: Metrics) -> Any:
    return figures.confusion(found.confusion or (), found.names)


def words(figure: Any) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_every_axis_is_named() -> None:
    history = [{"step": 1, "train_loss": 1.0, "validation_loss": 1.1, "accuracy": 0.5, "macro_f1": 0.4}]
    labels, probabilities = np.array([0, 1]), np.array([[0.9, 0.1], [0.6, 0.4]])
    bins = reliability(labels, probabilities)
    drawn = (
        figures.curves(history),
        matrix(metrics(3)),
        figures.reliability_diagram(bins, bins),
        figures.risk_coverage_curve(np.array([0.5, 1.0]), np.array([0.0, 0.2])),
    )
    for figure in drawn:
        assert all(axis.get_ylabel() for axis in figure.axes)
        assert figure.axes[-1].get_xlabel()
        assert figure.axes[0].get_title()


def test_with_any_number_of_labels_a_text_the_accuracy_is_called_what_it_is() -> None:
    history = [{"step": 1, "accuracy": 0.5, "macro_f1": 0.4, "micro_f1": 0.6}]
    shown = [text.get_text() for text in figures.curves(history).axes[1].get_legend().get_texts()]
    assert shown == ["exact match", "macro F1"]


def test_curves_draw_what_was_recorded_and_skip_the_rest() -> None:
    history = [
        {"step": 5, "train_loss": 1.0, "validation_loss": None},
        {"step": 10, "train_loss": 0.8, "validation_loss": 0.9},
    ]
    (axis,) = figures.curves(history).axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in axis.lines}
    assert lines == {"training": [[5, 1.0], [10, 0.8]], "validation": [[10, 0.9]]}


def test_confusion_shows_counts_and_row_shares() -> None:
    three = metrics(3)
    assert three.confusion is not None
    count = three.confusion[0][0]
    share = 100 * count / sum(three.confusion[0])
    assert words(matrix(three))[:2] == [str(count), f"{share:.1f}%"]


def test_a_confusion_matrix_of_many_classes_shows_the_worst() -> None:
    axis = matrix(metrics(40)).axes[0]
    assert len(axis.get_xticklabels()) == 30
    assert axis.get_title() == "The 30 of 40 classes with the most errors; shading: share of the true class"
    assert not axis.texts


def test_a_long_curve_is_thinned() -> None:
    line = figures.risk_coverage_curve(np.linspace(0, 1, 10**5), np.linspace(0, 0.1, 10**5)).axes[0].lines[0]
    points = line.get_xydata()
    assert len(points) <= 300
    assert points[-1].tolist() == pytest.approx([100, 10])


def test_short() -> None:
    assert figures.short("a\tb\n c\x00", 10) == "a b c"
    assert figures.short("abcdef", 4) == "ab…f"
    assert figures.short("Business news, local", 12) == "Business…cal"  # the ends tell such names apart
