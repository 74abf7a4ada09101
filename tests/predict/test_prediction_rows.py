"""Rows of predictions: names that are taken."""

from __future__ import annotations

from pennyweight.predict.prediction_rows import merge_row


def test_a_name_that_is_taken_gets_another() -> None:
    found = {"label": "a", "probability": 0.9}
    assert merge_row({"text": "x"}, found) == {"text": "x", **found}
    assert list(merge_row({"label": 1, "x": 2}, found)) == ["label", "x", "predicted_label", "probability"]
    assert list(merge_row({"label": 1, "predicted_label": 2}, found)) == [
        "label", "predicted_label", "predicted_predicted_label", "probability",
    ]  # fmt: skip
