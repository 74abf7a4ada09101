"""Pennyweight as a scikit-learn estimator: usable in `cross_val_score`, `Pipeline` and `GridSearchCV`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from .data.infer import is_null
from .errors import DataError, InputError
from .pipeline import train
from .predict import Classifier
from .recipe import Recipe


class PennyweightClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn carries no types
    """Texts in, labels out, by scikit-learn's rules (https://scikit-learn.org/stable/developers/develop.html).

    Args:
        recipe: a shipped name, a YAML file or a `Recipe`.
        budget: the largest number of trainable parameters; None for the recipe's own.
        epochs: passes over the texts; None for the recipe's own.
        seed: of everything random; None for the recipe's own.
        settings: further fields of the recipe by key.

    Attributes:
        classes_: (L,) the labels, sorted, as they were given.
        classifier_: the fitted `Classifier`.
    """

    def __init__(
        self,
        recipe: str | Path | Recipe = "default",
        budget: str | int | None = None,
        epochs: int | None = None,
        seed: int | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        self.recipe = recipe
        self.budget = budget
        self.epochs = epochs
        self.seed = seed
        self.settings = settings

    def fit(self, X: Sequence[str], y: Sequence[Any]) -> PennyweightClassifier:
        """Train on N texts and their N labels (strings, numbers or truth values).

        Raises:
            DataError: a label is missing: None, NaN or pandas' NA.
        """
        if any(isinstance(label, (list, tuple, set, np.ndarray)) for label in y):
            raise InputError(
                "the estimator takes one label a text",
                remedy="for several: pennyweight.train((texts, labels))",
            )
        missing = [row for row, label in enumerate(y, start=1) if is_null(label)]
        if missing:
            raise DataError(
                "the label is missing",
                received=f"{len(missing)} of {len(y)} rows without a label",
                remedy="fill it in or remove the row",
                where=f"data row {missing[0]}",
            )
        labels = np.asarray(y)
        self.classes_ = np.unique(labels)
        names = [str(label) for label in self.classes_]
        given = {"budget": self.budget, "epochs": self.epochs, "seed": self.seed, **(self.settings or {})}
        settings = {key: value for key, value in given.items() if value is not None}
        self.classifier_: Classifier = train(
            ([str(text) for text in X], [str(label) for label in labels]),
            recipe=self.recipe,
            label_names=names,
            **settings,
        )
        return self

    def predict_proba(self, X: Sequence[str]) -> np.ndarray:
        """(N, L) probabilities, columns in the order of `classes_`."""
        check_is_fitted(self)
        return self.classifier_.predict_proba([str(text) for text in X])

    def predict(self, X: Sequence[str]) -> np.ndarray:
        """(N,) labels."""
        probabilities = self.predict_proba(X)  # first: it says when there was no fit
        return np.asarray(self.classes_[probabilities.argmax(axis=1)])
