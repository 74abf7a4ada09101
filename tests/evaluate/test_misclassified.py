import numpy as np
import pytest

from pennyweight.evaluate.misclassified import likely_mislabelled, most_confident

NAMES = ("ham", "spam")


def two(spam: list[float]) -> np.ndarray:
    return np.array([[1 - value, value] for value in spam])


def test_the_most_confident_come_first() -> None:
    labels, probabilities = np.array([0, 0, 1, 0]), two([0.6, 0.9, 0.9, 0.1])
    first, second = most_confident(labels, probabilities, ["a", "b", "c", "d"], NAMES)
    assert (first.row, first.text, first.label, first.predicted) == (1, "b", "ham", "spam")
    assert first.confidence == 0.9
    assert first.label_probability == pytest.approx(0.1)
    assert second.row == 0
    assert most_confident(labels, probabilities, ["a", "b", "c", "d"], NAMES, limit=1) == (first,)


def test_where_all_is_right_there_are_none() -> None:
    assert most_confident(np.array([1]), two([0.9]), ["a"], NAMES) == ()
    assert likely_mislabelled(np.array([1]), two([0.9]), ["a"], NAMES) == ()


def test_a_flipped_label_is_suspected_and_an_unsure_row_is_not() -> None:
    labels = np.array([0] * 5 + [1] * 5)
    spam = [0.05, 0.1, 0.05, 0.1, 0.99, 0.95, 0.9, 0.95, 0.9, 0.45]  # row 4 flipped, row 9 unsure
    suspects = likely_mislabelled(labels, two(spam), [str(row) for row in range(10)], NAMES)
    assert [one.row for one in suspects] == [4]
    assert (suspects[0].label, suspects[0].predicted) == ("ham", "spam")


def test_flipped_labels_are_found_among_noise() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 500)
    probabilities = two(np.clip(truth * 0.8 + 0.1 + random.normal(0, 0.08, 500), 0.01, 0.99).tolist())
    flipped = set(random.choice(500, 15, replace=False).tolist())
    labels = np.array([1 - label if row in flipped else label for row, label in enumerate(truth.tolist())])
    suspects = likely_mislabelled(labels, probabilities, [""] * 500, NAMES)
    # Half of them lie above the usual probability of the other class, and nothing else is suspected.
    assert {one.row for one in suspects} <= flipped
    assert len(suspects) >= 5


def test_a_class_without_test_rows_raises_no_suspicion() -> None:
    assert likely_mislabelled(np.array([0, 0]), two([0.99, 0.99]), ["a", "b"], NAMES) == ()
