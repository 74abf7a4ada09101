import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pennyweight.data.canonical_labels import canonical_label
from pennyweight.data.labels import (
    LabelSet,
    check_ordered,
    describe_measurements,
    drop_labels,
    find_rare,
    fit_labels,
    refuse_rare,
    rename_labels,
    with_class_names,
)
from pennyweight.data.table import Table
from pennyweight.errors import DataError

NEWS = LabelSet(("World", "Sports", "Business", "Sci/Tech"))


def table(*labels: str | int, base: int = 0, names: tuple[str, ...] | None = None) -> Table:
    rows = len(labels)
    return Table(["t"] * rows, list(labels), "f.csv", list(range(2, rows + 2)), label_base=base, label_names=names)


def test_strings_are_sorted() -> None:
    assert fit_labels(table("b", "a", "b", "a", "C", "C")).names == ("C", "a", "b")


def test_integers_ascend_as_numbers() -> None:
    assert fit_labels(table(10, 9, 10, 9, 2, 2)).names == ("2", "9", "10")


def test_the_sources_own_order_wins_over_sorting_and_given_names_over_both() -> None:
    source = table(1, 0, 1, 0, names=("no", "yes"))
    assert fit_labels(source).names == ("no", "yes")
    assert fit_labels(source, names=["nein", "ja"]).names == ("nein", "ja")
    assert fit_labels(table("b", "a", "b", "a"), names=["b", "a"]).names == ("b", "a")


def test_a_class_without_rows_is_kept_where_the_names_are_known() -> None:
    labels = fit_labels(table(0, 3, 0, 3, names=NEWS.names))
    assert labels == NEWS
    assert len(labels) == 4


def test_one_class_only(refusal) -> None:
    assert refusal(fit_labels, table("x", "x", "x")) == (
        "f.csv: all 3 rows have the label x; expected at least two classes; "
        "check the label column, or name another with --label-column NAME"
    )


def test_a_class_with_one_row(refusal) -> None:
    one = table("x", "x", "y", "y", "z")
    assert refusal(refuse_rare, one) == (
        "f.csv:6: class z has one row; expected at least 2 rows per class, one for training and one for validation; "
        "add rows, merge the class with --label-map, or use --rare-classes drop (leave it out) or keep (train on it "
        "without validation)"
    )
    assert find_rare(one) == {"z": 1}
    assert drop_labels(one, find_rare(one)).labels == ["x", "x", "y", "y"]
    assert fit_labels(one).names == ("x", "y", "z")
    refuse_rare(table("x", "x", "y", "y"))


def test_a_label_column_that_is_none(refusal) -> None:
    assert refusal(refuse_rare, table(*(f"id {number}" for number in range(9)))) == (
        "f.csv:2: 9 classes have one row each; expected at least 2 rows per class, one for training and one for "
        "validation; received id 0, id 1, id 2, id 3 and 5 more; is this the label column? if not, name another with "
        "--label-column NAME; if so, use --rare-classes drop or keep; to train on one text per class, use "
        "--validation-size 0"
    )


def test_one_row_of_the_rarer_of_two_classes_is_no_reason_to_doubt_the_column(refusal) -> None:
    assert "; add rows, merge the class with --label-map, or use" in refusal(refuse_rare, table(*"a" * 99, "b"))


def test_numbers_that_hardly_repeat_may_be_measurements(refusal) -> None:
    said = refusal(refuse_rare, table(*(f"{number}.5" for number in range(30))))
    assert "the labels are 30 different numbers: if they are measurements, group them into a few ranges" in said
    assert describe_measurements(table(*(f"{number}.5" for number in range(30)))) == (
        "labels: 30 different numbers, each a class of its own: if they are measurements, group them into a few "
        "ranges, such as 0-10",
    )
    assert describe_measurements(table(*range(77))) == ()  # class numbers
    assert describe_measurements(table(*("1.5", "2", "2.5"))) == ()  # stars


def test_an_unknown_label_that_differs_in_case_alone(refusal) -> None:
    said = refusal(NEWS.encode, table("WORLD", "Sports", "sports"))
    assert "if these are the same classes, use --label-map WORLD=World,sports=Sports" in said
    assert "case" not in refusal(NEWS.encode, table("WORLD", "Travel"))


def test_no_labels(refusal) -> None:
    unlabelled = Table(["a"], None, "f.csv", [2])
    expected = "f.csv: there are no labels; name their column with --label-column NAME"
    assert refusal(fit_labels, unlabelled) == expected
    assert refusal(NEWS.encode, unlabelled) == expected


@pytest.mark.parametrize("names", [[], ["only"], ["a", "a"], ["a", ""]])
def test_names_that_cannot_be_used(refusal, names: list[str]) -> None:
    message = refusal(fit_labels, table("a", "a", "b", "b"), names=names)
    assert message.startswith("the class names cannot be used; expected two or more, all different; received")


def test_labels_that_are_not_among_the_given_names(refusal) -> None:
    assert refusal(fit_labels, table("a", "a", "b", "b"), names=["a", "c"]).startswith(
        "f.csv:4: label b is not one of the classes; expected one of a, c; received 2 of 4 rows"
    )


@pytest.mark.parametrize(
    ("labels", "given", "expected"),
    [
        (NEWS, table("Sci/Tech", "World"), [3, 0]),
        # Numbers are positions where the source names its classes, and these names are what is looked up.
        (NEWS, table(0, 3, names=NEWS.names), [0, 3]),
        (NEWS, table(0, 3, names=NEWS.names[::-1]), [3, 0]),
        (NEWS, table(0, 1, names=("Sports", "World")), [1, 0]),
        (NEWS, table(1, 2, base=1, names=("Sports", "World")), [1, 0]),
        (NEWS, table(1, 4, base=1), [0, 3]),
        # One label in every form, whatever spelling an older version kept as the class's name.
        (LabelSet(("1", "2")), table("2.0", "1"), [1, 0]),
        (LabelSet(("1.0", "2.0", "10.0")), table(10, 2), [2, 1]),
        (LabelSet(("1.0", "2.0")), table("1.0", "2"), [0, 1]),
        (LabelSet(("False", "True")), table("true", "false"), [1, 0]),
        (LabelSet(("false", "true")), table("TRUE", "False"), [1, 0]),
        (LabelSet(("cafe\u0301", "bar")), table("caf\u00e9", "bar "), [0, 1]),
        (LabelSet(("007", "7")), table("7", "007"), [1, 0]),
        # Trained on numbers, measured on a source that names them otherwise.
        (LabelSet(("0", "1", "2", "3")), table(0, 3, names=NEWS.names), [0, 3]),
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
        (NEWS, table(0, 3)),
        (NEWS, table("0", "3")),
        (NEWS, table(1, 2, 3)),
        (NEWS, table(-1, 0)),
        (NEWS, table(4, names=NEWS.names)),
        (NEWS, table(0, names=("Health", "World"))),
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
        "correct or remove these rows, train with their class, or say --unknown-labels drop or wrong"
    )


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ((1, 4, 2), "1=World,2=Sports,3=Business,4=Sci/Tech"),
        ((1, 2, 3), "1=World,2=Sports,3=Business,4=Sci/Tech"),
        ((0, 3), "0=World,1=Sports,2=Business,3=Sci/Tech"),
    ],
)
def test_what_numbers_could_mean_is_said_and_how_to_say_it(refusal, labels: tuple[int, ...], said: str) -> None:
    message = refusal(NEWS.encode, table(*labels))
    assert message.startswith(f"f.csv:2: label {labels[0]} is not one of the classes; expected one of World, Sports")
    assert message.endswith(f"numbers are not read as positions; if they are class numbers, use --label-map {said}")
    assert NEWS.encode(
        rename_labels(table(*labels), dict(pair.split("=") for pair in said.split(",")))[0]
    ).tolist() == [label - int(said[0]) for label in labels]


def test_numbers_that_fit_no_classes_get_no_such_advice(refusal) -> None:
    for labels in ((0, 4), (5, 9), (-1, 2)):
        assert refusal(NEWS.encode, table(*labels)).endswith("or say --unknown-labels drop or wrong")


def test_a_test_set_of_minus_ones_is_unlabelled(refusal) -> None:
    assert refusal(NEWS.encode, table(-1, -1)) == (
        "f.csv: the rows seem to be unlabelled: every label is -1; expected one of World, Sports, Business, Sci/Tech; "
        "received 2 rows; hub test sets often withhold their labels: name a labelled file or split, such as validation"
    )
    assert LabelSet(("-1", "0", "1")).encode(table(-1, -1)).tolist() == [0, 0]


def test_the_sources_name_of_an_unknown_number_is_told(refusal) -> None:
    message = refusal(NEWS.encode, table(1, 0, names=("Health", "World")))
    assert message.startswith("f.csv:3: label 0 (Health) is not one of the classes")


@pytest.mark.parametrize(
    ("names", "given", "said"),
    [
        (NEWS.names, table(3, 0, names=NEWS.names), "0 = World, 1 = Sports, 2 = Business, 3 = Sci/Tech"),
        (NEWS.names, table(2, 1, base=1), "1 = World, 2 = Sports"),
        (NEWS.names, table("World", "Sports"), None),
        (("1", "2"), table(2, 1), None),
        (("1.0", "2.0"), table(2, 1), None),
        (("0", "1"), table(1, 0, names=("0", "1")), None),
    ],
)
def test_the_mapping_that_was_used_can_be_told(names: tuple[str, ...], given: Table, said: str | None) -> None:
    assert LabelSet(names).mapping(given) == said


@pytest.mark.parametrize(
    ("given", "names", "numbers"),
    [
        (table(0, 2, 1, 0), ["a", "b", "c"], [0, 2, 1, 0]),
        (table(0, 2, 0, 2), ["a", "b", "c"], [0, 2, 0, 2]),
        (table(1, 3, 2, 1), ["a", "b", "c"], [0, 2, 1, 0]),
        (table(-1, 1, 0, 1), ["a", "b", "c"], [0, 2, 1, 2]),
        (table(1, 2, 1, 2, base=1), ["a", "b", "c"], [0, 1, 0, 1]),
        (table(1, 0, 1, 0, names=("no", "yes")), ["yes", "no"], [0, 1, 0, 1]),
        (table(1, 0, 1, 0, names=("no", "yes")), ["nein", "ja"], [1, 0, 1, 0]),
    ],
)
def test_given_names_name_numbers_and_the_classes_remember_it(given, names, numbers) -> None:
    labels = fit_labels(given, names=names)
    assert labels.names == tuple(names)
    assert labels.encode(given).tolist() == numbers
    again = LabelSet.from_json(json.loads(json.dumps(labels.to_json())))
    assert again == labels
    if given.label_names is None:
        assert again.encode(given).tolist() == numbers


def test_numbers_from_one_with_one_missing_are_not_guessed(refusal) -> None:
    message = refusal(fit_labels, table(1, 2, 1, 2), names=["a", "b", "c"])
    assert message.endswith("if they are class numbers, use --label-map 1=a,2=b,3=c")


def test_names_of_one_canonical_form_are_refused(refusal) -> None:
    assert refusal(fit_labels, table(1, 2, 1, 2), names=["1", "1.0", "2"]) == (
        "two class names mean the same label; expected names that differ when 1 equals 1.0, True equals true, "
        "and surrounding blanks are ignored; received 1, 1.0"
    )


def test_labels_are_renamed_and_merged_by_a_map() -> None:
    found, used = rename_labels(table(1, 2, 3, 1), {"1.0": "bad", "2": "good", "3": "good", "9": "none"})
    assert (found.labels, used) == (["bad", "good", "good", "bad"], {"1", "2", "3"})
    assert found.notes == ("labels of f.csv: 1 = bad, 2 = good, 3 = good",)
    sourced, used = rename_labels(table(1, 0, 1, 0, names=("no", "yes")), {"yes": "ja"})
    assert (sourced.labels, sourced.label_names, used) == (["ja", "no", "ja", "no"], ("no", "ja"), {"yes"})
    words, used = rename_labels(table("a", "b"), {"c": "d"})
    assert (words.labels, words.notes, used) == (["a", "b"], (), set())
    lists = Table(["t"] * 2, [("a", "b"), ("b",)], "f.csv", [1, 2])
    assert rename_labels(lists, {"a": "b"})[0].labels == [("b",), ("b",)]
    fitted = fit_labels(table("bad", "good", "bad", "good"), aliases={"1": "bad", "2": "good"})
    assert fitted.encode(table(2, 1)).tolist() == [1, 0]


def test_numbers_get_the_names_of_their_source_before_a_class_goes() -> None:
    source = with_class_names(table(0, 1, 2, 2, names=("a", "b", "c", "d")))
    assert source.labels == ["a", "b", "c", "c"]
    assert source.notes == ("labels of f.csv: 0 = a, 1 = b, 2 = c, 3 = d",)
    left = drop_labels(source, ["a"])
    assert (left.labels, left.label_names) == (["b", "c", "c"], ("b", "c", "d"))
    lists = Table(["t"] * 3, [("a", "b"), ("b",), ("a",)], "f.csv", [1, 2, 3])
    assert drop_labels(lists, ["a"]).labels == [("b",), ("b",)]


def test_decimals_have_an_order_of_their_own(refusal) -> None:
    assert fit_labels(table("2.5", "10", "2.5", "10", "0.5", "0.5")).names == ("0.5", "2.5", "10")
    check_ordered(table("0.5", "1.5"), None)
    assert "the order of the classes is unknown" in refusal(check_ordered, table("low", "1.5"), None)


@pytest.mark.parametrize("aliases", [[], "ab", {"1": 2}])
def test_json_with_damaged_aliases(refusal, aliases: object) -> None:
    message = refusal(LabelSet.from_json, {"names": ["a", "b"], "aliases": aliases})
    assert message.startswith("not a mapping of labels to class names; received")


def test_json_there_and_back() -> None:
    assert LabelSet.from_json(json.loads(json.dumps(NEWS.to_json()))) == NEWS


@pytest.mark.parametrize("value", [None, [], {"names": "ab"}, {"names": [1, 2]}, {}])
def test_json_of_another_form(refusal, value: object) -> None:
    assert refusal(LabelSet.from_json, value).startswith('not a list of class names; expected {"names": [...]}')


@example(["\r", "\x85"])
@example(["1", "+1"])
@given(st.lists(st.one_of(st.integers(-5, 5), st.text(min_size=1, max_size=3)), min_size=2, max_size=20))
def test_what_is_fitted_is_encoded_in_the_same_order(labels: list[str | int]) -> None:
    # As the readers give them: all integers, or all strings.
    uniform: list[str | int] = labels if all(isinstance(label, int) for label in labels) else list(map(str, labels))
    given = table(*uniform, *uniform)
    if len(set(uniform)) < 2:
        return
    if len(set(map(canonical_label, uniform))) < len(set(uniform)):  # two spellings of one label
        with pytest.raises(DataError, match="are spellings of one label"):
            fit_labels(given)
        return
    classes = fit_labels(given)
    assert [classes.names[number] for number in classes.encode(given)] == [str(label) for label in given.labels or ()]


def test_a_number_is_one_label_however_it_is_spelled(refusal) -> None:
    labels = fit_labels(table("1.5", "2", "1.5", "2"))
    assert labels.encode(table("1.50", "+2", "2.00", "+1.5")).tolist() == [0, 1, 1, 0]
    signed = fit_labels(table("+1", "-1", "+1", "-1"))
    assert [signed.names[number] for number in signed.encode(table(1, -1))] == ["+1", "-1"]
    for word in ("007", "1e3", "2.x"):
        assert refusal(labels.encode, table(word)).startswith(f"f.csv:2: label {word} is not one of the classes")
    assert LabelSet(("a", "b"), aliases=(("1.50", "a"),)).encode(table("1.5", "b")).tolist() == [0, 1]  # saved by 0.1


def test_two_spellings_of_one_number_are_no_two_classes(refusal) -> None:
    versions = table("3.1", "3.10", "3.2", "3.1", "3.10")
    assert refusal(fit_labels, versions) == (
        "f.csv: 3.1, 3.10 are spellings of one label; expected one spelling for each class; spell them the same; if "
        "they are different names, such as versions, put a letter first: v3.10"
    )
    renamed, used = rename_labels(versions, {"3.10": "v3.10", "3.2": "v3.2"})
    assert (renamed.labels, used) == (["3.1", "v3.10", "v3.2", "3.1", "v3.10"], {"3.1", "3.2"})
    assert fit_labels(renamed).names == ("3.1", "v3.10", "v3.2")
