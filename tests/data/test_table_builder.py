from typing import Any

import numpy as np
import pytest

from pennyweight.data.input_spec import InputSpec
from pennyweight.data.table import MAX_TEXT, Columns, Table
from pennyweight.data.table_builder import build_table

NAN = float("nan")


def build(values: dict[str, list[Any]], **options: Any) -> Table:
    names = options.pop("label_names", {})
    rows = len(next(iter(values.values())))
    how = {key: options.pop(key) for key in ("labelled", "allow_null") if key in options}
    source = Columns(values, list(range(2, rows + 2)), "f.csv", label_names=names)
    return build_table(source, InputSpec(**options), **how)


def test_a_table_knows_where_its_parts_came_from() -> None:
    table = build({"id": [7, 8], "text": ["a", "b"], "label": ["x", "y"]})
    assert (table.texts, table.labels, table.lines) == (["a", "b"], ["x", "y"], [2, 3])
    assert (table.text_columns, table.label_column, table.source) == (("text",), "label", "f.csv")
    assert table.extras == {"id": [7, 8]}
    assert (table.label_names, table.label_base) == (None, 0)


def test_texts_are_joined_and_empty_parts_left_out() -> None:
    values = {"title": ["T", "", "only"], "description": ["d", "d", ""], "label": [0, 1, 0]}
    assert build(values).texts == ["T d", "d", "only"]
    assert build(values, separator=" | ").texts == ["T | d", "d", "only"]
    assert build(values, text_columns=("description", "title")).texts == ["d T", "d", "only"]


def test_labelled_true_false_and_none() -> None:
    values = {"text": ["a", "b"], "label": ["x", "y"]}
    assert build(values, labelled=None).labels == ["x", "y"]
    without = build(values, labelled=False)
    assert (without.labels, without.label_column, without.extras) == (None, None, {"label": ["x", "y"]})
    assert build({"text": ["a", "b"]}, labelled=None).labels is None


def test_labels_needed_and_not_there(refusal) -> None:
    assert refusal(build, {"text": ["a", "b"]}) == (
        "f.csv: cannot tell which column is the label; received columns text; name it with --label-column NAME"
    )


@pytest.mark.parametrize("missing", [None, NAN])
def test_a_missing_text_names_its_line_unless_it_may_be_missing(refusal, missing: Any) -> None:
    values = {"text": ["a", missing], "label": ["x", "y"]}
    assert refusal(build, values) == (
        "f.csv:3: the text is missing (null or NaN); expected a string; remove the row or give it a text"
    )
    assert build(values, allow_null=True).texts == ["a", ""]


def test_one_text_column_of_a_pair_missing(refusal) -> None:
    values = {"title": ["a", "b"], "description": ["c", None]}
    assert refusal(build, values, labelled=False).startswith("f.csv:3: the text is missing")
    assert build(values, labelled=False, allow_null=True).texts == ["a c", "b"]


def test_a_text_that_is_no_string(refusal) -> None:
    assert refusal(build, {"text": ["a", 5], "label": [0, 1]}) == (
        "f.csv:3: the text is not a string; expected a string; received 5"
    )


def test_half_a_surrogate_pair(refusal) -> None:
    assert refusal(build, {"text": ["a", "bé\ud83d!"], "label": [0, 1]}) == (
        "f.csv:3: the text contains half of a surrogate pair (\\ud83d) at character 2; export the data again as UTF-8"
    )


def test_an_overlong_text_names_line_and_size(refusal) -> None:
    assert build({"text": ["é" * MAX_TEXT, "b"], "label": [0, 1]}).texts[0] == "é" * MAX_TEXT
    assert refusal(build, {"text": ["a", "b" * 10_000_000], "label": [0, 1]}) == (
        "f.csv:3: one text has 10,000,000 characters; expected at most 1,000,000; "
        "cut it or leave it out; if it holds several rows, look for an unclosed quote"
    )
    halves = {"title": ["a" * 600_000], "description": ["b" * 600_000]}
    assert refusal(build, halves, labelled=False).startswith("f.csv:2: one text has 1,200,001 characters")


@pytest.mark.parametrize("empty", [None, NAN, "", "  "])
def test_an_empty_label_names_its_line(refusal, empty: Any) -> None:
    values = {"text": ["a", "b", "c"], "label": ["x", empty, empty]}
    expected = (
        "f.csv:3: the label in column label is empty; received 2 of 3 rows without a label; "
        "fill it in or remove the row"
    )
    assert refusal(build, values) == expected
    assert refusal(build, values, labelled=None) == expected


@pytest.mark.parametrize("missing", ["nan", "NaN", "<NA>", "NaT"])
def test_a_missing_value_turned_into_a_word_is_no_class(refusal, missing: str) -> None:
    values = {"text": ["a", "b", "c"], "label": ["x", missing, "y"]}
    assert refusal(build, values) == (
        f"f.csv:3: the label in column label is missing ({missing}); received 1 of 3 rows without a label; "
        "fill it in or remove the row"
    )


def test_missing_values_of_pandas_and_numpy_are_missing(refusal) -> None:
    import pandas as pd

    for missing in (pd.NA, pd.NaT, np.float32("nan")):
        values = {"text": ["a", "b", "c"], "label": ["x", missing, "y"]}
        assert refusal(build, values).startswith("f.csv:3: the label in column label is empty")


def test_numbers_with_their_names_beside_them_keep_the_names() -> None:
    values = {"text": ["a", "b", "c"], "label": [1, 0, 1], "label_text": ["yes", "no ", "yes"], "id": [7, 8, 9]}
    table = build(values)
    assert (table.labels, table.label_names, table.extras) == ([1, 0, 1], ("no", "yes"), {"id": [7, 8, 9]})
    gap = build(values | {"label": [5, 1, 5]})
    assert (gap.labels, gap.label_names) == (["yes", "no", "yes"], ("no", "yes"))
    assert gap.notes == ("labels 1 = no, 5 = yes (column label_text)",)
    for other in (["yes", "no", "no"], ["yes", None, "yes"], ["yes", "yes", "yes"]):
        plain = build(values | {"label_text": other})
        assert (plain.labels, plain.label_names) == ([1, 0, 1], None)
        assert plain.extras["label_text"] == other


def test_two_columns_that_could_be_the_text_are_the_pair_that_is_asked_for(refusal) -> None:
    first, second = ["a long first sentence", "another first one"], ["a long second sentence", "another second one"]
    values = {"sentence1": first, "sentence2": second, "quality": [1, 0]}
    table = build(values | {"quality": [1, 1]}, pair=True)
    assert (table.text_columns, table.label_column) == (("sentence1", "sentence2"), "quality")
    assert "several columns could be the text" in refusal(build, values)
    third = values | {"sentence3": [text[::-1] for text in first]}
    assert "several columns could be the text" in refusal(build, third, pair=True)


def test_a_label_column_that_is_empty_throughout_counts_as_none_where_labels_are_optional(refusal) -> None:
    values = {"text": ["a", "b"], "label": ["", None]}
    table = build(values, labelled=None)
    assert (table.labels, table.label_column) == (None, None)
    assert "every label is empty" in refusal(build, values)
    assert "every label is empty" in refusal(build, values, labelled=None, label_column="label")


def test_minus_one_means_no_label_where_the_source_numbers_its_classes(refusal) -> None:
    names = {"label": ("no", "yes")}
    values = {"text": ["a", "b"], "label": [-1, -1]}
    assert build(values, labelled=None, label_names=names).labels is None
    assert refusal(build, values, label_names=names) == (
        "f.csv: the rows seem to be unlabelled: in column label every label is missing (-1); expected a label a row; "
        "received 2 rows without a label; name a labelled file or split, or another column with --label-column NAME"
    )
    assert refusal(build, values | {"label": [0, -1]}, label_names=names).startswith(
        "f.csv:3: the label in column label is missing (-1); received 1 of 2 rows without a label"
    )
    assert build(values).labels == [-1, -1]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["2", "10", "0"], [2, 10, 0]),
        (["007", "7"], ["007", "7"]),
        ([1.0, 0.0], [1, 0]),
        ([True, False], ["true", "false"]),
        ([np.True_, np.False_], ["true", "false"]),
        (["True", "FALSE", "true"], ["true", "false", "true"]),
        (["True", "Fake"], ["True", "Fake"]),
        (["3.0", "10.0", "1"], [3, 10, 1]),
        ([3.0, "1.0"], [3, 1]),
        ([0.5, 1.0, "1.5"], ["0.5", "1", "1.5"]),
        ([np.float32(2.0), 1], [2, 1]),
        (["-0.0", "-0", "1"], [0, 0, 1]),
        (["1e0", "1"], ["1e0", "1"]),
        (["007", "8.0"], ["007", "8"]),
        (["1.10", "1.1"], ["1.10", "1.1"]),
        (["+1", "-1", 1], [1, -1, 1]),
        (["+1", "heart"], ["+1", "heart"]),
        ([1e22, 1], [10**22, 1]),
        (["12345678901234567890.0", "1"], ["12345678901234567890", "1"]),
        (["cafe\u0301", "caf\u00e9 "], ["caf\u00e9", "caf\u00e9"]),
        (["None", "NA"], ["None", "NA"]),
        ([" x ", "y"], ["x", "y"]),
        ([3, "x"], ["3", "x"]),
        (["3", 4], [3, 4]),
        ([np.int64(1), np.int32(0)], [1, 0]),
        (["1.5", "2"], ["1.5", "2"]),
    ],
)
def test_labels_become_all_integers_or_all_strings(given: list[Any], expected: list[Any]) -> None:
    labels = build({"text": ["t"] * len(given), "label": given}).labels
    assert labels == expected
    assert [type(label) for label in labels or ()] == [type(label) for label in expected]


@pytest.mark.parametrize(
    ("label", "received"),
    [(float("inf"), "inf"), (["x"], "['x']"), ({"a": 1}, "{'a': 1}"), (b"x", "b'x'")],
)
def test_a_label_that_cannot_be_one(refusal, label: Any, received: str) -> None:
    assert refusal(build, {"text": ["a", "b"], "label": ["x", label]}) == (
        f"f.csv:3: the label cannot be used; expected one string or number per row; received {received}"
    )


def test_names_of_classes_follow_the_label_column() -> None:
    names = {"label": ("no", "yes"), "other": ("a", "b")}
    values = {"text": ["a", "b"], "label": [1, 0], "other": [0, 0]}
    assert build(values, label_names=names).label_names == ("no", "yes")
    assert build(values, label_names=names, label_column="Other").label_names == ("a", "b")
    assert build(values, label_names=names, labelled=False).label_names is None


def test_a_class_index_with_a_header_counts_from_one() -> None:
    values = {"Class Index": ["1", "4"], "Title": ["a", "b"], "Description": ["c", "d"]}
    table = build(values)
    assert (table.labels, table.label_base, table.texts) == ([1, 4], 1, ["a c", "b d"])
    assert build(values | {"Class Index": ["0", "3"]}).label_base == 0
