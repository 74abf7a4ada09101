"""Logistic regression as the baselines use it; with any number of labels per text, one for each label."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # prediction does without it
    from sklearn.linear_model import LogisticRegression

# What is held out to choose a strength: a fifth of at most so many rows. With any number of labels fewer do, because
# each label is fitted for itself.
ROWS_TO_CHOOSE_ON = 10_000
ROWS_TO_CHOOSE_ON_MULTI_LABEL = 2_000


def fit_predict(
    train: Any, labels: np.ndarray, test: Any, n_labels: int, strengths: Sequence[float], seed: int
) -> np.ndarray:
    """Probabilities (M, L); of several inverse strengths C the one of least loss on held-out training rows.

    Args:
        train, test: (N, F) and (M, F), dense or sparse.
        labels: (N,) class numbers, or (N, L) of 0 and 1.
    """
    strength = strengths[0]
    if len(strengths) > 1:
        most = ROWS_TO_CHOOSE_ON if labels.ndim == 1 else ROWS_TO_CHOOSE_ON_MULTI_LABEL
        rows = np.random.default_rng(seed).permutation(len(labels))[:most]
        held_out, kept = np.split(rows, [max(1, len(rows) // 5)])

        def loss(one: float) -> float:
            probabilities = _fit_predict(train[kept], labels[kept], train[held_out], n_labels, one, seed)
            return _log_loss(labels[held_out], probabilities)

        strength = min(strengths, key=loss)
    return _fit_predict(train, labels, test, n_labels, strength, seed)


def _log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    if labels.ndim == 1:
        likelihoods = probabilities[np.arange(len(labels)), labels]
    else:
        likelihoods = np.where(labels == 1, probabilities, 1 - probabilities)
    return float(-np.log(np.maximum(likelihoods, 1e-15)).mean())


def _fit_predict(train: Any, labels: np.ndarray, test: Any, n_labels: int, strength: float, seed: int) -> np.ndarray:
    if labels.ndim == 1:
        return _one_label(train, labels, test, n_labels, strength, seed)
    each = (_one_label(train, labels[:, label], test, 2, strength, seed)[:, 1] for label in range(n_labels))
    return np.column_stack(list(each))


def _one_label(train: Any, labels: np.ndarray, test: Any, n_labels: int, strength: float, seed: int) -> np.ndarray:
    """Probabilities (M, L) of a logistic regression with inverse strength C; a class without rows gets 0."""
    probabilities = np.zeros((test.shape[0], n_labels))
    present = np.unique(labels)
    if len(present) == 1:  # few rows held out may leave a single class to learn from
        probabilities[:, present[0]] = 1.0
        return probabilities
    model = fit_regression(train, labels, strength, seed)
    probabilities[:, model.classes_] = model.predict_proba(test)
    return probabilities


def fit_regression(features: Any, labels: np.ndarray, strength: float, seed: int = 0) -> LogisticRegression:
    """A fitted logistic regression with inverse strength C, without scikit-learn's warnings.

    Args:
        features: (N, F), dense or sparse; labels: (N,) class numbers, of at least two classes.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=1000, random_state=seed)
    with warnings.catch_warnings():
        # Past a thousand iterations the predictions no longer move; none of its users need the last digit.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="The number of unique classes is greater than")  # of few texts
        return model.fit(features, labels)
