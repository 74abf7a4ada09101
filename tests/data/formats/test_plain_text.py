"""Text files without columns: plain lines, fastText, TREC; and texts with their labels in a second file."""

from __future__ import annotations

from pathlib import Path

import pytest

from pennyweight.data.file_options import FileOptions
from pennyweight.data.input_spec import InputSpec
from pennyweight.data.row_blocks import read_in_blocks
from pennyweight.data.sources import read

NAMES = ("f.txt", "f.text", "f.label", "f.data", "f", "train.ft.txt")


def as_format(name: str) -> FileOptions:
    return FileOptions(format=name)


@pytest.mark.parametrize("name", NAMES)
def test_fasttext_is_told_by_its_lines(file, name: str) -> None:
    table = read(file(name, "__label__World Two met, again.\n\n__label__Sci/Tech A probe\tlanded.\n"))
    assert (table.texts, table.labels) == (["Two met, again.", "A probe\tlanded."], ["World", "Sci/Tech"])
    assert (table.lines, table.named) == ([1, 3], False)


def test_fasttext_with_several_labels_is_multi_label(file) -> None:
    table = read(file("f.txt", "__label__a __label__b One text.\n__label__b Another.\n"))
    assert (table.texts, table.labels, table.multi) == (["One text.", "Another."], [("a", "b"), ("b",)], True)


def test_a_fasttext_line_without_a_label(file, refusal) -> None:
    path = file("f.txt", "__label__a One.\n__label__b Two.\nno label\n")
    assert refusal(read, path) == (
        "TMP/f.txt:3: the label in column label is empty; received 1 of 3 rows without a label; "
        "fill it in or remove the row"
    )
    assert read(path, labelled=False).texts == ["One.", "Two.", "no label"]


@pytest.mark.parametrize("name", NAMES)
def test_trec_is_told_by_its_lines(file, name: str) -> None:
    path = file(name, "DESC:manner How did it end ?\nSCI/TECH:cremat What films: which ?\n")
    table = read(path)
    assert table.texts == ["How did it end ?", "What films: which ?"]
    assert table.labels == ["DESC:manner", "SCI/TECH:cremat"]
    assert read(path, InputSpec(label_column="coarse")).labels == ["DESC", "SCI/TECH"]


def test_a_label_up_to_the_first_blank_where_that_is_said(file, refusal) -> None:
    path = file("f.txt", "pos It was good\nneg It was bad\n")
    assert read(path, labelled=False).texts == ["pos It was good", "neg It was bad"]
    table = read(path, options=as_format("trec"))
    assert (table.texts, table.labels) == (["It was good", "It was bad"], ["pos", "neg"])
    assert refusal(read, file("g.txt", "pos good\nneg\n"), options=as_format("trec")) == (
        "TMP/g.txt:2: the line has a label but no text; expected LABEL:sub text; received neg"
    )


def test_plain_lines_keep_their_blanks(file) -> None:
    path = file("f.txt", "one\n\n three, and\r\n")
    table = read(path, labelled=False)
    assert (table.texts, table.lines) == (["one", "", " three, and"], [1, 2, 3])
    assert list(read_in_blocks(path).each_text()) == table.texts


def test_plain_lines_have_no_labels(file, refusal) -> None:
    assert refusal(read, file("f.txt", "one\ntwo\n")) == (
        "TMP/f.txt: the file has texts but no labels; expected a label for each text; received 2 texts; give a file "
        "with one label per line after a comma (texts.txt,labels.txt), or name a format that has labels: --format "
        "fasttext, trec, csv or tsv"
    )


def test_an_empty_file(file, refusal) -> None:
    for name in ("f.txt", "f"):
        assert refusal(read, file(name, "")) == f"TMP/{name}: the file is empty; expected one text per line"


def test_a_table_in_a_text_file(file) -> None:
    assert read(file("f.txt", 'text,label\n"A goal, late",x\n')).texts == ["A goal, late"]
    assert read(file("f.txt", "".join(f"x\tA goal by number {n}\n" for n in range(4)))).texts[3] == "A goal by number 3"
    assert read(file("f.data", "label;text\nx;a goal\ny;a bank\n")).labels == ["x", "y"]
    assert read(file("f.data", '{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n')).labels == ["x", "y"]


def test_lines_that_may_be_either_are_not_guessed(file, refusal) -> None:
    path = file("f.txt", "pos,It was good\nneg,It was bad\npos,I liked it\nneg,It was long\n")
    assert refusal(read, path) == (
        "TMP/f.txt: the lines may be a table or plain text; "
        "received pos,It was good; choose with --format csv or --format txt"
    )
    assert read(path, labelled=False, options=as_format("txt")).texts[0] == "pos,It was good"


def test_prose_with_brackets_and_commas_is_prose(file) -> None:
    for lines in (
        ["[sic] he said, and left", "{so} it goes"],
        ["Oh, well", "Ah, no"],
        ["ORC armies march, and win", "x"],
        ["PK is short", "for something"],
    ):
        assert read(file("f.txt", "\n".join(lines)), labelled=False).texts == lines


@pytest.fixture
def two(file) -> tuple[Path, Path]:
    return file("texts.txt", "one, two\n\nthree\n\n"), file("labels.txt", "a\nb\na\n")


def test_texts_and_labels_in_two_files(two: tuple[Path, Path]) -> None:
    for source in (f"{two[0]},{two[1]}", f"{two[0]}, {two[1]}"):
        table = read(source)
        assert (table.texts, table.labels, table.lines) == (["one, two", "", "three"], ["a", "b", "a"], [1, 2, 3])
        assert table.source == str(two[0])
        assert list(read_in_blocks(source).each_text()) == table.texts


def test_two_files_that_do_not_fit(two: tuple[Path, Path], file, refusal) -> None:
    source = f"{two[0]},{two[1]}"
    two[1].write_text("a\nb\n")
    assert refusal(read, source) == (
        "TMP/labels.txt: the files differ in length; expected a label for each of the 3 lines of TMP/texts.txt; "
        "received 2 labels"
    )
    two[1].write_text("a\n\nb\n")
    assert refusal(read, source) == "TMP/labels.txt:2: the line has no label"
    assert refusal(read, f"{two[0]},{two[0].parent / 'lables.txt'}") == (
        "TMP/lables.txt: no such file; did you mean TMP/labels.txt or TMP/texts.txt?"
    )


def test_a_comma_in_a_name_is_a_comma(file) -> None:
    assert len(read(file("a,b.csv", "text,label\na,x\nb,y\n"))) == 2
