from typing import Any

import pytest

from pennyweight.data.columns import (
    choose_label_column,
    choose_text_columns,
    infer_label_base,
    is_column_name,
    is_null,
    require_column,
)
from pennyweight.data.table import Columns

LONG = [f"a long and varied sentence, number {number}" for number in range(10)]
SHORT = ["red", "green"] * 5


def columns(*names: str, **values: list[Any]) -> Columns:
    """Columns of short texts by the names given, and others by their values."""
    everything = {name: list(SHORT) for name in names} | values
    return Columns(everything, list(range(2, 12)), "f.csv")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["label", "text"], ["text"]),
        (["Label", "Text"], ["Text"]),
        (["text", "sentence", "title"], ["text"]),
        (["sentence", "label"], ["sentence"]),
        (["idx", "review", "sentiment"], ["review"]),
        (["Class Index", "Title", "Description"], ["Title", "Description"]),
        (["label", "content", "title"], ["title", "content"]),
        (["subject", "body", "category"], ["subject", "body"]),
        (["tweet-text", "label"], ["tweet-text"]),
    ],
)
def test_texts_by_name(names: list[str], expected: list[str]) -> None:
    assert choose_text_columns(columns(*names), None, None) == tuple(expected)


def test_the_only_column_with_long_varied_text() -> None:
    assert choose_text_columns(columns("colour", story=LONG), None, None) == ("story",)
    assert choose_text_columns(columns("id", "flag", words=LONG, n=list(range(10))), None, None) == ("words",)


def test_long_texts_that_repeat_are_no_texts() -> None:
    kinds = ["a rather long name of a class", "and another one of them"] * 5
    assert choose_text_columns(columns(kind=kinds, story=LONG), None, None) == ("story",)


def test_a_single_column_of_strings_needs_no_length() -> None:
    assert choose_text_columns(columns("words"), None, None) == ("words",)


def test_several_candidates_are_refused(refusal) -> None:
    assert refusal(choose_text_columns, columns("sentence", "review", "label"), None, None) == (
        "f.csv: several columns could be the text: sentence, review; received columns sentence, review, label; "
        "name it with --text-columns a,b, or add --pair if each row is a pair of texts"
    )
    assert refusal(choose_text_columns, columns("label", sentence1=LONG, sentence2=LONG), None, None) == (
        "f.csv: several columns could be the text: sentence1, sentence2; "
        "received columns label, sentence1, sentence2; name it with --text-columns a,b, or add --pair if each row is "
        "a pair of texts"
    )


@pytest.mark.parametrize("names", [("premise", "hypothesis"), ("question1", "question2"), ("text_a", "text_b")])
def test_pairs_by_name_may_repeat_and_be_short(names: tuple[str, str], refusal) -> None:
    source = columns("label", *names)
    assert choose_text_columns(source, None, None, pair=True) == names
    assert "or add --pair" in refusal(choose_text_columns, source, None, None)
    assert choose_text_columns(columns("text", *names), None, None) == ("text",)


def test_no_candidate_is_refused_and_columns_of_odd_types_are_named(refusal) -> None:
    source = Columns({"a": [1, 2], "b": [3, 4]}, [1, 2], "f.parquet", unreadable={"tokens": "list<string>"})
    assert refusal(choose_text_columns, source, None, None) == (
        "f.parquet: cannot tell which column is the text; received columns a, b, tokens (list<string>); "
        "name it with --text-columns a,b"
    )
    assert refusal(choose_text_columns, source, ["tokens"], None) == (
        "f.parquet: column tokens contains neither text nor numbers; received list<string>; lists are read only from "
        "columns named like labels, such as labels or tags: rename the column"
    )


def test_named_columns_keep_their_order_and_may_differ_in_case() -> None:
    source = columns("Headline", "Body")
    assert choose_text_columns(source, ["body", "headline"], None) == ("Body", "Headline")
    assert require_column(source, "Body", "") == "Body"


def test_a_named_column_that_is_not_there(refusal) -> None:
    source = columns("sentence", "label")
    assert refusal(choose_text_columns, source, ["sentense"], None) == (
        "f.csv: no column named sentense; expected one of sentence, label; did you mean sentence?"
    )
    assert refusal(choose_label_column, source, "kind", ["sentence"], needed=True) == (
        "f.csv: no column named kind; expected one of sentence, label; name it with --label-column NAME"
    )


@pytest.mark.parametrize("wanted", [[], ["text", "text"]])
def test_no_column_or_one_twice(refusal, wanted: list[str]) -> None:
    message = refusal(choose_text_columns, columns("text"), wanted, None)
    assert message.startswith("f.csv: --text-columns is empty or names a column twice")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["text", "label"], "label"),
        (["text", "Labels"], "Labels"),
        (["text", "label", "label_text"], "label"),
        (["text", "category", "id"], "category"),
        (["text", "Class Index"], "Class Index"),
        (["text", "target"], "target"),
    ],
)
def test_labels_by_name(names: list[str], expected: str) -> None:
    assert choose_label_column(columns(*names), None, ["text"], needed=True) == expected


def test_the_one_other_column_with_few_values_is_the_label_when_one_is_needed() -> None:
    source = columns("colour", text=LONG)
    assert choose_label_column(source, None, ["text"], needed=True) == "colour"
    assert choose_label_column(source, None, ["text"], needed=False) is None


def test_labels_that_cannot_be_told(refusal) -> None:
    assert refusal(choose_label_column, columns("text", "class", "target"), None, ["text"], needed=True) == (
        "f.csv: several columns could be the label: class, target; received columns text, class, target; "
        "name it with --label-column NAME"
    )
    for source in (columns("text", "colour", "shape"), columns(text=LONG), columns("text", id=list(range(10)))):
        message = refusal(choose_label_column, source, None, ["text"], needed=True)
        assert message.startswith("f.csv: cannot tell which column is the label; received columns text")


def test_a_column_cannot_be_both(refusal) -> None:
    assert refusal(choose_label_column, columns("text", "label"), "text", ["text"], needed=True) == (
        "f.csv: column text cannot be both text and label; name another with --label-column or --text-columns"
    )


def test_missing_cells() -> None:
    assert is_null(None)
    assert is_null(float("nan"))
    assert not any(map(is_null, ["", "NA", "null", 0, 0.0, False]))


def test_class_numbers_from_one_only_where_the_column_says_so() -> None:
    assert infer_label_base("Class Index", [1, 2]) == 1
    assert infer_label_base("Class Index", [0, 1]) == 0
    assert infer_label_base("label", [1, 2]) == 0


def test_a_position_names_a_column_where_no_name_does(refusal) -> None:
    source = columns("colour", "7", words=LONG)
    assert choose_text_columns(source, ["3"], None) == ("words",)
    assert choose_label_column(source, "1", ["words"], needed=True) == "colour"
    assert require_column(source, "7", "") == "7"  # a name wins
    assert refusal(require_column, source, "4", "--label-column NAME") == (
        "f.csv: no column named 4; expected one of colour, 7, words; name it with --label-column NAME"
    )
    # What could not be read stood somewhere, too.
    partly = Columns({"a": LONG, "b": SHORT}, list(range(10)), "f.parquet", unreadable={"vector": "list<double>"})
    assert refusal(require_column, partly, "2", "--label-column NAME").startswith("f.parquet: no column named 2; ")


def test_the_label_is_never_a_text_whatever_it_is_called() -> None:
    source = columns(first=LONG, second=[f"{text}!" for text in LONG])
    for label in ("2", "Second", "second"):
        assert choose_text_columns(source, None, label) == ("first",)


def test_columns_without_a_value_are_not_the_label() -> None:
    source = columns("v1", v2=LONG, third=[""] * 10, fourth=[None] * 10)
    assert choose_label_column(source, None, ["v2"], needed=True) == "v1"


@pytest.mark.parametrize("counted", [list(range(10)), [str(number) for number in range(1, 11)]])
def test_columns_that_number_the_rows_are_not_the_label(counted: list[Any]) -> None:
    source = columns("stars", review=LONG, **{"column 1": counted, "user_id": list(range(5)) * 2})
    assert choose_label_column(source, None, ["review"], needed=True) == "stars"


def test_a_label_column_of_dates(refusal) -> None:
    source = Columns({"text": LONG}, list(range(10)), "f.parquet", unreadable={"label": "date32[day]"})
    assert refusal(lambda: choose_label_column(source, None, ["text"], needed=True)) == (
        "f.parquet: column label contains neither text nor numbers; received date32[day]; turn dates into strings "
        "first, such as the month: a class needs several rows"
    )


def test_columns_without_names_are_told_by_what_they_hold(refusal) -> None:
    values = {"column 1": [str(n) for n in range(10)], "column 2": LONG, "column 3": SHORT}
    source = Columns(values, list(range(1, 11)), "f.csv", named=False)
    assert choose_text_columns(source, None, None) == ("column 2",)
    assert choose_label_column(source, None, ["column 2"], needed=True) == "column 3"
    unclear = Columns({"column 1": LONG, "column 2": [*LONG[1:], "x"]}, list(range(1, 11)), "f.csv", named=False)
    assert refusal(choose_text_columns, unclear, None, None) == (
        "f.csv: several columns could be the text: column 1, column 2; received columns column 1, column 2; "
        "name it by its position, such as --text-columns 2,3, or add --pair if each row is a pair of texts"
    )


def test_usual_names_of_columns() -> None:
    assert all(map(is_column_name, ["Text", "gold_label", "sentence1", "v2", "Class Index", "text_2", "id"]))
    assert not any(map(is_column_name, ["", "Sports", "good film", "2", "a text"]))
