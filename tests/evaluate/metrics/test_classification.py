import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from pennyweight.errors import ArtifactError, DataError
from pennyweight.evaluate.metrics.classification import Metrics, score


def random_case(seed: int, n: int = 200, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(n, classes))
    labels = random.integers(0, classes, n)
    logits[np.arange(n), labels] += 1.5
    exponents = np.exp(logits)
    return labels, exponents / exponents.sum(axis=1, keepdims=True)


def test_a_case_worked_out_by_hand() -> None:
    labels = np.array([0, 0, 0, 1])
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]])
    metrics = score(labels, probabilities, ["ham", "spam"])
    assert metrics.n == 4
    assert metrics.accuracy == 0.75
    assert metrics.confusion == ((2, 1), (0, 1))
    ham, spam = metrics.per_class
    assert (ham.name, ham.precision, ham.recall, ham.support) == ("ham", 1.0, pytest.approx(2 / 3), 3)
    assert (spam.name, spam.precision, spam.recall, spam.support) == ("spam", 0.5, 1.0, 1)
    assert metrics.macro.recall == pytest.approx((2 / 3 + 1) / 2)
    assert metrics.weighted.recall == pytest.approx(0.75)
    assert metrics.log_loss == pytest.approx(-np.log([0.9, 0.8, 0.4, 0.7]).mean())
    assert metrics.names == ("ham", "spam")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(2, 6))
def test_agrees_with_scikit_learn(seed: int, n: int, classes: int) -> None:
    labels, probabilities = random_case(seed, n, classes)
    metrics = score(labels, probabilities, [str(index) for index in range(classes)])
    predicted = probabilities.argmax(axis=1)
    assert metrics.accuracy == pytest.approx(sklearn.accuracy_score(labels, predicted), abs=1e-12)
    for how, ours in (("macro", metrics.macro), ("weighted", metrics.weighted)):
        theirs = sklearn.precision_recall_fscore_support(labels, predicted, average=how, zero_division=0)[:3]
        assert (ours.precision, ours.recall, ours.f1) == pytest.approx(theirs, abs=1e-12)
    each = sklearn.f1_score(labels, predicted, average=None, labels=range(classes), zero_division=0)
    assert [row.f1 for row in metrics.per_class] == pytest.approx(each, abs=1e-12)
    expected_loss = sklearn.log_loss(labels, probabilities, labels=range(classes))
    assert metrics.log_loss == pytest.approx(expected_loss, abs=1e-12)


def test_labels_absent_from_the_test_set_neither_warn_nor_drag_the_macro_average_down() -> None:
    labels = np.array([0, 1, 1])
    probabilities = np.eye(4)[[0, 1, 1]] * 0.96 + 0.01
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = score(labels, probabilities, list("abcd"))
    assert metrics.macro.f1 == 1.0
    assert [row.support for row in metrics.per_class] == [1, 2, 0, 0]
    assert metrics.per_class[3].f1 == 0.0
    assert len(metrics.confusion) == 4


def test_single_precision_probabilities_do_not_warn() -> None:
    labels, probabilities = random_case(3, n=500, classes=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        single = score(labels, probabilities.astype(np.float32), list("abcde"))
    assert single.log_loss == pytest.approx(score(labels, probabilities, list("abcde")).log_loss, abs=1e-6)


def test_json_round_trip_and_keys() -> None:
    labels, probabilities = random_case(1)
    metrics = score(labels, probabilities, list("abcd"))
    value = json.loads(json.dumps(metrics.to_json(), allow_nan=False))
    assert Metrics.from_json(value) == metrics
    assert value["accuracy_interval"] == list(metrics.accuracy_interval)
    assert value["macro_f1"] == value["macro"]["f1"] == metrics.macro.f1
    assert value["per_class"][0]["name"] == "a"


@pytest.mark.parametrize("damage", [{"accuracy_interval": [1]}, {"macro": {"f1": 1}}, {"n": None}])
def test_damaged_metrics_are_refused(damage: dict[str, object]) -> None:
    value = score(*random_case(1), list("abcd")).to_json() | damage
    with pytest.raises(ArtifactError, match=r"^the saved metrics are damaged; received "):
        Metrics.from_json(value)


def test_bad_input_is_named() -> None:
    good = np.full((2, 2), 0.5)
    with pytest.raises(DataError, match=r"^there are no rows to score; give a test file with labelled rows$"):
        score(np.array([], dtype=int), np.empty((0, 2)), ["a", "b"])
    with pytest.raises(DataError, match=r"^a label is out of range; expected 0 to 1; received 2$"):
        score(np.array([0, 2]), good, ["a", "b"])
    with pytest.raises(DataError, match=r"^names and probabilities do not fit; expected 2 names; received 1$"):
        score(np.array([0, 1]), good, ["a"])
    with pytest.raises(DataError, match=r"^labels and probabilities do not fit"):
        score(np.array([0]), good, ["a", "b"])
    with pytest.raises(DataError, match=r"received \[nan, 0\.5\] in row 1; if they are NaN, training diverged"):
        score(np.array([0, 1]), np.array([[0.5, 0.5], [np.nan, 0.5]]), ["a", "b"])
    with pytest.raises(DataError, match=r"^a row holds no probabilities"):
        score(np.array([0, 1]), good * 3, ["a", "b"])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(2, 6))
def test_multi_label_metrics_agree_with_scikit_learn(seed: int, n: int, count: int) -> None:
    random = np.random.default_rng(seed)
    labels, probabilities = random.integers(0, 2, (n, count)), random.random((n, count))
    ours = score(labels, probabilities, [str(index) for index in range(count)])
    predicted = (probabilities >= 0.5).astype(int)
    assert ours.exact == pytest.approx(sklearn.accuracy_score(labels, predicted), abs=1e-12)
    assert ours.hamming == pytest.approx(sklearn.hamming_loss(labels, predicted), abs=1e-12)
    for how in ("micro", "macro", "weighted", "samples"):
        undefined = np.nan if how == "samples" else 0
        theirs = sklearn.precision_recall_fscore_support(labels, predicted, average=how, zero_division=undefined)[:3]
        theirs = np.nan_to_num(theirs)
        each = getattr(ours, how)
        assert (each.precision, each.recall, each.f1) == pytest.approx(theirs, abs=1e-12)
    losses = [sklearn.log_loss(labels[:, i], probabilities[:, i], labels=[0, 1]) for i in range(count)]
    assert ours.log_loss == pytest.approx(np.mean(losses), abs=1e-12)


def test_rows_that_rightly_have_no_label_do_not_lower_the_average_over_rows() -> None:
    labels = np.array([[1, 0], [0, 0], [0, 0]])
    right = score(labels, labels * 0.9, ["news", "sport"]).samples
    assert (right.precision, right.recall, right.f1) == (1.0, 1.0, 1.0)
    too_many = score(labels, np.maximum(labels, [[0], [1], [0]]) * 0.9, ["news", "sport"]).samples
    assert (too_many.precision, too_many.recall, too_many.f1) == (0.5, 1.0, 0.5)
    nothing = score(labels * 0, labels * 0.0, ["news", "sport"]).samples
    assert nothing.f1 == 0.0


def test_a_multi_label_case_worked_out_by_hand() -> None:
    ours = score(np.array([[1, 0], [1, 1]]), np.array([[0.9, 0.2], [0.8, 0.3]]), ["news", "sport"])
    assert (ours.exact, ours.hamming, ours.micro.precision) == (0.5, 0.25, 1.0)
    assert [(row.name, row.recall, row.support) for row in ours.per_class] == [("news", 1.0, 2), ("sport", 0.0, 1)]


@pytest.mark.parametrize(
    ("labels", "probabilities", "said"),
    [
        (np.ones((2, 3)), np.ones((2, 3)), r"expected two arrays \(N, 2\) with N >= 1; received \(2, 3\)"),
        (np.full((1, 2), 2), np.ones((1, 2)), "a label is neither 0 nor 1; received 2"),
        (np.ones((1, 2)), np.full((1, 2), np.nan), "a value is no probability; expected values from 0 to 1"),
    ],
)
def test_bad_multi_label_input_is_refused(labels: np.ndarray, probabilities: np.ndarray, said: str) -> None:
    with pytest.raises(DataError, match=said):
        score(labels, probabilities, ["a", "b"])
