"""ROC-AUC and average precision, against their definitions."""

import json

import numpy as np
import pytest

from pennyweight.evaluate.metrics.classification import Metrics, score
from pennyweight.evaluate.metrics.ranking import ranking


def pairs_in_order(labels: np.ndarray, scores: np.ndarray) -> float:
    """The share of pairs of a positive and a negative row that the scores put in order, ties by half."""
    gaps = scores[labels == 1][:, None] - scores[labels == 0]
    return float(((gaps > 0) + 0.5 * (gaps == 0)).mean())


def test_two_classes_share_an_area_and_have_a_precision_each() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(40) % 2
    second = np.round(random.random(40) * 0.6 + 0.4 * labels, 1)
    found = ranking(labels, np.stack([1 - second, second], axis=1))
    assert found is not None
    assert found.roc_auc == pytest.approx([pairs_in_order(labels, second)] * 2)
    assert found.average_precision[0] != found.average_precision[1]


def test_a_label_that_all_rows_carry_or_none_has_no_area_and_no_part_in_the_mean() -> None:
    labels = np.array([[1, 0, 1], [1, 0, 0], [1, 0, 1]])
    probabilities = np.array([[0.5, 0.5, 0.9], [0.4, 0.4, 0.1], [0.3, 0.2, 0.8]])
    found = ranking(labels, probabilities)
    assert found is not None
    assert found.roc_auc == (None, None, 1.0)
    assert found.macro_roc_auc == found.macro_average_precision == 1.0
    assert ranking(labels[:, :2], probabilities[:, :2]).macro_roc_auc is None


def test_more_than_two_classes_are_not_ranked() -> None:
    assert ranking(np.array([0, 1, 2]), np.full((3, 3), 1 / 3)) is None


@pytest.mark.parametrize("labels", [np.array([0, 1, 1]), np.array([[0, 1], [1, 1], [1, 0]])])
def test_metrics_keep_it_in_json(labels: np.ndarray) -> None:
    metrics = score(labels, np.array([[0.8, 0.2], [0.4, 0.6], [0.7, 0.3]]), ["no", "yes"])
    values = json.loads(json.dumps(metrics.to_json()))
    assert values["ranking"]["roc_auc_by_label"] == list(metrics.ranking.roc_auc)
    assert Metrics.from_json(values) == metrics
    assert Metrics.from_json({key: value for key, value in values.items() if key != "ranking"}).ranking is None
