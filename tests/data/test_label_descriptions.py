"""Descriptions of classes: read from a table, and refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pennyweight.data.label_descriptions import names_as_descriptions, read_descriptions, same_descriptions
from pennyweight.errors import DataError

NAMES = ("Business", "Sports", "World")
ROWS = ("Business,companies and markets", "Sports,games and teams", "World,wars and governments")


def written(folder: Path, *rows: str) -> Path:
    file = folder / "labels.csv"
    file.write_text("\n".join(["label,text", *rows]) + "\n", "utf-8")
    return file


def test_descriptions_come_in_the_order_of_the_classes(tmp_path: Path) -> None:
    found = read_descriptions(written(tmp_path, *reversed(ROWS)), NAMES)
    assert found == ("companies and markets", "games and teams", "wars and governments")


ONE_EACH = "one row for each class: the class as its label, and its description as the text"


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (ROWS[:2], f"no description of World; expected {ONE_EACH}"),
        ((*ROWS, "Art,pictures"), "descriptions of unknown classes: Art; expected one of Business, Sports, World"),
        ((*ROWS, ROWS[0] + " again"), f"more than one description for Business; expected {ONE_EACH}"),
        (
            (*ROWS[:2], "World,Games  and Teams"),
            "two classes have the same description; expected a different description for each class; "
            "received Sports and World: games and teams",
        ),
    ],
)
def test_what_does_not_describe_the_classes_is_refused(rows: tuple[str, ...], problem: str, tmp_path: Path) -> None:
    file = written(tmp_path, *rows)
    with pytest.raises(DataError) as caught:
        read_descriptions(file, NAMES)
    assert str(caught.value) == f"{file}: {problem}"


def test_case_and_spaces_make_no_difference() -> None:
    assert same_descriptions(["A b", "c", "a  B"]) == (0, 2)
    assert same_descriptions(["a", "b"]) is None


def test_names_describe_where_they_are_words() -> None:
    assert names_as_descriptions(("real_estate", "Sci/Tech")) == ("real estate", "Sci/Tech")
    assert names_as_descriptions(("0", "1")) == ()
    assert names_as_descriptions(("top-news", "top_news")) == ()


@pytest.mark.parametrize("first", [(), ("name,description",)], ids=["no header", "unknown names"])
def test_columns_that_cannot_be_told_apart_name_the_form(first: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("\n".join([*first, *ROWS]) + "\n", "utf-8")
    assert_form_is_named(file)


def test_another_encoding_names_the_form(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_bytes("label,text\nWorld,caf\u00e9\n".encode("cp1252"))
    assert_form_is_named(file)


def assert_form_is_named(file: Path) -> None:
    with pytest.raises(DataError, match=r", and begin it with a row that names the columns: label,text$") as caught:
        read_descriptions(file, NAMES)
    assert "--" not in str(caught.value)
