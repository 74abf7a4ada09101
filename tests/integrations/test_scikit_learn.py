"""Pennyweight among scikit-learn's estimators."""

from __future__ import annotations

import csv
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator

import pennyweight as pw
from pennyweight.errors import DataError, InputError
from pennyweight.recipe.schema import SECTIONS

MISSING = "the text is missing (null or NaN); expected a string; remove the row or give it a text"


@pytest.fixture
def estimator(tiny_backbone: Callable[..., Path]) -> pw.PennyweightClassifier:
    settings = {"backbone": str(tiny_backbone("bert")), "learning_rate": 5e-3, "batch_size": 8, "precision": "fp32"}
    return pw.PennyweightClassifier(budget="5k", epochs=2, seed=1, settings=settings)


@pytest.fixture
def texts(news: Path) -> tuple[list[str], list[str]]:
    with (news / "train.csv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def test_the_word_nan_is_no_class(estimator: pw.PennyweightClassifier, texts: tuple[list[str], list[str]]) -> None:
    with pytest.raises(DataError, match="data row 2: the label in column label is missing"):
        estimator.fit(texts[0], ["a", "nan", "b"] * 20)


def test_truth_values_are_labels(estimator: pw.PennyweightClassifier, texts: tuple[list[str], list[str]]) -> None:
    estimator.fit(texts[0], [label == "Sports" for label in texts[1]])
    assert estimator.classes_.tolist() == [False, True]
    assert estimator.predict(texts[0][:4]).dtype == bool


def test_parameters_and_clones(estimator: pw.PennyweightClassifier) -> None:
    fields = {key for section in SECTIONS.values() for key in section.model_fields}
    others = set(estimator.get_params()) - fields
    assert others == {"recipe", "settings", "verbose"}
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
    with pytest.raises(DataError, match=r"^texts and labels differ in number; received 3 texts and 2 labels$"):
        estimator.fit(["one", "two", "three"], ["a", "b"])


OK = ["The bank.", "The cup.", "The bank.", "The cup."]


@pytest.mark.parametrize(
    ("given", "labels", "message"),
    [
        (OK, ["a", None, "a", "b"], "label 2: the label is missing (None or NaN)"),
        (OK, ["a", float("nan"), "a", "b"], "label 2: the label is missing (None or NaN)"),
        (OK, pd.Series([1, None, 1, 0], dtype="Int64"), "label 2: the label is missing (None or NaN)"),
        (OK, np.array([0, np.nan, 1, 1]), "label 2: the label is missing (None or NaN)"),
        (
            OK, ["money", "money ", "a", "a"],
            "labels are equal but for their spelling; expected labels that differ when 1 equals 1.0, True equals true, "
            "and surrounding blanks are ignored; received 'money', 'money '; spell them the same",
        ),
        (
            OK, ["1", "1.0", "1", "1.0"],
            "labels are equal but for their spelling; expected labels that differ when 1 equals 1.0, True equals true, "
            "and surrounding blanks are ignored; received '1', '1.0'; spell them the same",
        ),
        (
            OK, csr_matrix(np.eye(4)),
            "the labels are a sparse matrix; expected one label for each text, in a list or an array",
        ),
        (OK, ["a", " ", "a", " "], "a label is empty; give the class a name"),
        (
            OK, ["a", 1, "a", 1],
            "label 2: the labels are of different types; expected a string; received 1; "
            "make them all strings or all integers",
        ),
        (
            OK, [1, True, 1, 0],
            "label 2: the labels are of different types; expected a number; received True; "
            "make them all strings or all integers",
        ),
        (
            OK, [b"a", b"b", b"a", b"b"],
            "label 1: the label cannot be used; expected a string, a boolean or a number; received b'a'",
        ),
        (
            OK, [["a"], ["a", "b"], ["b"], ["a"]],
            "label 1: the estimator takes one label per text; received ['a']; "
            "for several: pennyweight.train((texts, labels))",
        ),
        (OK, ["a"] * 4, "there is only one class; expected at least two; received a"),
        (OK, "abab", "the labels are one string; expected a label for each text; received abab"),
        (OK, None, "requires y to be passed, but the target y is None"),
        ([None] * 4, [0, 1, 0, 1], f"text 1: {MISSING}"),
        (["a", float("nan")], [0, 1], f"text 2: {MISSING}"),
        (["a", 7], [0, 1], "text 2: the text is not a string; expected a string; received 7"),
        ([], [], "there are no texts"),
        (
            csr_matrix((2, 2)), [0, 1],
            "data: sparse input: a matrix holds numbers, not texts; expected a text, or a list, array, Series, frame, "
            "dataset or dict of texts; received",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_learnt_from_is_refused(
    given: Any, labels: Any, message: str, estimator: pw.PennyweightClassifier
) -> None:
    """In one line, as ours and as the `ValueError` that scikit-learn's tools know."""
    for kind in (InputError, ValueError):
        with pytest.raises(kind) as caught:
            estimator.fit(given, labels)
        assert str(caught.value).startswith(message)
        assert "\n" not in str(caught.value)
    assert not hasattr(estimator, "classes_")


def test_numbers_that_are_no_classes(estimator: pw.PennyweightClassifier) -> None:
    with pytest.raises(InputError, match="Unknown label type: continuous"):
        estimator.fit(OK, [0.5, 1.5, 2.5, 3.5])
    with pytest.raises(InputError, match="y should be a 1d array"):
        estimator.fit(OK, np.zeros((4, 2)))


def test_one_string_gives_one_answer(estimator: pw.PennyweightClassifier, texts: tuple[list[str], list[str]]) -> None:
    fitted = estimator.set_params(epochs=1).fit(*texts)
    assert fitted.predict("The bank and the rate.").shape == (1,)
    assert fitted.predict_proba("The bank and the rate.").shape == (1, 3)
    with pytest.raises(InputError, match=r"^text 1: the text is missing"):
        fitted.predict([None])


@pytest.mark.parametrize("shape", ["column vector", "frame", "series", "categories", "strings of pandas"])
def test_what_pandas_holds(shape: str, estimator: pw.PennyweightClassifier, texts: tuple[list[str], list[str]]) -> None:
    given, labels = texts
    frame = pd.DataFrame({"text": given, "label": labels}, index=range(100, 160))
    shapes: dict[str, tuple[Any, Any]] = {
        "column vector": (np.array(given)[:, None], np.array(labels, dtype=object)[:, None]),
        "frame": (frame[["text"]], frame[["label"]]),
        "series": (frame["text"], frame["label"]),
        "categories": (frame["text"].astype("category"), frame["label"].astype("category")),
        "strings of pandas": (frame["text"].astype("string"), frame["label"].astype("string")),
    }
    estimator.set_params(epochs=1)
    expected = clone(estimator).fit(*texts).predict_proba(given[:3])
    x, y = shapes[shape]
    warns = np.ndim(y) == 2
    with pytest.warns(DataConversionWarning, match="column-vector y") if warns else nullcontext():
        fitted = clone(estimator).fit(x, y)
    assert fitted.classes_.tolist() == ["Business", "Sports", "World"]
    assert np.array_equal(fitted.predict_proba(x[:3]), expected)
    if not warns:
        assert cross_val_score(estimator, x, y, cv=2).shape == (2,)


def test_pairs_of_texts(estimator: pw.PennyweightClassifier) -> None:
    rows = [("The bank.", "The rate."), ("The cup.", "The match.")] * 10
    frame = pd.DataFrame(rows, columns=["first", "second"])
    columns = {**estimator.settings, "pair": True, "text_columns": "first,second"}
    named = clone(estimator).set_params(settings=columns, epochs=1).fit(frame, [0, 1] * 10)
    plain = clone(estimator).set_params(settings={**estimator.settings, "pair": True}, epochs=1).fit(rows, [0, 1] * 10)
    assert np.array_equal(named.predict_proba(frame), plain.predict_proba(rows))


class OfNumbers(pw.PennyweightClassifier):
    """Takes the numbers that scikit-learn's checks are made of, each row written out as a text."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array, tags.input_tags.two_d_array = False, True
        return tags

    def fit(self, X: Any, y: Any) -> Any:
        return super().fit(self.written(X), y)

    def predict_proba(self, X: Any) -> np.ndarray:
        return super().predict_proba(self.written(X))

    @staticmethod
    def written(rows: Any) -> Any:
        array = rows if hasattr(rows, "tocsr") else np.asarray(rows)
        if array.ndim != 2 or hasattr(rows, "tocsr") or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            return rows
        return [" ".join(f"{value:.3g}" for value in row) for row in array.tolist()]


NUMBERS = "texts are strings: numbers never reach the classifier"
NOT_FOR_TEXTS = {
    "check_n_features_in": "texts have no features to count, so there is no n_features_in_",
    "check_n_features_in_after_fitting": "texts have no features to count, so there is no n_features_in_",
    "check_estimators_empty_data_messages": "asks for a message about columns of numbers; no texts are refused",
    "check_complex_data": NUMBERS + ", complex ones neither",
    "check_dtype_object": NUMBERS + ", as objects neither",
    "check_estimators_nan_inf": NUMBERS + ", NaN and infinite ones neither; a missing text is refused",
    "check_fit2d_predict1d": "asks to reshape rows of numbers; one dimension is right for texts",
    "check_classifiers_train": "asks a tiny backbone to tell numbers apart that are written out as words",
    "check_array_api_input": "texts are in no array of the array API",
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
def test_the_checks_of_scikit_learn(tiny_backbone: Callable[..., Path]) -> None:
    """Those that apply to texts. The estimator's own tags say "strings", for which scikit-learn has no checks."""
    settings = {
        "backbone": str(tiny_backbone("bert", num_hidden_layers=1)), "max_steps": 1, "batch_size": 64,
        "precision": "fp32", "max_length": 16, "validation_size": 0.3,
    }  # fmt: skip
    tags = get_tags(pw.PennyweightClassifier())
    assert (tags.input_tags.string, tags.input_tags.one_d_array, tags.input_tags.two_d_array) == (True, True, False)
    assert tags.target_tags.required
    found = check_estimator(
        OfNumbers(budget="5k", epochs=1, seed=1, settings=settings), on_fail=None, on_skip=None,
        expected_failed_checks=NOT_FOR_TEXTS,
    )  # fmt: skip
    failed = [f"{each['check_name']}: {each['exception']}" for each in found if each["status"] == "failed"]
    assert failed == []
    assert sum(each["status"] == "passed" for each in found) >= 40


@pytest.mark.parametrize(
    ("labels", "dtype", "expected"),
    [
        ([1, 2], "Int64", [1, 2]),
        ([True, False], "boolean", [False, True]),
        ([2**60, 2**60 + 1], "Int64", [2**60, 2**60 + 1]),
    ],
)
def test_labels_of_pandas_own_types_come_back_as_they_were(
    labels: list[Any], dtype: str, expected: list[Any], estimator: pw.PennyweightClassifier,
    texts: tuple[list[str], list[str]],
) -> None:  # fmt: skip
    estimator.fit(texts[0], pd.Series(labels * 30, dtype=dtype))
    assert estimator.classes_.tolist() == expected
    assert {type(label) for label in estimator.classes_.tolist()} == {type(expected[0])}


def test_a_grid_over_fields_of_the_recipe(
    tiny_backbone: Callable[..., Path], texts: tuple[list[str], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    estimator = pw.PennyweightClassifier(
        budget="5k", epochs=1, backbone=str(tiny_backbone("bert")), precision="fp32", settings={"learning_rate": 1.0}
    )
    grid = GridSearchCV(estimator, {"learning_rate": [1e-4, 5e-3], "pooling": ["cls", "mean"]}, cv=2)
    grid.fit(*texts)
    assert len(grid.cv_results_["params"]) == 4
    recipe = grid.best_estimator_.classifier_.artifact.recipe
    assert recipe.train.learning_rate == grid.best_params_["learning_rate"]  # not that of `settings`
    assert recipe.model.pooling == grid.best_params_["pooling"]


def test_labels_that_look_like_several_are_one_each(
    estimator: pw.PennyweightClassifier, texts: tuple[list[str], list[str]]
) -> None:
    for names in (["['a', 'b']", "['b']"], ["a,b", "b,c"], ["[0, 1]", "[1, 0]"]):
        estimator.fit(texts[0], names * 30)
        assert estimator.classes_.tolist() == names
        assert set(estimator.predict(texts[0])) <= set(names)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"progress": False}, "settings cannot contain progress; use the parameter verbose"),
        ({"recipe": "fast"}, "settings cannot contain recipe; use the parameter recipe"),
        (["lora"], 'settings is not a dict; expected such as {"adapter": "lora"}; received [\'lora\']'),
    ],
)
def test_settings_that_are_none(settings: Any, said: str) -> None:
    with pytest.raises(DataError) as caught:
        pw.PennyweightClassifier(settings=settings).fit(OK, ["a", "b", "a", "b"])
    assert str(caught.value) == said
