import contextlib
import csv
import io
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pennyweight.data.file_options import FileOptions
from pennyweight.data.formats.delimited import read_delimited
from pennyweight.data.input_spec import InputSpec
from pennyweight.data.label_format import LabelFormat
from pennyweight.data.sources import read
from pennyweight.errors import DataError

LIMIT = 1 << 30

OFFICIAL = (
    '"3","Wall St. Bears Claw Back (Reuters)","Reuters - Short-sellers, Wall Street\'s \\band of ""ultra-cynics"""\n'
    '"1","Ministers meet","Talks, at last"\n'
    '"4","A chip","Half the power"\n'
)


def test_a_header_names_the_columns_and_lines_count_from_one(file) -> None:
    columns = read_delimited(file("f.csv", 'text,label\n"a, b",x\n\n"two\nlines",y\nlast,z'), LIMIT)
    assert columns.values == {"text": ["a, b", "two\nlines", "last"], "label": ["x", "y", "z"]}
    assert columns.lines == [2, 4, 6]
    assert not columns.headerless


def test_windows_line_ends_and_a_byte_order_mark(file) -> None:
    columns = read_delimited(file("f.csv", b"\xef\xbb\xbftext,label\r\na,x\r\nb,y\r\n"), LIMIT)
    assert columns.values == {"text": ["a", "b"], "label": ["x", "y"]}
    assert columns.lines == [2, 3]


def test_no_magic_words(file) -> None:
    columns = read_delimited(file("f.csv", "text,label\nNA,null\nnan,NaN\n,None\n"), LIMIT)
    assert columns.values == {"text": ["NA", "nan", ""], "label": ["null", "NaN", "None"]}


def test_semicolons_where_the_header_has_no_comma(file) -> None:
    columns = read_delimited(file("f.csv", "text;label\n3,5 Prozent;x\n"), LIMIT)
    assert columns.values == {"text": ["3,5 Prozent"], "label": ["x"]}


def test_nameless_columns_get_a_name(file) -> None:
    columns = read_delimited(file("f.csv", ",text,label\n0,a,x\n"), LIMIT)
    assert list(columns.values) == ["column 1", "text", "label"]


def test_fields_longer_than_the_csv_modules_own_limit_and_that_limit_put_back(file) -> None:
    csv.field_size_limit(131_072)  # as Python sets it
    columns = read_delimited(file("f.csv", f"text,label\n{'a' * 200_000},x\n"), LIMIT)
    assert len(columns.values["text"][0]) == 200_000
    assert csv.field_size_limit() == 131_072


def test_an_empty_file(file, refusal) -> None:
    for content in ("", "\n\n"):
        assert refusal(read_delimited, file("f.csv", content), LIMIT) == (
            "TMP/f.csv: the file is empty; expected a header and rows"
        )


def test_a_header_and_nothing_else(file, refusal) -> None:
    assert refusal(read_delimited, file("f.csv", "text,label\n"), LIMIT) == (
        "TMP/f.csv: the file has a header but no rows; received columns text, label"
    )


@pytest.mark.parametrize(("row", "fields"), [("a, with a comma,x", 3), ("alone", 1)])
def test_a_ragged_row_names_its_physical_line(file, refusal, row: str, fields: int) -> None:
    path = file("f.csv", f'text,label\n"two\nlines",x\n\n{row}\nb,y\n')
    assert refusal(read_delimited, path, LIMIT) == (
        f"TMP/f.csv:5: the row is ragged; expected 2 fields (text, label); received {fields}; "
        "put fields with the delimiter or a line break in double quotes"
    )


REMEDY = 'put fields with quotes in quotes and write each inner quote twice, as in "a ""b"" c"'


def test_a_quote_that_is_not_doubled(file, refusal) -> None:
    path = file("f.csv", 'text,label\nok,x\n"he said "no" twice",y\n')
    assert refusal(read_delimited, path, LIMIT) == (
        f"TMP/f.csv:3: a quote inside a quoted field is not doubled; {REMEDY}"
    )
    path = file("f.csv", 'text,label\n"he said\n"no" twice",y\n')
    assert refusal(read_delimited, path, LIMIT) == (
        f"TMP/f.csv:2: a quote inside a quoted field is not doubled (found on line 3); {REMEDY}"
    )


def test_a_quote_never_closed(file, refusal) -> None:
    path = file("f.csv", 'text,label\nok,x\n"never closed,y\nb,z\n')
    assert refusal(read_delimited, path, LIMIT) == f"TMP/f.csv:3: a quote opened in this row is never closed; {REMEDY}"


def test_quotes_inside_unquoted_fields_are_letters(file) -> None:
    assert read_delimited(file("f.csv", 'text,label\nhe said "no",x\n'), LIMIT).values["text"] == ['he said "no"']


def test_a_column_named_twice(file, refusal) -> None:
    assert refusal(read_delimited, file("f.csv", "text,label, text\na,x,b\n"), LIMIT) == (
        "TMP/f.csv:1: the header names a column twice: text, columns 1 and 3, which differ on line 2; "
        "rename one of them"
    )


def test_tsv_with_quotes_and_without(file) -> None:
    quoted = read_delimited(file("q.tsv", 'text\tlabel\n"a\tb ""c"""\tx\n'), LIMIT, tabs=True)
    assert quoted.values["text"] == ['a\tb "c"']
    plain = read_delimited(file("p.tsv", 'text\tlabel\n"Great" film\tx\n6" screen\ty\n'), LIMIT, tabs=True)
    assert plain.values["text"] == ['"Great" film', '6" screen']


def test_a_ragged_tsv(file, refusal) -> None:
    message = refusal(read_delimited, file("f.tsv", "text\tlabel\na\tb\tc\n"), LIMIT, tabs=True)
    assert message.startswith("TMP/f.tsv:2: the row is ragged; expected 2 fields (text, label); received 3")


def test_the_official_form_has_no_header(file) -> None:
    table = read(file("train.csv", OFFICIAL))
    assert table.labels == [3, 1, 4]
    assert table.label_base == 1
    assert table.label_names is None
    assert table.text_columns == ("title", "description")
    assert table.label_column == "class index"
    assert table.texts[0] == (
        'Wall St. Bears Claw Back (Reuters) Reuters - Short-sellers, Wall Street\'s \\band of "ultra-cynics"'
    )
    assert table.lines == [1, 2, 3]


def test_names_of_the_classes_beside_the_official_form(file, refusal) -> None:
    file("classes.txt", "World\nSports\nBusiness\nSci/Tech\n")
    path = file("train.csv", OFFICIAL)
    assert read(path).label_names == ("World", "Sports", "Business", "Sci/Tech")
    file("classes.txt", "World\nSports\n")
    assert refusal(read, path) == ("TMP/classes.txt: train.csv has class number 4; expected at most 2, the names here")


def test_other_official_sets_have_one_text_or_three(file) -> None:
    assert read(file("yelp.csv", '"1","Bad food"\n"2","Good food"\n')).texts == ["Bad food", "Good food"]
    three = read(file("yahoo.csv", '"1","why","because","so"\n"2","how","","thus"\n'))
    assert three.texts == ["why because so", "how thus"]


def test_a_row_without_class_number_in_the_official_form(file, refusal) -> None:
    for bad, received in (('"World"', "World"), ('"0"', "0"), ('""', "an empty field")):
        path = file("train.csv", OFFICIAL + f'{bad},"t","d"\n')
        assert refusal(read, path) == (
            "TMP/train.csv:4: the file seems to have no header and this row does not start with a class number; "
            f"expected a number from 1; received {received}; add a header line such as: label,text"
        )


def test_the_real_official_file() -> None:
    path = Path(__file__).parents[4] / "shared" / "data" / "agnews" / "official-format.csv"
    if not path.is_file():
        pytest.skip("the official AG News excerpt is not on this machine (it may not be copied into the project)")
    table = read(path)
    assert len(table) == 200
    assert set(table.labels or ()) == {1, 2, 3, 4}
    assert table.label_base == 1


# Anything but NUL, which text files may not hold, and lone surrogates, which UTF-8 cannot write.
cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@example([("", "\\")], ("tsv", "\t"))
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=20), st.sampled_from([("csv", ","), ("tsv", "\t")]))
def test_what_the_csv_module_writes_is_read_as_it_was(tmp_path_factory, rows, form) -> None:
    suffix, delimiter = form
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerow(["body text", "other"])
    writer.writerows(rows)
    path = tmp_path_factory.getbasetemp() / f"round.{suffix}"
    path.write_bytes(buffer.getvalue().encode())
    columns = read_delimited(path, LIMIT, FileOptions(header=True), tabs=suffix == "tsv")
    assert list(zip(*columns.values.values(), strict=True)) == rows


@given(st.binary(max_size=200))
def test_any_bytes_give_a_table_or_one_line(tmp_path_factory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.csv"
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        table = read(path, labelled=None)
        assert len(table.texts) == len(table.lines) > 0


LONG = [f"A sentence that is long enough to be a text, number {number}." for number in range(12)]


def test_blank_lines_between_rows_are_skipped_and_told(file) -> None:
    columns = read_delimited(file("f.csv", "\ntext,label\na,x\n\n  \nb,y\n\n\n"), LIMIT)
    assert columns.values["text"] == ["a", "b"]
    assert columns.notes == ("3 blank lines were skipped: 1, 4, 5",)
    assert read_delimited(file("f.csv", "text,label\na,x\n\nb,y\n"), LIMIT).notes == ("1 blank line was skipped: 3",)


def test_blank_lines_of_a_single_column_are_empty_texts(file) -> None:
    columns = read_delimited(file("f.csv", '\ntext\na\n\nb\n""\n\n'), LIMIT)
    assert columns.values == {"text": ["a", "", "b", "", ""]}
    assert columns.lines == [3, 4, 5, 6, 7]
    assert columns.notes == ()
    plain = read_delimited(file("f.csv", "\na\n\nb\n"), LIMIT, FileOptions(header=False))
    assert plain.values == {"column 1": ["", "a", "", "b"]}


def test_a_file_without_a_header(file) -> None:
    path = file("f.csv", "".join(f'"{text}",{"xy"[number % 2]}\n' for number, text in enumerate(LONG)))
    columns = read_delimited(path, LIMIT)
    assert columns.values == {"column 1": LONG, "column 2": list("xy" * 6)}
    assert columns.lines == list(range(1, 13))
    assert columns.notes == ("read without a header: the first row looks like data",)
    assert not columns.named
    table = read(path)
    assert (table.text_columns, table.label_column, table.notes) == (("column 1",), "column 2", columns.notes)


def test_two_lines_are_two_texts(file) -> None:
    assert read(file("f.tsv", f"{LONG[0]}\n{LONG[1]}\n"), labelled=False).texts == LONG[:2]
    assert read(file("f.tsv", LONG[0]), labelled=False).texts == LONG[:1]


def test_ids_are_no_classes(file, refusal) -> None:
    rows = [f"{number}\t{text}\t{'xy'[number % 2]}" for number, text in enumerate(LONG, start=1)]
    table = read(file("f.tsv", "\n".join(rows)))
    assert (table.text_columns, table.label_column) == (("column 2",), "column 3")
    assert table.extras == {"column 1": [str(number) for number in range(1, 13)]}
    rows = [f"{row}\t{LONG[-place]}" for place, row in enumerate(rows)]
    assert refusal(read, file("f.tsv", "\n".join(rows))) == (
        "TMP/f.tsv: several columns could be the text: column 2, column 4; "
        "received columns column 1, column 2, column 3, column 4; name it by its position, such as --text-columns 2,3, "
        "or add --pair if each row is a pair of texts"
    )
    named = read(file("f.tsv", "\n".join(rows)), input_spec=InputSpec(("2", "4"), "3"))
    assert named.texts[1] == f"{LONG[1]} {LONG[11]}"
    assert named.labels == ["y", "x"] * 6


def test_a_first_row_that_may_be_either(file, refusal) -> None:
    path = file("f.csv", "good film\nbad film\n")
    assert refusal(read_delimited, path, LIMIT) == (
        "TMP/f.csv:1: the first row may be a header or data; received good film; choose with --header or --no-header"
    )
    assert read_delimited(path, LIMIT, FileOptions(header=True)).values == {"good film": ["bad film"]}
    assert read_delimited(path, LIMIT, FileOptions(header=False)).values == {"column 1": ["good film", "bad film"]}


def test_a_first_row_taken_for_names_for_want_of_a_better_sign_is_told(file) -> None:
    path = file("f.csv", "".join(f'"{text}"\n' for text in ["Komentar", *LONG]))
    columns = read_delimited(path, LIMIT)
    assert columns.values == {"Komentar": LONG}
    assert columns.notes == ("the first row is read as the columns' names: Komentar",)


def test_what_is_said_about_the_header_wins(file) -> None:
    official = file("f.csv", OFFICIAL)
    assert list(read_delimited(official, LIMIT, FileOptions(header=False)).values) == [
        "column 1",
        "column 2",
        "column 3",
    ]
    assert len(read_delimited(official, LIMIT, FileOptions(header=True)).lines) == 2
    named = file("f.csv", "text,label\na,x\n")
    assert read_delimited(named, LIMIT, FileOptions(header=False)).values["column 1"] == ["text", "a"]


def test_two_columns_of_one_name_that_hold_the_same_are_one(file) -> None:
    columns = read_delimited(file("f.csv", "text,label,label,id\na,x,x,1\nb,y,y,2\n"), LIMIT)
    assert columns.values == {"text": ["a", "b"], "label": ["x", "y"], "id": ["1", "2"]}


def test_a_header_of_very_many_columns(file) -> None:
    names = ["text", *(f"c{number}" for number in range(50_000))]
    path = file("f.csv", f"{','.join(names)}\n{','.join('1' * len(names))}\n")
    assert list(read_delimited(path, LIMIT).values) == names


def test_names_and_values_without_a_name_behind_them(file) -> None:
    rows = "".join(f'{"ab"[number % 2]},"{text}",,,\n' for number, text in enumerate(LONG))
    table = read(file("f.csv", f"v1,v2,,,\n{rows}"))
    assert (table.text_columns, table.label_column) == (("v2",), "v1")


def test_an_encoding_that_is_named(file) -> None:
    path = file("f.csv", "text,label\ncaf\u00e9,x\n".encode("cp1252"))
    assert read(path, options=FileOptions(encoding="cp1252")).texts == ["caf\u00e9"]
    path = file("f.csv", "text,label\ncaf\u00e9,x\n".encode("utf-16"))
    assert read(path, options=FileOptions(encoding="utf-16")).texts == ["caf\u00e9"]


def test_positions_count_label_columns_too(file) -> None:
    path = file("f.csv", "1,0,a calm day at sea\n0,1,rates fell again\n")
    form = LabelFormat("multi", columns=("1", "2"))
    table = read(path, InputSpec(("3",), form=form), options=FileOptions(header=False))
    assert table.texts == ["a calm day at sea", "rates fell again"]
    assert table.labels == [("column 1",), ("column 2",)]
