"""How files are written: delimiters, quotes, escapes, told by what the files hold."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from pennyweight.data.file_options import FileOptions
from pennyweight.data.formats.delimited import read_delimited

LIMIT = 1 << 30
QUOTES = 'put fields with quotes in quotes and write each inner quote twice, as in "a ""b"" c"'

File = Callable[[str, "str | bytes"], Path]
Refusal = Callable[..., str]


def rows(path: Path, header: bool | None = None) -> list[tuple[str, ...]]:
    columns = read_delimited(path, LIMIT, FileOptions(header=header), tabs=".tsv" in path.name)
    return [tuple(columns.values), *zip(*columns.values.values(), strict=True)]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["d.csv", "d.tsv"])
def test_the_delimiter_is_told_by_content(file: File, mark: str, name: str) -> None:
    path = file(name, f'text{mark}label\nI came; I saw, I won{mark}x\n"a{mark}b"{mark}y\n'.replace("; I saw,", ""))
    assert rows(path) == [("text", "label"), ("I came I won", "x"), (f"a{mark}b", "y")]


def test_a_comma_in_a_header_with_semicolons(file: File) -> None:
    assert rows(file("d.csv", "text, original;label\nI came, I saw, I won;x\nso;y\n")) == [
        ("text, original", "label"), ("I came, I saw, I won", "x"), ("so", "y"),
    ]  # fmt: skip


def test_excels_line_about_the_delimiter(file: File) -> None:
    path = file("d.csv", b"\xef\xbb\xbfsep=^\r\ntext^label\r\na, b; c^x\r\n")
    assert rows(path) == [("text", "label"), ("a, b; c", "x")]
    assert read_delimited(path, LIMIT).lines == [3]


def test_two_delimiters_that_both_fit(file: File, refusal: Refusal) -> None:
    assert refusal(read_delimited, file("d.csv", "one;red,blue\nthree;green,grey\n"), LIMIT) == (
        "TMP/d.csv: the delimiter is ambiguous: each row has the same number of fields with either; "
        "received comma and semicolon; put fields that contain a delimiter in double quotes, "
        "or add a first line such as sep=;"
    )
    assert len(rows(file("d.csv", "text,id\n" + "one;red,5\n" * 3))) == 4  # names tell


def test_a_tsv_file_without_tabs_is_one_column_though_each_line_has_a_comma(file: File) -> None:
    texts = ["Rates fell to a record low, the bank said today.", "The coach was calm at last, the team was not so."]
    assert rows(file("d.tsv", "\n".join(texts) + "\n")) == [("column 1",), *((text,) for text in texts)]


def test_sentences_with_commas_are_not_split(file: File, refusal: Refusal) -> None:
    texts = "Rates fell to a record low, the bank said today.\nThe coach was calm at last, the team was not so.\n"
    assert refusal(read_delimited, file("d.csv", texts), LIMIT) == (
        "TMP/d.csv: a comma occurs in every row but may be part of the text, and the first row has no column names; "
        "expected a header, or texts in double quotes; if each line is one text, name the file .txt"
    )


def test_a_column_of_texts_with_commas(file: File, refusal: Refusal) -> None:
    path = file("d.csv", 'text\nfirst, second\nthird\n"one, two, three"\na, b, c\n')
    assert rows(path) == [("text",), ("first, second",), ("third",), ("one, two, three",), ("a, b, c",)]
    # Two fields in each row: the header lacks a name.
    assert refusal(read_delimited, file("d.csv", "text\na,1\nb,2\nc,3\n"), LIMIT) == (
        "TMP/d.csv:2: the row is ragged; expected 1 fields (text); received 2; put fields with the delimiter or a "
        "line break in double quotes; if each line is one text, name the file .txt"
    )


def test_single_quotes_around_every_text(file: File) -> None:
    path = file("d.csv", "World;'It''s war; and more'\nSports;'A draw; at last'\nWorld;'Talks; no end'\n")
    assert rows(path, header=False) == [
        ("column 1", "column 2"),
        ("World", "It's war; and more"),
        ("Sports", "A draw; at last"),
        ("World", "Talks; no end"),
    ]
    # Texts that begin with an apostrophe, or are quotations, keep it.
    kept = "text,label\n'We won',x\n'No' he said,y\n'They' lost,z\n"
    assert rows(file("e.csv", kept))[1:] == [("'We won'", "x"), ("'No' he said", "y"), ("'They' lost", "z")]


def test_backslashes_before_quotes_and_delimiters(file: File, refusal: Refusal) -> None:
    path = file("d.csv", 'text,label\n"he said \\"no\\", twice",x\nso\\, so,y\n')
    assert rows(path) == [("text", "label"), ('he said "no", twice', "x"), ("so, so", "y")]
    # Another backslash says that they are letters.
    assert refusal(read_delimited, file("d.csv", 'text,label\n"a \\"b\\" c",x\nC:\\new,y\n'), LIMIT).startswith(
        "TMP/d.csv:2: a quote inside a quoted field is not doubled"
    )
    assert rows(file("d.csv", "text,label\nC:\\new,y\n"))[1] == ("C:\\new", "y")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_escaped_line_breaks_in_a_single_column(file: File, refusal: Refusal, end: str) -> None:
    content = io.StringIO()
    writer = csv.writer(content, quoting=csv.QUOTE_NONE, escapechar="\\", lineterminator=end)
    writer.writerows([["text"], ["one line"], ["two\nlines"], ["the last"]])
    for name in ("d.csv", "d.tsv"):
        assert refusal(read_delimited, file(name, content.getvalue()), LIMIT, tabs=name == "d.tsv").startswith(
            f"TMP/{name}:3: the line ends with a backslash: does the text continue on the next line?; expected "
        )
    for harmless in ("text\nC:\\dir\nends so\\\nb\n", 'text\n"two\\\nlines"\nb\n', "text\na\nb\\"):
        assert read_delimited(file("d.csv", harmless), LIMIT).values["text"][-1].startswith("b")


def test_a_stray_quote_in_a_tsv_file_swallows_no_rows(file: File) -> None:
    path = file("d.tsv", 'text\tlabel\n"Great match\tSports\nA calm day\tWorld\nthe striker left"\tSports\nrates\tx\n')
    columns = read_delimited(path, LIMIT, tabs=True)
    assert columns.values["text"] == ['"Great match', "A calm day", 'the striker left"', "rates"]
    assert columns.notes == ("quotes are read as ordinary characters: as quotes they would join lines 2 to 4",)


def test_quotes_in_a_tsv_file_that_a_program_wrote(file: File) -> None:
    everywhere = '"text"\t"label"\n"a\tb\nc"\t"x"\n"d"\t"y"\n'
    assert rows(file("d.tsv", everywhere)) == [("text", "label"), ("a\tb\nc", "x"), ("d", "y")]
    doubled = 'text\tlabel\n"he said ""no"""\tx\nso\ty\n'
    assert rows(file("d.tsv", doubled))[1] == ('he said "no"', "x")
    needed = 'text\tlabel\n"two\nlines"\tx\nso\ty\n'
    assert rows(file("d.tsv", needed))[1] == ("two\nlines", "x")
    # One title in quotes among others without them is a title in quotes.
    title = 'text\tlabel\n"Up"\tx\nHeat\ty\n'
    assert rows(file("d.tsv", title))[1] == ('"Up"', "x")


def test_a_single_column_of_a_tsv_file_whose_quotes_join_lines(file: File, refusal: Refusal) -> None:
    assert refusal(
        read_delimited, file("d.tsv", 'text\n"Great match\nA calm day\nhe left"\nrates\n'), LIMIT, tabs=True
    ) == (
        "TMP/d.tsv:2: a quote opened on this line is closed on line 4: is this one text, or several?; "
        "if it is one, put every text in double quotes; otherwise remove the quote"
    )
    assert rows(file("d.tsv", '"text"\n"two\nlines"\n"one"\n')) == [("text",), ("two\nlines",), ("one",)]
    assert rows(file("d.tsv", 'text\n"Great" match\n"so\n')) == [("text",), ('"Great" match',), ('"so',)]


def test_a_stray_quote_in_a_csv_file_is_refused(file: File, refusal: Refusal) -> None:
    stray = 'text,label\n"Great match,Sports\nA calm day,World\nthe striker left",Sports\nrates held,World\n'
    assert refusal(read_delimited, file("d.csv", stray), LIMIT) == (
        "TMP/d.csv:2: a quote opened in this row is closed on line 4, "
        f"but the lines between look like separate rows; {QUOTES}"
    )
    first = 'label,text\nSports,"Great match\nWorld,A calm day\nSports,he left"\nWorld,rates held\n'
    assert refusal(read_delimited, file("d.csv", first), LIMIT).startswith("TMP/d.csv:2: a quote opened in this row is")


def test_texts_of_several_lines_in_a_csv_file_are_told(file: File) -> None:
    columns = read_delimited(file("d.csv", 'text,label\n"First, then\nso",x\nrest,y\n'), LIMIT)
    assert columns.values["text"] == ["First, then\nso", "rest"]
    assert columns.notes == ("lines that quotes join were read as one row: 2-3",)
    assert read_delimited(file("d.csv", 'text,label\n"First\nso",x\nrest,y\n'), LIMIT).notes == ()


def test_two_kinds_of_line_ends(file: File, refusal: Refusal) -> None:
    assert rows(file("d.csv", "text,label\ra,x\rb,y\r")) == [("text", "label"), ("a", "x"), ("b", "y")]
    assert rows(file("d.csv", "text,label\r\na,x\nb,y\r\n")) == [("text", "label"), ("a", "x"), ("b", "y")]
    assert refusal(read_delimited, file("d.csv", "text\nfirst\rsecond\nthird\n"), LIMIT) == (
        "TMP/d.csv:2: the line ends differently from the first: one of the two ends with a single carriage return; "
        "expected one kind of line break; put fields with line breaks in double quotes"
    )
