import numpy as np
import pytest
from threadpoolctl import threadpool_info

from pennyweight.errors import DataError
from pennyweight.evaluate.baselines import logistic_regression
from pennyweight.evaluate.baselines.linear_probe import linear_probe
from pennyweight.evaluate.baselines.majority import majority
from pennyweight.evaluate.baselines.text_baselines import train_text_baselines
from pennyweight.evaluate.baselines.tfidf import tfidf
from pennyweight.evaluate.labelled_rows import LabelledRows

TEXTS = ["the match was won", "shares fell again", "a goal in the match", "the bank sold shares"] * 5
LABELS = np.array([0, 1, 0, 1] * 5)


def features(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, n)
    return random.normal(size=(n, 30)) + 3 * np.eye(3, 30)[labels], labels


def test_majority_gives_the_training_shares() -> None:
    result = majority(np.array([0, 2, 2, 1]), rows=2, n_labels=4)
    assert result.probabilities.tolist() == [[0.25, 0.25, 0.5, 0.0]] * 2
    assert result.name == "majority class"
    assert result.seconds >= 0


def test_the_commonest_labels_are_the_training_shares_of_each() -> None:
    result = majority(np.array([[1, 0], [1, 1], [1, 0], [1, 0]]), rows=2, n_labels=2)
    assert result.probabilities == pytest.approx(np.array([[1, 0.25]] * 2), abs=1e-5)
    assert result.name == "commonest labels"


def test_any_number_of_labels_are_learnt_one_by_one() -> None:
    both = np.stack([LABELS, 1 - LABELS], axis=1)
    result = tfidf(TEXTS, both, ["what a goal", "bank shares"], n_labels=2)
    assert (result.probabilities > 0.5).tolist() == [[False, True], [True, False]]
    assert result.name == "TF-IDF + one-vs-rest logistic regression"
    train, labels = features(300, seed=0)
    test, truth = features(300, seed=1)
    probe = linear_probe(train, np.eye(3, dtype=int)[labels], test, n_labels=3)
    assert ((probe.probabilities > 0.5) == np.eye(3)[truth]).mean() > 0.8


def test_validation_rows_are_predicted_where_thresholds_are_tuned_on_them() -> None:
    def rows(labels: np.ndarray) -> LabelledRows:
        return LabelledRows(TEXTS, labels, np.ones(20, int), "data")

    one, several = rows(LABELS), rows(np.stack([LABELS, 1 - LABELS], axis=1))
    assert [len(found.validation) for found in train_text_baselines(one, one, one, 2)] == [0, 0]
    for found in train_text_baselines(several, several, several, 2):
        assert found.validation.shape == found.probabilities.shape == (20, 2)
    assert len(train_text_baselines(several, several, None, 2)[0].probabilities) == 20


def test_tfidf_learns_words() -> None:
    result = tfidf(TEXTS, LABELS, ["what a goal", "bank shares"], n_labels=3)
    assert result.probabilities.argmax(axis=1).tolist() == [0, 1]
    assert result.probabilities[:, 2].tolist() == [0, 0]
    assert result.probabilities.sum(axis=1) == pytest.approx([1, 1])


def test_tfidf_takes_texts_of_marks_and_other_scripts_only() -> None:
    result = tfidf(["!", "?", "新闻", "😀"], np.array([0, 1, 0, 1]), ["!", ""], n_labels=2)
    assert result.probabilities.shape == (2, 2)


def test_linear_learns_features_and_repeats_itself() -> None:
    train, labels = features(300, seed=0)
    test, truth = features(300, seed=1)
    result = linear_probe(train, labels, test, n_labels=3)
    assert (result.probabilities.argmax(axis=1) == truth).mean() > 0.8
    assert (linear_probe(train, labels, test, n_labels=3).probabilities == result.probabilities).all()


def test_linear_picks_a_strength_that_suits_useless_features() -> None:
    random = np.random.default_rng(0)
    train, test = random.normal(size=(100, 80)), random.normal(size=(100, 80))
    probabilities = linear_probe(train, np.arange(100) % 2, test, n_labels=2).probabilities
    assert probabilities.max() < 0.75


@pytest.mark.parametrize("seed", range(5))
def test_linear_with_hardly_any_rows(seed: int) -> None:
    train = np.array([[0.0], [0.1], [1.0], [1.1], [0.2], [0.3], [0.1], [0.0], [0.2], [0.1]])
    labels = np.array([0, 0, 1, 1, 0, 0, 0, 0, 0, 0])
    assert linear_probe(train, labels, train, n_labels=2, seed=seed).probabilities.shape == (10, 2)


def test_constant_features_give_the_shares() -> None:
    probabilities = linear_probe(np.ones((20, 2)), LABELS, np.ones((1, 2)), n_labels=2).probabilities
    assert probabilities == pytest.approx(np.array([[0.5, 0.5]]), abs=1e-3)


def test_baselines_run_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    plain = logistic_regression._one_label

    def spy(*arguments: object) -> np.ndarray:
        seen.extend(pool["num_threads"] for pool in threadpool_info())
        return plain(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(logistic_regression, "_one_label", spy)
    tfidf(TEXTS, LABELS, TEXTS, n_labels=2)
    assert seen
    assert set(seen) == {1}


def test_no_training_rows() -> None:
    with pytest.raises(DataError, match=r"^majority class: a baseline needs training rows$"):
        majority(np.array([], dtype=int), 3, 2)
