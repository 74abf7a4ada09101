"""Rows of predictions: names that are taken."""

from __future__ import annotations

import numpy as np
import pytest

from pennyweight.data.table import Columns
from pennyweight.errors import DataError
from pennyweight.predict.prediction_rows import (
    DECIMALS,
    KeptColumns,
    merge_columns,
    merge_rows,
    predicted_columns,
    rows_of,
)


def test_a_name_that_is_taken_gets_another() -> None:
    found = {"label": "a", "probability": 0.9}
    assert merge_columns({"text": "x"}, found) == {"text": "x", **found}
    assert list(merge_columns({"label": 1, "x": 2}, found)) == ["label", "x", "predicted_label", "probability"]
    assert list(merge_columns({"label": 1, "predicted_label": 2}, found)) == [
        "label", "predicted_label", "predicted_predicted_label", "probability",
    ]  # fmt: skip


def test_rows_that_arrive_one_by_one_keep_the_names_of_the_first() -> None:
    found = {"label": "a", "probability": 0.9}
    rows = [({"text": "x", "label": "b"}, found), ({"text": "y"}, found), ({"label": "c", "text": "z"}, found)]
    assert list(merge_rows(rows)) == [
        {"text": "x", "label": "b", "predicted_label": "a", "probability": 0.9},
        {"text": "y", "predicted_label": "a", "probability": 0.9},
        {"text": "z", "label": "c", "predicted_label": "a", "probability": 0.9},
    ]
    merged = merge_rows(reversed(rows[:2]))
    assert next(merged)["label"] == "a"
    with pytest.raises(DataError, match="row 2 has a field label that the first row lacks"):
        next(merged)


def test_predictions_as_columns() -> None:
    probabilities = np.array([[0.2, 0.8], [0.50000049, 0.49999951], [0.5, 0.5]])
    found = predicted_columns(["a", "b"], probabilities)
    assert found == {
        "label": ["b", "a", "a"], "probability": [0.8, 0.5, 0.5], "p_a": [0.2, 0.5, 0.5], "p_b": [0.8, 0.5, 0.5],
    }  # fmt: skip
    found = predicted_columns(["a", "b"], probabilities, np.array([0.5, 0.5]))
    assert found["labels"] == [["b"], ["a"], ["a", "b"]]
    assert list(rows_of({"x": [1, 2], "y": [3, 4]})) == [{"x": 1, "y": 3}, {"x": 2, "y": 4}]


def test_probabilities_are_rounded_as_python_rounds_single_ones() -> None:
    values = np.random.default_rng(0).random(20_000)
    found = predicted_columns(["a"], values[:, None])["p_a"]
    assert found == [round(value, DECIMALS) for value in values.tolist()]


def test_the_columns_that_are_kept() -> None:
    columns = Columns({"Id": [1], "title": ["a"], "other": [2], "body": ["b"]}, [1], "f")
    texts = ("title", "body")
    assert KeptColumns().of(columns, texts) == ["Id", "title", "other", "body"]
    assert KeptColumns(all=False).of(columns, texts) == ["Id", "title", "body"]
    assert KeptColumns(text=False).of(columns, texts) == ["Id", "other"]
    assert KeptColumns(all=False, text=False, ids="title").of(columns, texts) == ["title"]
