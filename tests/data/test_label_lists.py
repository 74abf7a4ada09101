"""Label cells that are lists in other people's writing, and vectors of 0 and 1."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pennyweight.data.input_spec import InputSpec
from pennyweight.data.label_format import LabelFormat
from pennyweight.data.label_lists import parsed
from pennyweight.data.sources import read, read_python
from pennyweight.data.table import Table


def table(*cells: Any, **form: Any) -> Table:
    texts = [f"text {row}" for row in range(len(cells))]
    return read_python({"text": texts, "label": list(cells)}, InputSpec(form=LabelFormat(**form)))


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ('["a", "b"]', ["a", "b"]),
        ("['a', 'b']", ["a", "b"]),
        ("('a', 'b')", ["a", "b"]),
        ("{'a'}", ["a"]),
        ("['a' 'b']", ["a", "b"]),
        ("['a'\n 'b c' 'd']", ["a", "b c", "d"]),
        ("[0 1 0]", [0, 1, 0]),
        ("[0. 1.]", [0, 1]),
        ("[True, False]", [True, False]),
        ("[]", []),
        ("['it\\'s', \"b's\"]", ["it's", "b's"]),
        ("['a\\d']", ["a\\d"]),
        ("[INFO]", None),
        ("['a' 'b', 'c']", None),
        ("['a' ... 'b']", None),
        ("[" * 9000, None),
        ("['" + "a" * 200_000 + "']", None),
        ("[__import__('os')]", None),
        ('{"a": 1}', None),
        ("('a')", None),
    ],
)
def test_a_cell_is_parsed_as_whoever_wrote_it_meant(cell: str, expected: list[Any] | None) -> None:
    assert parsed(cell) == expected


def test_columns_of_list_cells_are_any_number_of_labels_a_text(file: Callable[[str, str], Path]) -> None:
    rows = "text,labels\na,\"['x', 'y']\"\nb,\"['y']\"\n"
    assert read(file("python.csv", rows)).labels == [("x", "y"), ("y",)]
    rows = 'text,labels\na,"[""x"", ""y""]"\nb,"[""y""]"\n'
    assert read(file("json.csv", rows)).labels == [("x", "y"), ("y",)]
    assert table("['a' 'b']", "['b']").labels == [("a", "b"), ("b",)]
    assert table("{'b', 'a'}", "{'b'}").multi


def test_words_in_brackets_are_words(refusal: Callable[..., str]) -> None:
    assert table("[INFO]", "[WARN]", "[INFO]").labels == ["[INFO]", "[WARN]", "[INFO]"]
    assert table("(a)", "(b)").labels == ["(a)", "(b)"]
    assert table("['a']", "['b', 'a']", task="single").labels == ["['a']", "['b', 'a']"]
    assert refusal(table, "['a']", "['b']", "[oops]") == (
        'data row 3: the cell is not a list in JSON or Python syntax; expected ["sports", "politics"], or '
        "--label-delimiter; received [oops]"
    )


@pytest.mark.parametrize("kind", [list, tuple, np.array, str, lambda cell: [float(value) for value in cell]])
def test_one_hot_vectors_are_classes(kind: Callable[[Any], Any]) -> None:
    two = table(*(kind(cell) for cell in ([0, 1], [1, 0], [0, 1])))
    assert (two.labels, two.notes) == ([1, 0, 1], ("one-hot label vectors of length 2 read as classes 0 to 1",))
    four = table(*(kind(cell) for cell in ([0, 0, 0, 1], [0, 1, 0, 0])), task="single")
    assert (four.labels, four.notes) == ([3, 1], ("one-hot label vectors of length 4 read as classes 0 to 3",))
    assert table(kind([0, 1, 0]), kind([1, 0, 0]), task="multi").labels == [(1,), (0,)]


def test_vectors_with_several_ones_are_labels(refusal: Callable[..., str]) -> None:
    found = table([0, 1, 1], [1, 0, 0])
    assert found.labels == [(1, 2), (0,)]
    assert found.notes == ("label vectors of 3 zeros and ones read as labels 0 to 2, any number per text",)
    assert table([1, 1], [0, 1]).labels == [(0, 1), (1,)]
    assert "has no label in column label" in refusal(table, [0, 0], [0, 1])
    assert table([0, 0], [0, 1], allow_unlabelled=True).labels == [(), (1,)]
    assert refusal(table, [0, 1], [1, 1], task="single") == (
        "data row 2: the label vector does not have exactly one 1; expected exactly one 1 in each vector, since the "
        "task has one label per text; received [1, 1]; leave out --task single"
    )


def test_lists_of_class_numbers_are_no_vectors() -> None:
    assert table([0], [1], [0]).labels == [(0,), (1,), (0,)]
    assert table([0, 1], [1]).labels == [(0, 1), (1,)]
    assert table([0, 2], [1, 2]).labels == [(0, 2), (1, 2)]


def test_a_missing_vector_is_a_missing_label(refusal: Callable[..., str]) -> None:
    assert "data row 2: the label in column label is empty" in refusal(table, [0, 1], None, [1, 0])
