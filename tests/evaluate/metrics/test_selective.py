import numpy as np
import pytest

from pennyweight.errors import DataError
from pennyweight.evaluate.metrics.probabilities import softmax
from pennyweight.evaluate.metrics.selective import answered, risk_coverage, threshold_for


def two(confidence: list[float]) -> np.ndarray:
    return np.array([[value, 1 - value] for value in confidence])


def test_risk_coverage_keeps_ties_together() -> None:
    curve = risk_coverage(np.array([0, 0, 1, 0]), two([0.9, 0.8, 0.8, 0.6]))
    assert curve.threshold.tolist() == [0.9, 0.8, 0.6]
    assert curve.coverage.tolist() == [0.25, 0.75, 1.0]
    assert curve.risk.tolist() == pytest.approx([0, 1 / 3, 1 / 4])


def test_threshold_takes_the_largest_share_that_reaches_the_target() -> None:
    labels, probabilities = np.array([0, 0, 1, 0]), two([0.9, 0.8, 0.7, 0.6])
    pick = threshold_for(labels, probabilities, 1.0, sure=0.5)
    assert (pick.coverage, pick.accuracy, pick.value) == (0.5, 1.0, pytest.approx(0.75))
    everything = threshold_for(labels, probabilities, 0.7, sure=0.5)
    assert (everything.coverage, everything.accuracy, everything.value) == (1.0, 0.75, 0.0)


def promised(sure: float) -> tuple[float, float]:
    """How often a threshold for 90%, picked on 1,000 rows, holds on 5,000 others, and the mean share it answers."""
    kept = []
    for seed in range(60):
        pick = threshold_for(*calibrated(1000, seed), 0.9, sure=sure)
        elsewhere = answered(*calibrated(5000, 1000 + seed), pick.value)
        assert elsewhere is not None
        kept.append((elsewhere.accuracy >= 0.9, elsewhere.coverage))
    met, coverage = np.mean(kept, axis=0)
    return met, coverage


def calibrated(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    probabilities = softmax(random.normal(size=(n, 4)) * 2)
    return (random.random((n, 1)) > probabilities.cumsum(axis=1)).sum(axis=1), probabilities


def test_a_surer_threshold_is_kept_on_other_rows_and_answers_less() -> None:
    met, coverage = promised(0.9)
    plain_met, plain_coverage = promised(0.5)
    assert met >= 0.85 > 0.7 > plain_met
    assert plain_coverage > coverage > 0.2


def test_a_target_out_of_reach_is_refused_with_the_best_there_is() -> None:
    with pytest.raises(DataError) as caught:
        threshold_for(np.array([0, 0, 1, 0]), two([0.9, 0.8, 0.7, 0.6]), 0.98)
    assert str(caught.value) == (
        "no threshold gives an accuracy of 98% on the 4 validation texts; expected a share of these texts whose "
        "accuracy reaches the target with 90% confidence; received at best 54.9%, with labels for 50.0% of the "
        "texts; lower the target accuracy or validate on more texts"
    )


def test_a_threshold_that_answers_nothing() -> None:
    assert answered(np.array([0]), two([0.6]), 0.9) is None
