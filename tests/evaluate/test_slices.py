import numpy as np
import pytest

from pennyweight.errors import DataError
from pennyweight.evaluate.labelled_rows import LabelledRows
from pennyweight.evaluate.slices import by_column, by_number, slice_rows


def test_columns_with_few_values_are_sliced_by_and_others_when_asked() -> None:
    columns = {"source": ["wire", "web"] * 10, "id": list(range(20)), "day": [str(day) for day in range(20)]}
    labels = np.zeros(20, int)
    rows = LabelledRows(["a text"] * 20, labels, np.arange(20), "data.csv", columns)
    assert list(slice_rows(rows, labels == 0)) == ["length in tokens", "source"]
    assert list(slice_rows(rows, labels == 0, ["day"])) == ["length in tokens", "day"]
    with pytest.raises(DataError, match=r"data\.csv: there is no column 'topic' for slices; expected source, id, day"):
        slice_rows(rows, labels == 0, ["topic"])


def test_slices_by_value() -> None:
    correct = np.array([True, True, False, True, False, False])
    wire, web, missing = by_column(correct, ["wire", "wire", "wire", "web", "web", None])
    assert (wire.name, wire.n, wire.accuracy) == ("wire", 3, pytest.approx(2 / 3))
    assert wire.interval[0] < 2 / 3 < wire.interval[1]
    assert (web.name, web.accuracy) == ("web", 0.5)
    assert (missing.name, missing.accuracy) == ("None", 0.0)


def test_rare_values_are_taken_together() -> None:
    values = ["common"] * 5 + [f"rare {index}" for index in range(30)]
    slices = by_column(np.ones(35, bool), values)
    assert len(slices) == 21
    assert (slices[0].name, slices[-1].name, slices[-1].n) == ("common", "11 other values", 11)
    assert sum(one.n for one in slices) == 35


def test_many_numbers_become_fifths_and_few_stay_values() -> None:
    correct = np.arange(100) < 80
    fifths = by_column(correct, list(range(100)), "tokens")
    assert [one.name for one in fifths] == [
        "0 to 19 tokens",
        "20 to 39 tokens",
        "40 to 59 tokens",
        "60 to 79 tokens",
        "80 to 99 tokens",
    ]
    assert [one.accuracy for one in fifths] == [1, 1, 1, 1, 0]
    assert [one.name for one in by_column(correct, [2023, 2024] * 50)] == ["2023", "2024"]


def test_equal_numbers_stay_together() -> None:
    slices = by_number(np.ones(10, bool), np.array([5.0] * 9 + [9.0]), "words")
    assert [(one.name, one.n) for one in slices] == [("5 words", 9), ("9 words", 1)]
