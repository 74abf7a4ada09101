import numpy as np
import pytest

from pennyweight.evaluate.baselines.baselines import FROZEN, MAJORITY, TFIDF, Baseline
from pennyweight.evaluate.baselines.verdict import BaselineRow, against, verdict
from pennyweight.evaluate.metrics.single_label import Metrics, score


def guessing(labels: np.ndarray, accuracy: float, seed: int) -> np.ndarray:
    """Probabilities that are right on about that share of rows."""
    wrong = np.random.default_rng(seed).random(len(labels)) >= accuracy
    return np.eye(3)[(labels + wrong) % 3] * 0.7 + 0.1


def run(accuracy: float, **baselines: float) -> tuple[Metrics, tuple[BaselineRow, ...]]:
    labels = np.arange(900) % 3
    names = {"majority": MAJORITY, "tfidf": TFIDF, "frozen": FROZEN}
    probabilities = guessing(labels, accuracy, 0)
    rivals = [Baseline(names[key], guessing(labels, share, 1), 1.5) for key, share in baselines.items()]
    return score(labels, probabilities, list("abc")), against(labels, probabilities, rivals)


def test_rows_hold_the_baselines_figures() -> None:
    metrics, (row,) = run(0.9, tfidf=0.8)
    assert row.name == TFIDF
    assert 0.77 < row.accuracy < 0.83
    assert row.accuracy_interval[0] < row.accuracy < row.accuracy_interval[1]
    assert row.seconds == 1.5
    assert row.comparison.difference == pytest.approx(metrics.accuracy - row.accuracy)
    assert row.comparison.second == "this classifier"


def test_better_than_all_names_the_strongest() -> None:
    result = verdict(*run(0.95, majority=0.33, tfidf=0.8, frozen=0.85))
    assert result.standing == "better"
    assert result.headline.startswith(
        "Better than every baseline tried: this classifier is better than the frozen backbone + linear head by "
    )
    assert result.headline.endswith(".")


def test_shuffled_labels_are_said_first() -> None:
    result = verdict(*run(0.34, majority=0.33, tfidf=0.9))
    assert result.standing == "no better"
    assert result.headline.startswith("This classifier is no better than the majority class (accuracy 3")


def test_one_strong_baseline_decides() -> None:
    result = verdict(*run(0.8, majority=0.33, tfidf=0.95, frozen=0.5))
    assert result.standing == "no better"
    assert result.headline.startswith(
        "Not better than every baseline: this classifier is worse than TF-IDF + logistic regression by 1"
    )


def test_an_even_baseline_leaves_it_open() -> None:
    result = verdict(*run(0.8, majority=0.33, tfidf=0.8))
    assert result.standing == "unclear"
    assert "is not shown to differ from TF-IDF + logistic regression (difference " in result.headline


def test_without_baselines_nothing_is_claimed() -> None:
    metrics, _ = run(0.8)
    result = verdict(metrics, ())
    assert result.standing == "not compared"
    assert result.headline.startswith("This classifier was compared with no baseline (accuracy ")
