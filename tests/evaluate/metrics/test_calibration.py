from itertools import pairwise

import numpy as np
import pytest

from pennyweight.errors import DataError
from pennyweight.evaluate.metrics.calibration import (
    calibrate,
    choose_temperature,
    confidences,
    expected_calibration_error,
    fit_temperature,
    reliability,
    reliability_by_quantiles,
)
from pennyweight.evaluate.metrics.probabilities import softmax


def overconfident(n: int, seed: int, factor: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from the softmax of logits, and those logits made `factor` times too large."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(n, 4)) * 2
    cumulative = softmax(logits).cumsum(axis=1)
    labels = (random.random((n, 1)) > cumulative).sum(axis=1)
    return labels, logits * factor


def two(confidence: list[float]) -> np.ndarray:
    return np.array([[value, 1 - value] for value in confidence])


def test_reliability_by_hand() -> None:
    probabilities = two([0.95, 0.92, 0.97, 0.55, 1.0])
    bins = reliability(np.array([0, 1, 0, 1, 0]), probabilities, bins=10)
    assert [(round(one.low, 9), one.count) for one in bins] == [(0.5, 1), (0.9, 4)]
    assert bins[0].accuracy == 0.0
    assert bins[1].accuracy == 0.75
    assert bins[1].confidence == pytest.approx(0.96)
    expected = (1 * 0.55 + 4 * (0.96 - 0.75)) / 5
    assert expected_calibration_error(np.array([0, 1, 0, 1, 0]), probabilities, bins=10) == pytest.approx(expected)


def test_groups_of_a_diagram_have_equally_many_rows_sorted_by_confidence() -> None:
    labels, logits = overconfident(400, seed=4)
    groups = reliability_by_quantiles(labels, softmax(logits))
    assert [one.count for one in groups] == [40] * 10
    assert all(one.low <= one.confidence <= one.high for one in groups)
    assert all(left.high <= right.low for left, right in pairwise(groups))
    confidence, correct = confidences(labels, softmax(logits))
    assert sum(one.count * one.accuracy for one in groups) == pytest.approx(correct.sum())
    assert groups[-1].confidence == pytest.approx(np.sort(confidence)[-40:].mean())


def test_few_rows_make_few_groups() -> None:
    assert [one.count for one in reliability_by_quantiles(np.zeros(25, dtype=int), two([0.9] * 25))] == [13, 12]
    assert [one.count for one in reliability_by_quantiles(np.zeros(3, dtype=int), two([0.9] * 3))] == [3]


def test_confidence_on_a_bin_edge_belongs_to_the_lower_bin() -> None:
    assert [one.high for one in reliability(np.array([0]), two([0.8]), bins=5)] == [0.8]


def test_temperature_finds_the_factor_and_lowers_the_error_on_other_rows() -> None:
    labels, logits = overconfident(4000, seed=0)
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(3.0, rel=0.08)
    test_labels, test_logits = overconfident(4000, seed=1)
    calibration = calibrate(test_labels, test_logits, temperature)
    assert calibration.ece_after < 0.03 < 0.1 < calibration.ece_before
    assert (softmax(test_logits, temperature).argmax(1) == softmax(test_logits).argmax(1)).all()
    assert str(calibration).startswith(f"A temperature of {temperature:.2f}, fitted on validation, lowers the cali")


def test_a_temperature_that_does_not_help_is_called_that() -> None:
    labels, logits = overconfident(4000, seed=2, factor=1.0)
    assert "does not help: the calibration error rises from" in str(calibrate(labels, logits, 3.0))


def test_temperature_is_the_minimum_of_the_loss() -> None:
    labels, logits = overconfident(500, seed=3)
    best = fit_temperature(logits, labels)

    def loss(temperature: float) -> float:
        return float(-np.log(softmax(logits, temperature)[np.arange(500), labels]).mean())

    assert loss(best) <= min(loss(best * 1.01), loss(best / 1.01))


def test_temperature_of_a_faultless_validation_set_is_one() -> None:
    assert fit_temperature(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([0, 1])) == 1.0


def test_temperature_without_rows_is_refused() -> None:
    with pytest.raises(DataError, match=r"^a temperature needs validation rows$"):
        fit_temperature(np.empty((0, 2)), np.empty(0, int))


def test_a_temperature_that_helps_out_of_sample_is_kept() -> None:
    labels, logits = overconfident(400, seed=0)
    found = choose_temperature(logits, labels)
    assert (found.value, found.rows, found.reason) == (fit_temperature(logits, labels), 400, None)


@pytest.mark.parametrize("rows", [0, 1, 4, 49])
def test_a_temperature_of_a_few_rows_is_not_fitted(rows: int) -> None:
    labels, logits = overconfident(rows, seed=0) if rows else (np.empty(0, int), np.empty((0, 4)))
    found = choose_temperature(logits, labels)
    assert (found.value, found.rows) == (1.0, rows)
    few = f"{rows} validation rows are too few to fit one; at least 50 are needed"
    assert found.reason == (few if rows else "no rows were held out for validation")


def test_a_temperature_that_does_not_help_out_of_sample_is_not_kept() -> None:
    kept = 0
    for seed in range(20):
        labels, logits = overconfident(60, seed=seed, factor=1.0)  # right as they are: nothing is to be gained
        assert fit_temperature(logits, labels) != 1.0
        found = choose_temperature(logits, labels)
        kept += found.reason is None
        if found.reason is not None:
            assert found.value == 1.0
            assert found.reason == "a fitted one does not help on validation rows that it was not fitted on"
    assert kept <= 8


def test_rows_in_the_order_of_their_classes_make_no_difference() -> None:
    labels, logits = overconfident(400, seed=4)
    order = np.argsort(labels, kind="stable")
    by_class, mixed = choose_temperature(logits[order], labels[order]), choose_temperature(logits, labels)
    assert by_class.value == pytest.approx(mixed.value)


def test_no_temperature_where_every_row_is_right() -> None:
    labels = np.arange(60) % 3
    found = choose_temperature(np.eye(3)[labels], labels)
    assert (found.value, found.reason) == (1.0, "all validation rows are right, so none can be fitted")


def test_a_calibration_without_a_temperature_says_why() -> None:
    labels, logits = overconfident(100, seed=5)
    found = calibrate(labels, logits, 1.0, "4 validation rows are too few to fit one; at least 50 are needed")
    assert str(found) == (
        "The probabilities are not temperature-scaled: 4 validation rows are too few to fit one; at least 50 are needed"
    )


def test_softmax_of_large_logits_does_not_overflow() -> None:
    assert softmax(np.array([[1000.0, 0.0]])).tolist() == [[1.0, 0.0]]
