import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from pennyweight.errors import DataError
from pennyweight.evaluate.metrics.multi_label import score_multilabel


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(2, 6))
def test_agrees_with_scikit_learn(seed: int, n: int, count: int) -> None:
    random = np.random.default_rng(seed)
    labels, probabilities = random.integers(0, 2, (n, count)), random.random((n, count))
    ours = score_multilabel(labels, probabilities, [str(index) for index in range(count)])
    predicted = (probabilities >= 0.5).astype(int)
    assert ours.exact == pytest.approx(sklearn.accuracy_score(labels, predicted), abs=1e-12)
    assert ours.hamming == pytest.approx(sklearn.hamming_loss(labels, predicted), abs=1e-12)
    for how in ("micro", "macro", "weighted", "samples"):
        theirs = sklearn.precision_recall_fscore_support(labels, predicted, average=how, zero_division=0)[:3]
        each = getattr(ours, how)
        assert (each.precision, each.recall, each.f1) == pytest.approx(theirs, abs=1e-12)
    losses = [sklearn.log_loss(labels[:, i], probabilities[:, i], labels=[0, 1]) for i in range(count)]
    assert ours.log_loss == pytest.approx(np.mean(losses), abs=1e-12)


def test_a_case_worked_out_by_hand() -> None:
    ours = score_multilabel(np.array([[1, 0], [1, 1]]), np.array([[0.9, 0.2], [0.8, 0.3]]), ["news", "sport"])
    assert (ours.exact, ours.hamming, ours.micro.precision) == (0.5, 0.25, 1.0)
    assert [(row.name, row.recall, row.support) for row in ours.per_label] == [("news", 1.0, 2), ("sport", 0.0, 1)]


@pytest.mark.parametrize(
    ("labels", "probabilities", "said"),
    [
        (np.ones((2, 3)), np.ones((2, 3)), r"expected two arrays \(N, 2\) with N >= 1; received \(2, 3\)"),
        (np.full((1, 2), 2), np.ones((1, 2)), "a label is neither 0 nor 1; received 2"),
        (np.ones((1, 2)), np.full((1, 2), np.nan), "a value is no probability; expected values from 0 to 1"),
    ],
)
def test_bad_input_is_refused(labels: np.ndarray, probabilities: np.ndarray, said: str) -> None:
    with pytest.raises(DataError, match=said):
        score_multilabel(labels, probabilities, ["a", "b"])
