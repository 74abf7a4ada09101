"""Pennyweight among scikit-learn's estimators."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

import pennyweight as pw
from pennyweight.errors import DataError


@pytest.fixture
def estimator(tiny_backbone: Callable[..., Path]) -> pw.PennyweightClassifier:
    settings = {"backbone": str(tiny_backbone("bert")), "learning_rate": 5e-3, "batch_size": 8, "precision": "fp32"}
    return pw.PennyweightClassifier(budget="5k", epochs=2, seed=1, settings=settings)


@pytest.fixture
def texts(news: Path) -> tuple[list[str], list[str]]:
    with (news / "train.csv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    return [row["text"] for row in rows], [row["label"] for row in rows]


@pytest.mark.parametrize("missing", [None, float("nan"), np.float32("nan")])
def test_a_missing_label_is_no_class(
    estimator: pw.PennyweightClassifier, texts: tuple[list[str], list[str]], missing: Any
) -> None:
    with pytest.raises(DataError) as caught:
        estimator.fit(texts[0], ["a", "b", missing, missing, *texts[1][4:]])
    assert str(caught.value) == (
        "data row 3: the label is missing; received 2 of 60 rows without a label; fill it in or remove the row"
    )


def test_a_missing_label_of_pandas_is_no_class(
    estimator: pw.PennyweightClassifier, texts: tuple[list[str], list[str]]
) -> None:
    import pandas as pd

    numbers = pd.Series([pd.NA, *range(2)] * 20, dtype="Int64")
    with pytest.raises(DataError, match="data row 1: the label is missing; received 20 of 60 rows"):
        estimator.fit(texts[0], numbers)
    with pytest.raises(DataError, match="data row 2: the label in column label is missing"):
        estimator.fit(texts[0], ["a", "nan", "b"] * 20)


def test_truth_values_are_labels(estimator: pw.PennyweightClassifier, texts: tuple[list[str], list[str]]) -> None:
    estimator.fit(texts[0], [label == "Sports" for label in texts[1]])
    assert estimator.classes_.tolist() == [False, True]
    assert estimator.predict(texts[0][:4]).dtype == bool


def test_parameters_and_clones(estimator: pw.PennyweightClassifier) -> None:
    assert set(estimator.get_params()) == {"recipe", "budget", "epochs", "seed", "settings"}
    twin = clone(estimator)
    assert twin is not estimator
    assert twin.get_params() == estimator.get_params()
    assert twin.set_params(epochs=7).epochs == 7
    assert estimator.epochs == 2
    with pytest.raises(NotFittedError):
        estimator.predict(["text"])


def test_fit_predict_and_score(estimator: pw.PennyweightClassifier, texts: tuple[list[str], list[str]]) -> None:
    fitted = estimator.set_params(epochs=8).fit(*texts)
    assert fitted is estimator
    assert fitted.classes_.tolist() == ["Business", "Sports", "World"]
    probabilities = fitted.predict_proba(texts[0][:5])
    assert probabilities.shape == (5, 3)
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert fitted.predict(texts[0][:5]).tolist() == fitted.classes_[probabilities.argmax(axis=1)].tolist()
    assert fitted.score(*texts) > 0.5
    assert fitted.classifier_.metrics["trainable"] <= 5_000


@pytest.mark.parametrize(
    ("names", "kind"), [([3, 10, 2], np.integer), ([True, False], np.bool_), ([1.0, 2.0], np.floating)]
)
def test_labels_come_back_as_they_were_given(
    names: list[Any], kind: type, estimator: pw.PennyweightClassifier, texts: tuple[list[str], list[str]]
) -> None:
    given = [names[row % len(names)] for row in range(60)]
    found = estimator.set_params(epochs=1).fit(texts[0], given).predict(texts[0])
    assert np.issubdtype(found.dtype, kind)
    assert set(found.tolist()) <= set(names)
    assert estimator.classes_.tolist() == sorted(names)


def test_cross_validation_and_a_pipeline(
    estimator: pw.PennyweightClassifier, texts: tuple[list[str], list[str]]
) -> None:
    lower = FunctionTransformer(lambda rows: [row.lower() for row in rows])
    scores = cross_val_score(Pipeline([("lower", lower), ("classify", estimator)]), *texts, cv=2)
    assert scores.shape == (2,)
    assert np.all((scores >= 0) & (scores <= 1))
    search = GridSearchCV(estimator, {"epochs": [1, 2]}, cv=2, refit=False).fit(*texts)
    assert set(search.cv_results_["param_epochs"]) == {1, 2}


def test_the_same_seed_is_the_same_classifier(
    estimator: pw.PennyweightClassifier, texts: tuple[list[str], list[str]]
) -> None:
    first = clone(estimator).fit(*texts).predict_proba(texts[0][:3])
    assert np.array_equal(first, clone(estimator).fit(*texts).predict_proba(texts[0][:3]))
    other = clone(estimator).set_params(seed=2).fit(*texts).predict_proba(texts[0][:3])
    assert not np.array_equal(first, other)


def test_texts_and_labels_that_do_not_fit(estimator: pw.PennyweightClassifier) -> None:
    with pytest.raises(DataError):
        estimator.fit(["one", "two", "three"], ["a", "b"])
