from statistics import mean, stdev

import numpy as np
import pytest
from sklearn.metrics import f1_score

from pennyweight.evaluate.metrics.bootstrap import (
    ece_interval,
    log_loss_interval,
    macro_f1_interval,
    over_seeds,
    paired_micro_f1,
)
from pennyweight.evaluate.metrics.calibration import expected_calibration_error
from pennyweight.evaluate.metrics.classification import averages, score
from pennyweight.evaluate.metrics.probabilities import softmax


def calibrated(n: int, seed: int, sharper: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(n, 4)) * 2
    labels = (random.random((n, 1)) > softmax(logits).cumsum(axis=1)).sum(axis=1)
    return labels, softmax(logits * sharper)


def test_macro_f1_interval_is_the_bootstrap_over_rows() -> None:
    labels, probabilities = calibrated(400, 0)
    predicted = probabilities.argmax(axis=1)
    random = np.random.default_rng(0)
    drawn = [random.integers(0, 400, 400) for _ in range(1000)]
    scores = [f1_score(labels[rows], predicted[rows], average="macro") for rows in drawn]
    ours = macro_f1_interval(score(labels, probabilities, "abcd").confusion)
    assert ours == pytest.approx(np.quantile(scores, [0.025, 0.975]), abs=0.01)
    assert ours[0] < f1_score(labels, predicted, average="macro") < ours[1]


def test_macro_f1_interval_of_a_perfect_classifier_with_an_absent_class() -> None:
    metrics = score(np.array([0, 1, 1]), np.eye(3)[[0, 1, 1]], "abc")
    assert metrics.macro.f1 == 1.0
    assert macro_f1_interval(metrics.confusion) == (1.0, 1.0)


def test_log_loss_interval_covers_the_true_loss() -> None:
    truth = np.mean([-np.log(p[np.arange(len(y)), y]).mean() for y, p in (calibrated(50_000, 999 + s) for s in (0, 1))])
    covered = [low <= truth <= high for low, high in (log_loss_interval(*calibrated(400, seed)) for seed in range(200))]
    assert 0.9 <= np.mean(covered) <= 0.99


def test_log_loss_interval_of_one_row_is_bounded() -> None:
    assert log_loss_interval(np.array([0]), np.array([[0.5, 0.5]])) == (0.0, pytest.approx(np.log(2)))


def test_ece_interval_holds_the_measured_value_and_covers_the_true_one() -> None:
    true_error = expected_calibration_error(*calibrated(200_000, 5, sharper=2.0))
    covered = []
    for seed in range(60):
        labels, probabilities = calibrated(500, seed, sharper=2.0)
        low, high = ece_interval(labels, probabilities)
        assert low <= expected_calibration_error(labels, probabilities) <= high
        covered.append(low <= true_error <= high)
    assert np.mean(covered) >= 0.88


def test_spread_over_seeds() -> None:
    values = [0.9, 0.92, 0.91]
    spread = over_seeds(values)
    assert (spread.mean, spread.deviation) == (pytest.approx(mean(values)), pytest.approx(stdev(values)))
    assert over_seeds([0.9]).deviation == 0.0


def test_micro_f1_of_two_classifiers_is_paired() -> None:
    random = np.random.default_rng(0)
    labels = (random.random((200, 3)) < 0.4).astype(np.int64)
    first = np.where(random.random(labels.shape) < 0.3, 1 - labels, labels)
    second = np.where((first != labels) & (random.random(labels.shape) < 0.3), labels, first)
    gap, (low, high) = paired_micro_f1(labels, first, second)
    expected = f1_score(labels, second, average="micro") - f1_score(labels, first, average="micro")
    assert gap == pytest.approx(expected)
    assert 0 < low < gap < high
    # Errors that both make do not widen the interval.
    alone = [f1_score(labels[rows], second[rows], average="micro") for rows in random.integers(0, 200, (300, 200))]
    assert high - low < np.quantile(alone, 0.975) - np.quantile(alone, 0.025)
    nothing = np.zeros((4, 2), dtype=np.int64)
    assert averages(nothing, nothing, "micro").f1 == 0.0
