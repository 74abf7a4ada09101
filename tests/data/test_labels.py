import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pennyweight.data.labels import LabelSet, fit
from pennyweight.data.table import Table

NEWS = LabelSet(("World", "Sports", "Business", "Sci/Tech"))


def table(*labels: str | int, base: int = 0, names: tuple[str, ...] | None = None) -> Table:
    rows = len(labels)
    return Table(["t"] * rows, list(labels), "f.csv", list(range(2, rows + 2)), label_base=base, label_names=names)


def test_strings_are_sorted() -> None:
    assert fit(table("b", "a", "b", "a", "C", "C")).names == ("C", "a", "b")


def test_integers_ascend_as_numbers() -> None:
    assert fit(table(10, 9, 10, 9, 2, 2)).names == ("2", "9", "10")


def test_the_sources_own_order_wins_over_sorting_and_given_names_over_both() -> None:
    source = table(1, 0, 1, 0, names=("no", "yes"))
    assert fit(source).names == ("no", "yes")
    assert fit(source, names=["nein", "ja"]).names == ("nein", "ja")
    assert fit(table("b", "a", "b", "a"), names=["b", "a"]).names == ("b", "a")


def test_a_class_without_rows_is_kept_where_the_names_are_known() -> None:
    labels = fit(table(0, 3, 0, 3, names=NEWS.names))
    assert labels == NEWS
    assert len(labels) == 4


def test_one_class_only(refusal) -> None:
    assert refusal(fit, table("x", "x", "x")) == (
        "f.csv: all 3 rows have the label x; expected at least two classes; "
        "check the label column, or name another with --label-column c"
    )


def test_a_class_with_one_row(refusal) -> None:
    assert refusal(fit, table("x", "x", "y", "y", "z")) == (
        "f.csv:6: class z has one row; expected at least 2 rows a class, one to train on and one to validate on; "
        "add rows, or remove or merge the class"
    )


def test_a_label_column_that_is_none(refusal) -> None:
    assert refusal(fit, table(*(f"id {number}" for number in range(9)))) == (
        "f.csv:2: 9 classes have one row each; expected at least 2 rows a class, one to train on and one to validate "
        "on; received id 0, id 1, id 2, id 3 and 5 more; is this the label column? name another with --label-column c"
    )


def test_no_labels(refusal) -> None:
    unlabelled = Table(["a"], None, "f.csv", [2])
    expected = "f.csv: there are no labels; name their column with --label-column c"
    assert refusal(fit, unlabelled) == expected
    assert refusal(NEWS.encode, unlabelled) == expected


@pytest.mark.parametrize("names", [[], ["only"], ["a", "a"], ["a", ""]])
def test_names_that_cannot_be_used(refusal, names: list[str]) -> None:
    message = refusal(fit, table("a", "a", "b", "b"), names=names)
    assert message.startswith("the class names cannot be used; expected two or more, all different; received")


def test_labels_that_are_not_among_the_given_names(refusal) -> None:
    assert refusal(fit, table("a", "a", "b", "b"), names=["a", "c"]).startswith(
        "f.csv:4: label b is not one of the classes; expected one of a, c; received 2 of 4 rows"
    )


@pytest.mark.parametrize(
    ("labels", "given", "expected"),
    [
        (NEWS, table("Sci/Tech", "World"), [3, 0]),
        (NEWS, table(0, 3), [0, 3]),
        (NEWS, table(1, 4, base=1), [0, 3]),
        (NEWS, table("0", "3"), [0, 3]),
        (NEWS, table("1", "4", base=1), [0, 3]),
        # Names that are numbers: the number is looked up, not counted.
        (LabelSet(("1", "2", "3", "4")), table(1, 4), [0, 3]),
        (LabelSet(("1", "2", "3", "4")), table(1, 4, base=1), [0, 3]),
        (LabelSet(("1", "3", "4")), table(3, 4, base=1), [1, 2]),
        (LabelSet(("2", "9", "10")), table(10, 2), [2, 0]),
        # Trained on 0..3, tested on the official form, which counts from one.
        (LabelSet(("0", "1", "2", "3")), table(1, 4, base=1), [0, 3]),
        (LabelSet(("3M", "4")), table(4, "3M"), [1, 0]),
    ],
)
def test_labels_become_class_numbers(labels: LabelSet, given: Table, expected: list[int]) -> None:
    encoded = labels.encode(given)
    assert encoded.dtype == np.int64
    assert encoded.tolist() == expected


@pytest.mark.parametrize(
    ("labels", "given"),
    [
        (NEWS, table(-1)),
        (NEWS, table(4)),
        (NEWS, table(0, base=1)),
        (NEWS, table(5, base=1)),
        (NEWS, table("world")),
        (LabelSet(("1", "3", "4")), table(2, base=1)),
        (LabelSet(("0", "1")), table(0, base=1)),
        (LabelSet(("3M", "4")), table(0)),
    ],
)
def test_a_label_out_of_range_is_unknown(refusal, labels: LabelSet, given: Table) -> None:
    assert "is not one of the classes" in refusal(labels.encode, given)


def test_unknown_labels_name_the_first_line_and_count_them(refusal) -> None:
    assert refusal(NEWS.encode, table("World", "Health", "Weather", "Health")) == (
        "f.csv:3: label Health is not one of the classes; expected one of World, Sports, Business, Sci/Tech; "
        "received 3 of 4 rows with unknown labels (Health 2, Weather 1); "
        "correct or remove these rows, or train with their class"
    )


def test_class_numbers_from_one_are_recognised(refusal) -> None:
    assert refusal(NEWS.encode, table(1, 4, 2)) == (
        "f.csv:3: label 4 is not one of the classes; expected one of World, Sports, Business, Sci/Tech; "
        "received 1 of 3 rows with unknown labels (4 1); "
        "the labels look like class numbers from 1: write names, or numbers from 0"
    )


def test_json_there_and_back() -> None:
    assert LabelSet.from_json(json.loads(json.dumps(NEWS.to_json()))) == NEWS


@pytest.mark.parametrize("value", [None, [], {"names": "ab"}, {"names": [1, 2]}, {}])
def test_json_of_another_form(refusal, value: object) -> None:
    assert refusal(LabelSet.from_json, value).startswith('not a list of class names; expected {"names": [...]}')


@given(st.lists(st.one_of(st.integers(-5, 5), st.text(min_size=1, max_size=3)), min_size=2, max_size=20))
def test_what_is_fitted_is_encoded_in_the_same_order(labels: list[str | int]) -> None:
    # As the readers give them: all integers, or all strings.
    uniform: list[str | int] = labels if all(isinstance(label, int) for label in labels) else list(map(str, labels))
    given = table(*uniform, *uniform)
    if len(set(uniform)) < 2:
        return
    classes = fit(given)
    assert [classes.names[number] for number in classes.encode(given)] == [str(label) for label in given.labels or ()]
