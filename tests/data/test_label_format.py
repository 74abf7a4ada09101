"""Labels of which a row may carry any number: their forms, and how rows with them are split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pennyweight.data.input_spec import InputSpec
from pennyweight.data.label_cells import refuse_joined_labels
from pennyweight.data.label_format import LabelFormat
from pennyweight.data.labels import LabelSet, fit_labels, refuse_rare
from pennyweight.data.sources import read, read_python
from pennyweight.data.split import split_multi_label
from pennyweight.errors import DataError

MULTI = LabelFormat(task="multi")


def said(data: Any, form: LabelFormat = MULTI) -> str:
    with pytest.raises(DataError) as caught:
        read_python(data, InputSpec(form=form))
    return str(caught.value)


def test_a_cell_is_split_at_the_delimiter_and_stripped() -> None:
    table = read_python([("x", "a | b"), ("y", "b|"), ("z", " a||b|a ")], InputSpec(form=LabelFormat(delimiter="|")))
    assert table.labels == [("a", "b"), ("b",), ("a", "b")]
    assert read_python([("x", "a | b"), ("y", "b|")]).labels == ["a | b", "b|"]
    assert read_python([("x", "a | b"), ("y", "b|")], InputSpec(form=MULTI)).labels == [("a | b",), ("b|",)]


def test_lists_are_told_by_themselves_whatever_holds_them() -> None:
    for cells in ([["a"], ["b", "a"]], [("a",), ("b", "a")], [np.array(["a"]), np.array(["b", "a"])]):
        assert read_python({"text": ["x", "y"], "label": cells}).labels == [("a",), ("b", "a")]
    assert read_python({"text": ["x", "y"], "label": [{"a"}, {"b", "a"}]}).labels == [("a",), ("a", "b")]
    assert read_python({"text": ["x", "y"], "label": [[1], [0, 2]]}).labels == [(1,), (0, 2)]


def test_lists_of_class_numbers_take_their_names_from_the_source(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, List, Value

    features = Features({"text": Value("string"), "labels": List(ClassLabel(names=["cup", "bank", "sea"]))})
    dataset = Dataset.from_dict({"text": ["x", "y"], "labels": [[0, 2], [1]]}, features=features)
    dataset.to_parquet(tmp_path / "rows.parquet")
    for table in (read_python(dataset), read(tmp_path / "rows.parquet")):
        assert table.labels == [("cup", "sea"), ("bank",)]
        assert table.label_names == ("cup", "bank", "sea")


def test_columns_of_zero_and_one_in_every_spelling() -> None:
    form = LabelFormat(columns=("News", "b"))
    values = {"text": ["x", "y", "z"], "news": ["1", "0", "true"], "b": [0.0, 1, True], "more": [1, 2, 3]}
    table = read_python(values, InputSpec(form=form))
    assert table.labels == [("news",), ("b",), ("news", "b")]
    assert table.label_names == ("news", "b")
    assert table.text_columns == ("text",)
    assert list(table.extras) == ["more"]


def test_what_is_no_list_of_labels() -> None:
    assert said([("x", ["a"]), ("y", [["b"]])]).startswith(
        "data row 2: the labels cannot be used; expected a list of strings or numbers; received ['b']"
    )
    assert said([("x", ["a"]), ("y", ["b", None])]).startswith("data row 2: a label in the list is missing")
    assert said({"text": ["x", "y"], "label": ['["a"]', '["a)]']}).startswith(
        "data row 2: the cell is not a list in JSON or Python syntax; expected"
    )
    assert "data row 2: the row has no label in column label" in said([("x", ["a"]), ("y", []), ("z", None)])
    assert "received 2 of 3 rows without any label" in said([("x", ["a"]), ("y", []), ("z", None)])
    columns = {"text": ["x", "y"], "a": [1, 0], "b": [1, 0]}
    assert "data row 2: the row has no label in columns a, b" in said(columns, LabelFormat(columns=("a", "b")))
    allowed = LabelFormat(columns=("a", "b"), allow_unlabelled=True)
    assert read_python(columns, InputSpec(form=allowed)).labels == [("a", "b"), ()]


def test_numbers_of_labels_are_a_matrix() -> None:
    table = read_python([("x", ["b"]), ("y", ["a", "b"]), ("z", ["a"])])
    labels = fit_labels(table)
    assert (labels.names, labels.multi) == (("a", "b"), True)
    assert labels.encode(table).tolist() == [[0, 1], [1, 1], [1, 0]]
    assert LabelSet.from_json(labels.to_json()) == labels
    assert LabelSet.from_json({"names": ["a", "b"]}) == LabelSet(("a", "b"))
    with pytest.raises(DataError, match="the rows have lists of labels, but the classifier gives one label per text"):
        LabelSet(("a", "b")).encode(table)
    with pytest.raises(DataError, match="class c has one row"):
        refuse_rare(read_python([("x", ["a", "b"]), ("y", ["a", "b", "c"])]))


@pytest.mark.parametrize("seed", range(5))
def test_a_split_spreads_rare_labels(seed: int) -> None:
    draw = np.random.default_rng(seed)
    labels = (draw.random((200, 4)) < [0.6, 0.3, 0.1, 0.05]).astype(np.int64)
    labels[:4] = np.eye(4, dtype=np.int64)
    labels[4] = [0, 0, 0, 0]
    labels[5:15, 3] = 1
    kept, held = split_multi_label(labels, size=0.2, seed=seed, names="abcd")
    assert sorted([*kept, *held]) == list(range(200))
    assert len(held) == 40
    for side in (kept, held):
        assert (labels[side].sum(axis=0) > 0).all()
    again = split_multi_label(labels, size=0.2, seed=seed, names="abcd")
    assert np.array_equal(again[1], held)


def test_a_split_of_few_rows_with_many_kinds_is_plain() -> None:
    labels = np.eye(12, dtype=np.int64).repeat(2, axis=0)
    kept, held = split_multi_label(labels, size=3, seed=0, names=[str(number) for number in range(12)])
    assert (len(kept), len(held)) == (21, 3)


def test_the_single_row_of_a_label_stays_in_training() -> None:
    labels = np.array([[1, 0, 0], [0, 1, 0]] * 10 + [[1, 0, 1]])
    for seed in range(5):
        kept, held = split_multi_label(labels, size=0.2, seed=seed, names="abc")
        assert 20 in kept
        assert sorted([*kept, *held]) == list(range(21))


def test_spellings_of_one_label_in_lists_are_one() -> None:
    table = read_python([("x", "1.0|2"), ("y", "2.0"), ("z", "10|10.0")], InputSpec(form=LabelFormat(delimiter="|")))
    assert table.labels == [(1, 2), (2,), (10,)]
    assert read_python([("x", ["a", "b "]), ("y", ["cafe\u0301"])]).labels == [("a", "b"), ("caf\u00e9",)]


def joined(labels: list[str]) -> str:
    with pytest.raises(DataError) as caught:
        refuse_joined_labels(read_python([("x", label) for label in labels]))
    return str(caught.value)


def test_labels_that_look_joined_are_refused_and_the_flag_named() -> None:
    cells = [f"{first}|{second}" for first in "abcd" for second in "vwxyz"]
    assert joined(cells) == (
        "data: the cells look like several labels joined by |; received 20 of 20 labels with |: 20 different "
        "ones, 9 once they are split, such as a|v; add --label-delimiter '|', or --task single if each cell is one "
        "label"
    )
    assert "joined by ;" in joined([cell.replace("|", "; ") for cell in cells])
    # Most texts have one label, some have two.
    tags = ["world"] * 7 + ["sports"] * 5 + ["world|extra", "sports|extra", "sports|world"]
    assert "3 of 15 labels with |: 5 different ones, 3 once they are split, such as world|extra" in joined(tags)
    assert "joined by ," in joined([tag.replace("|", ", ") for tag in tags])
    assert "joined by |" in joined(["positive", "negative", "positive|negative"])
    for fine in (
        ["positive", "negative", "positive, negative"],
        ["US|Sports", "US|Politics", "UK|Sports", "UK|Politics"],
        ["Food", "Food, Beverage & Tobacco", "Money transfers", "Money transfers, virtual currency"],
        [
            "Payday loan",
            "Payday loan, title loan, or personal loan",
            "Payday loan, title loan, personal loan, or advance",
        ],
        ["Sci/Tech", "World", "Business", "Sports"],
        ["Portland, OR", "Salem, OR", "Boston, MA", "Eugene, OR", "Lowell, MA"],
        ["Arts, Crafts & Sewing", "Books", "Toys", "Music"],
        ["a|b", "c", "d", "e"],
    ):
        refuse_joined_labels(read_python([("x", label) for label in fine * 3]))
