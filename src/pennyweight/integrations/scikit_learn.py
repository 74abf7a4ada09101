"""Pennyweight as a scikit-learn estimator: usable in `cross_val_score`, `Pipeline` and `GridSearchCV`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from ..data.canonical_labels import canonical_label
from ..data.columns import is_null
from ..data.formats.python_objects import as_list
from ..data.input_spec import InputSpec
from ..data.input_texts import to_texts
from ..data.table import listed, parts_of, shown
from ..errors import DataError, InputError
from ..pipeline import train
from ..predict.predictor import Classifier
from ..recipe.schema import Recipe

_NOT_OF_THE_RECIPE = ("recipe", "settings", "verbose")


class EstimatorError(DataError, ValueError):
    """Texts or labels that cannot be used; scikit-learn's tools know it as a `ValueError`."""


class PennyweightClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn carries no types
    """A scikit-learn classifier of texts (https://scikit-learn.org/stable/developers/develop.html).

    Texts come in any form that `Classifier.predict` takes: a list, array or Series of strings, a DataFrame...

    Args:
        recipe: a shipped name, a YAML file or a `Recipe`.
        budget: the largest number of trainable parameters.
        epochs: passes over the texts, or `auto`.
        seed: the random seed.
        settings: other recipe fields by key; the separate arguments take precedence.
        backbone, pooling, max_length, strategy, head, r, lora_alpha, lora_dropout, batch_size, learning_rate,
        weight_decay, label_smoothing, class_weights, validation_size, precision, device, threads: fields of the recipe.
            None takes the recipe's value, as for the four above.
        verbose: show the progress of `fit`.

    Attributes:
        classes_: (L,) the sorted labels, as given.
        classifier_: the fitted `Classifier`.
    """

    def __init__(
        self,
        recipe: str | Path | Recipe = "default",
        budget: str | int | None = None,
        epochs: int | str | None = None,
        seed: int | None = None,
        settings: dict[str, Any] | None = None,
        *,
        backbone: str | None = None,
        pooling: str | None = None,
        max_length: int | None = None,
        strategy: str | None = None,
        head: str | None = None,
        r: int | None = None,
        lora_alpha: float | None = None,
        lora_dropout: float | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        label_smoothing: float | None = None,
        class_weights: str | dict[str, float] | None = None,
        validation_size: float | None = None,
        precision: str | None = None,
        device: str | None = None,
        threads: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.recipe = recipe
        self.budget = budget
        self.epochs = epochs
        self.seed = seed
        self.settings = settings
        self.backbone = backbone
        self.pooling = pooling
        self.max_length = max_length
        self.strategy = strategy
        self.head = head
        self.r = r
        self.lora_alpha = lora_alpha
        self.lora_dropout = lora_dropout
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights
        self.validation_size = validation_size
        self.precision = precision
        self.device = device
        self.threads = threads
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn may expect: one-dimensional collections of strings, no rows of numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags

    def fit(self, X: Any, y: Any) -> PennyweightClassifier:
        """Train on N texts and their N labels: all strings, all integers, all booleans or all whole floats.

        Raises:
            EstimatorError: values that are not text, missing or mixed labels, different numbers of texts and labels, or
                only one class. It is also a `ValueError`.
        """
        own = {key: value for key, value in self.get_params(deep=False).items() if key not in _NOT_OF_THE_RECIPE}
        _check_settings(self.settings)
        given = {**(self.settings or {}), **{key: value for key, value in own.items() if value is not None}}
        settings: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        if y is None:  # in scikit-learn's words
            raise EstimatorError("requires y to be passed, but the target y is None")
        texts = self._texts(X)
        if not texts:
            raise EstimatorError("there are no texts")
        labels = _labels(y)
        if len(texts) != len(labels):
            raise EstimatorError(
                "texts and labels differ in number", received=f"{len(texts):,} texts and {len(labels):,} labels"
            )
        classes = np.unique(labels)
        names = [str(label).strip() for label in classes]
        _check_names(names, classes)
        # One label a text, even where it looks like several: "a,b" or "['a', 'b']".
        settings |= {"text_columns": None, "label_names": names, "task": "single"}
        rows = [parts_of(text) for text in texts] if settings.get("pair") else texts
        try:
            self.classifier_: Classifier = train(
                (rows, [str(label).strip() for label in labels]), recipe=self.recipe, progress=self.verbose, **settings
            )
        except DataError as error:
            raise EstimatorError(str(error)) from error
        self.classes_ = classes
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """(N, L) probabilities, columns in the order of `classes_`; N is 1 for a single string."""
        check_is_fitted(self)
        return self.classifier_.predict_proba(self._texts(X))

    def predict(self, X: Any) -> np.ndarray:
        """(N,) labels; N is 1 for a single string."""
        probabilities = self.predict_proba(X)  # first: it says when there was no fit
        return np.asarray(self.classes_[probabilities.argmax(axis=1)])

    def _texts(self, data: Any) -> list[str]:
        settings = self.settings or {}
        columns = settings.get("text_columns")
        columns = columns.split(",") if isinstance(columns, str) else columns
        input_spec = InputSpec(
            text_columns=None if columns is None else tuple(columns),
            separator=settings.get("separator", " "),
            pair=bool(settings.get("pair")),
        )
        try:
            return to_texts(data, input_spec)
        except InputError as error:
            raise EstimatorError(str(error)) from error


def _check_settings(settings: Any) -> None:
    if settings is not None and not isinstance(settings, Mapping):
        raise EstimatorError("settings is not a dict", expected='such as {"adapter": "lora"}', received=shown(settings))
    taken = {"progress": "use the parameter verbose", "recipe": "use the parameter recipe", "data": "pass it to fit"}
    for name in taken.keys() & (settings or {}).keys():
        raise EstimatorError(f"settings cannot contain {name}", remedy=taken[name])


def _labels(y: Any) -> np.ndarray:
    """(N,) labels of one type, from a list, an array of shape (N,) or (N, 1), a Series or a frame of one column."""
    if isinstance(y, (str, bytes)):
        raise EstimatorError("the labels are one string", expected="a label for each text", received=shown(y))
    if hasattr(y, "tocsr"):
        raise EstimatorError(
            "the labels are a sparse matrix", expected="one label for each text, in a list or an array"
        )
    try:
        # pandas' own types keep integers and booleans next to a missing value; NumPy would make floats of them.
        extended = hasattr(y, "array") and not isinstance(getattr(y, "dtype", None), np.dtype)
        held = column_or_1d(y, warn=True) if hasattr(y, "shape") and not extended else y
        values = as_list(held)
        for row, value in enumerate(values, start=1):
            _check_label(value, values[0], f"label {row}")
        plain = isinstance(held, np.ndarray) and held.dtype.kind in "biufU"
        labels: np.ndarray = held if plain else np.asarray(values)
        check_classification_targets(labels)
    except ValueError as error:  # scikit-learn's own: numbers that are no classes, several columns
        raise error if isinstance(error, EstimatorError) else EstimatorError(str(error)) from error
    return labels


def _check_label(label: Any, first: Any, where: str) -> None:
    if isinstance(label, (list, tuple, set, frozenset, np.ndarray)):
        raise EstimatorError(
            "the estimator takes one label per text",
            remedy="for several: pennyweight.train((texts, labels))",
            received=shown(label),
            where=where,
        )
    if is_null(label) or type(label).__name__ in ("NAType", "NaTType"):
        raise EstimatorError("the label is missing (None or NaN)", where=where)
    if isinstance(label, float) and math.isinf(label):
        raise EstimatorError("the label is infinite", where=where)
    if _kind(label) is None or _kind(label) != _kind(first):
        raise EstimatorError(
            "the label cannot be used" if _kind(label) is None else "the labels are of different types",
            expected=_kind(first) or "a string, a boolean or a number",
            received=shown(label),
            remedy=None if _kind(label) is None else "make them all strings or all integers",
            where=where,
        )


def _kind(label: Any) -> str | None:
    if isinstance(label, str):
        return "a string"
    if isinstance(label, (bool, np.bool_)):
        return "a boolean"
    return "a number" if isinstance(label, Real) else None


def _check_names(names: list[str], classes: np.ndarray) -> None:
    if len(names) < 2:
        raise EstimatorError("there is only one class", expected="at least two", received=listed(names))
    kept = [canonical_label(name) for name in names]
    same = [str(label) for label, name in zip(classes.tolist(), kept, strict=True) if kept.count(name) > 1]
    if same:
        raise EstimatorError(
            "labels are equal but for their spelling",
            expected="labels that differ when 1 equals 1.0, True equals true, and surrounding blanks are ignored",
            received=listed(map(repr, same)),
            remedy="spell them the same",
        )
    if not all(names):
        raise EstimatorError("a label is empty", remedy="give the class a name")
