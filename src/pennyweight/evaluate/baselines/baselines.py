"""What an adapter has to beat: classifiers that cost seconds, trained and tested on the very same rows.

Each takes training rows, their labels (N,), test rows and the number of labels, and gives probabilities (M, L).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import DataError

MAJORITY = "majority class"
TFIDF = "TF-IDF + logistic regression"
FROZEN = "frozen backbone + linear head"

MOST_TERMS = 50_000
# On AG News and on 480 news texts, 10 is within a point of the best of 1, 10 and 100.
TFIDF_STRENGTHS = (10.0,)
# What suits features depends on their number and the rows' (0.001 to 1 in the same trials): picked on held-out rows.
FEATURE_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
ROWS_TO_PICK_ON = 10_000


@dataclass(frozen=True)
class Baseline:
    """A baseline's probabilities (M, L) on the test rows, the seconds it took to train and predict, and its rows."""

    name: str
    probabilities: np.ndarray
    seconds: float
    rows: int = 0


def majority(train_labels: np.ndarray, test_rows: int, n_labels: int) -> Baseline:
    """Always the commonest training label, with the training shares as probabilities.

    Raises:
        DataError: without training rows.
    """

    def predict() -> np.ndarray:
        shares = np.bincount(train_labels, minlength=n_labels) / len(train_labels)
        return np.tile(shares, (test_rows, 1))

    return timed(MAJORITY, train_labels, predict)


def tfidf(
    train_texts: Sequence[str], train_labels: np.ndarray, test_texts: Sequence[str], n_labels: int, *, seed: int = 0
) -> Baseline:
    """Logistic regression on TF-IDF weights of words, marks and pairs of them, the 50,000 commonest.

    Raises:
        DataError: without training rows.
    """

    def predict() -> np.ndarray:
        train, test = weighed(train_texts, test_texts)
        return _logistic(train, train_labels, test, n_labels, TFIDF_STRENGTHS, seed)

    return timed(TFIDF, train_labels, predict)


def weighed(train_texts: Sequence[str], test_texts: Sequence[str]) -> tuple[Any, Any]:
    """Sparse TF-IDF weights of words, marks and pairs of them: (N, T) and (M, T)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    # Single letters and marks count too, so that no training text is without a term.
    terms = TfidfVectorizer(
        sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"(?u)\w+|[^\w\s]", max_features=MOST_TERMS
    )
    return terms.fit_transform(train_texts), terms.transform(test_texts)


def linear(
    train_features: np.ndarray, train_labels: np.ndarray, test_features: np.ndarray, n_labels: int, *, seed: int = 0
) -> Baseline:
    """Logistic regression on frozen features (N, H) and (M, H), standardised; its strength picked on a held-out fifth.

    Raises:
        DataError: without training rows.
    """

    def predict() -> np.ndarray:
        from sklearn.preprocessing import StandardScaler

        scale = StandardScaler().fit(train_features)
        train, test = scale.transform(train_features), scale.transform(test_features)
        return _logistic(train, train_labels, test, n_labels, FEATURE_STRENGTHS, seed)

    return timed(FROZEN, train_labels, predict)


def timed(name: str, train_labels: np.ndarray, predict: Callable[[], np.ndarray]) -> Baseline:
    """A baseline of the probabilities that `predict` gives, with the seconds that it takes.

    Raises:
        DataError: without training rows.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    if not len(train_labels):
        raise DataError("a baseline needs training rows", where=name)
    start = time.perf_counter()
    with threadpool_limits(1):  # the same seconds whatever else the machine does, and the same sums
        probabilities = predict()
    return Baseline(name, probabilities, time.perf_counter() - start, len(train_labels))


def _logistic(
    train: Any, labels: np.ndarray, test: Any, n_labels: int, strengths: Sequence[float], seed: int
) -> np.ndarray:
    """Probabilities (M, L); of several inverse strengths C the one of least loss on held-out training rows."""
    strength = strengths[0]
    if len(strengths) > 1:
        rows = np.random.default_rng(seed).permutation(len(labels))[:ROWS_TO_PICK_ON]
        held_out, kept = np.split(rows, [max(1, len(rows) // 5)])

        def loss(one: float) -> float:
            probabilities = fit_predict(train[kept], labels[kept], train[held_out], n_labels, one, seed)
            right = probabilities[np.arange(len(held_out)), labels[held_out]]
            return float(-np.log(np.maximum(right, 1e-15)).mean())

        strength = min(strengths, key=loss)
    return fit_predict(train, labels, test, n_labels, strength, seed)


def fit_predict(train: Any, labels: np.ndarray, test: Any, n_labels: int, strength: float, seed: int) -> np.ndarray:
    """Probabilities (M, L) of a logistic regression with inverse strength C; a class that no row has gets none."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    probabilities = np.zeros((test.shape[0], n_labels))
    present = np.unique(labels)
    if len(present) == 1:  # few rows held out may leave a single class to learn from
        probabilities[:, present[0]] = 1.0
        return probabilities
    model = LogisticRegression(C=strength, max_iter=1000, random_state=seed)
    with warnings.catch_warnings():
        # Past a thousand iterations the predictions no longer move; a baseline need not be optimal to the last digit.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train, labels)
    probabilities[:, model.classes_] = model.predict_proba(test)
    return probabilities
