from __future__ import annotations

import numpy as np
import pytest

from pennyweight.evaluate.baselines.logistic_regression import fit_predict
from pennyweight.model.heads import Head
from pennyweight.train.logistic_head import cross_entropy, fit_logistic_head


def blobs(classes: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = np.arange(60) % classes
    return (5 * np.eye(8)[labels] + random.normal(size=(60, 8))).astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 3])
def test_it_is_scikit_learns_on_vectors_of_mean_length_one(classes: int) -> None:
    from sklearn.linear_model import LogisticRegression

    features, labels = blobs(classes)
    head = fit_logistic_head(features, labels, classes, 1.0)
    unit = features / np.linalg.norm(features, axis=1).mean()
    expected = LogisticRegression(C=1.0, max_iter=1000).fit(unit, labels).predict_proba(unit)
    raised = np.exp(head.logits(features))
    assert np.allclose(raised / raised.sum(axis=1, keepdims=True), expected, atol=1e-5)


def test_a_class_without_rows_is_never_predicted() -> None:
    features, labels = blobs(3)
    head = fit_logistic_head(features, labels + (labels > 0), 4, 1.0)
    assert set(head.logits(features).argmax(axis=1).tolist()) == {0, 2, 3}


def test_the_model_takes_its_values() -> None:
    import torch

    features, labels = blobs(3)
    fitted = fit_logistic_head(features, labels, 3, 1.0).scaled(0.5)
    head = Head("linear", {"hidden_size": 8}, 3)
    fitted.put_into(head)
    found = head(torch.from_numpy(features)).detach().numpy()
    assert np.allclose(found, fitted.logits(features), atol=1e-5)


def test_nearly_as_many_classes_as_texts_are_no_regression() -> None:
    features = np.random.default_rng(0).normal(size=(30, 40)).astype(np.float32)
    labels = np.arange(30) % 20  # scikit-learn warns of these, and warnings are errors here
    head = fit_logistic_head(features, labels, 20, 100.0)
    assert head.logits(features).shape == (30, 20)
    found = fit_predict(features, labels, features, 20, (1.0, 10.0), 0)
    assert found.shape == (30, 20)


def test_with_any_number_of_labels_each_has_its_own_regression() -> None:
    features, classes = blobs(3)
    labels = np.stack([classes == 0, classes < 2, classes < 3, classes > 5], axis=1).astype(np.int64)
    head = fit_logistic_head(features, labels, 4, 1.0)
    found = head.logits(features)
    for label in (0, 1):
        alone = fit_logistic_head(features, labels[:, label], 2, 1.0).logits(features)
        assert np.allclose(found[:, label], alone[:, 1] - alone[:, 0], atol=1e-4)
    # Labels that all rows carry, or none.
    assert np.allclose(found[:, 2:], [np.log(60.5 / 0.5), np.log(0.5 / 60.5)], atol=1e-4)
    right = np.where(labels == 1, 1 / (1 + np.exp(-found)), 1 / (1 + np.exp(found)))
    assert cross_entropy(found, labels) == pytest.approx(float(-np.log(right).mean()), rel=1e-5)
