import json

import pytest

from pennyweight.data.formats import json_lines as jsonl
from pennyweight.data.formats.json_lines import columns_of, read_json, stream_records
from pennyweight.data.row_blocks import read_in_blocks
from pennyweight.data.sources import read

LIMIT = 1 << 30


def test_objects_become_columns_and_lines_are_physical(file) -> None:
    path = file("f.jsonl", '\ufeff{"text": "a", "label": 1}\n\n{"text": "b", "id": 7}\n')
    columns = read_json(path, LIMIT)
    assert columns.values == {"text": ["a", "b"], "label": [1, None], "id": [None, 7]}
    assert columns.lines == [1, 3]
    assert columns.unit == "line"


def test_bad_json_names_line_and_column(file, refusal) -> None:
    path = file("f.jsonl", '{"text": "a"}\n{"text": b}\n')
    assert refusal(read_json, path, LIMIT) == "TMP/f.jsonl:2: not valid JSON at column 10 (Expecting value)"


def test_a_line_that_is_no_object(file, refusal) -> None:
    assert refusal(read_json, file("f.jsonl", '{"text": "a"}\n["b"]\n'), LIMIT) == (
        'TMP/f.jsonl:2: the line is not a JSON object; expected {"text": ..., "label": ...}; received ["b"]'
    )


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_file(file, refusal, content: str) -> None:
    assert refusal(read_json, file("f.jsonl", content), LIMIT) == (
        "TMP/f.jsonl: the file is empty; expected one JSON object a line"
    )
    assert refusal(read_json, file("f.json", content), LIMIT) == (
        "TMP/f.json: the file is empty; expected one JSON object a line"
    )


def test_nesting_without_end(file, refusal) -> None:
    path = file("f.jsonl", '{"text": ' + "[" * 200_000)
    assert refusal(read_json, path, LIMIT).startswith("TMP/f.jsonl:1: JSON that cannot be read (")


def test_a_number_of_thousands_of_digits(file, refusal) -> None:
    path = file("f.jsonl", '{"text": "a", "label": ' + "9" * 10_000 + "}")
    assert refusal(read_json, path, LIMIT).startswith("TMP/f.jsonl:1: JSON that cannot be read (Exceeds the limit")


def test_fields_without_end(file, refusal) -> None:
    path = file("f.jsonl", "".join(json.dumps({f"k{i}": 1}) + "\n" for i in range(1001)))
    assert refusal(read_json, path, LIMIT) == (
        "TMP/f.jsonl: the objects have 1,001 different fields in 1,001 rows; "
        "expected at most 1,000 fields and 200,000,000 cells; received k0, k1, k2, k3 and 997 more; "
        "write one field for the text and one for the label"
    )


def test_cells_without_end(file, refusal, monkeypatch) -> None:
    monkeypatch.setattr(jsonl, "MAX_CELLS", 100)
    assert read_json(file("f.jsonl", '{"a": 1, "b": 2}\n' * 50), LIMIT).lines[-1] == 50
    for content in ('{"a": 1, "b": 2}\n' * 51, "{}\n" * 25 + '{"a": 1, "b": 2, "c": 3, "d": 4}\n'):
        assert "fields in" in refusal(read_json, file("f.jsonl", content), LIMIT)


def test_json_is_an_array_or_lines(file) -> None:
    rows = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
    array = read_json(file("a.json", "\ufeff" + json.dumps(rows, indent=2)), LIMIT)
    assert array.values == {"text": ["a", "b"], "label": ["x", "y"]}
    assert (array.lines, array.unit) == ([1, 2], "row")
    lines = read_json(file("l.json", "\n".join(map(json.dumps, rows))), LIMIT)
    assert lines.values == array.values
    assert (lines.lines, lines.unit) == ([1, 2], "line")


def test_a_bad_array(file, refusal) -> None:
    assert refusal(read_json, file("f.json", '[{"text": "a"},\n 7]'), LIMIT) == (
        "TMP/f.json row 2: the array contains something other than objects; "
        'expected {"text": ..., "label": ...}; received 7'
    )
    assert refusal(read_json, file("f.json", "[]"), LIMIT) == (
        "TMP/f.json: the array is empty; expected an array of objects"
    )
    message = refusal(read_json, file("f.json", '[{"text": "a"},\n {"text" "b"}]'), LIMIT)
    assert message == "TMP/f.json: not valid JSON at line 2, column 10 (Expecting ':' delimiter)"
    message = refusal(read_json, file("f.json", b'[{"text": "a"},\n {"text": "\xe9"}]'), LIMIT)
    assert message.startswith("TMP/f.json:2: byte 0xE9 at offset 27 is not UTF-8")


def test_columns_of_fills_gaps_with_none() -> None:
    assert columns_of([{"a": 1}, {"b": 2}], "s") == {"a": [1, None], "b": [None, 2]}
    assert columns_of([{}, {"a": 1}, {}], "s") == {"a": [None, 1, None]}


def test_a_stream_of_objects_passes_over_blank_lines() -> None:
    lines = ["\ufeff\n", ' {"text": "a"}\n', "\n", '{"q": 1}']
    assert list(stream_records(lines, "stdin")) == [(2, {"text": "a"}), (4, {"q": 1})]


def test_a_stream_of_texts_keeps_blank_lines() -> None:
    assert list(stream_records(["\n", "one\r\n", "\n", '{"no": "json"}'], "stdin")) == [
        (1, ""),
        (2, "one"),
        (3, ""),
        (4, '{"no": "json"}'),
    ]


def test_a_stream_answers_before_it_is_all_there() -> None:
    def endless():
        yield '{"text": "a"}\n'
        raise AssertionError("read ahead")

    assert next(stream_records(endless(), "stdin")) == (1, {"text": "a"})


def test_a_bad_line_in_a_stream(refusal) -> None:
    message = refusal(lambda: list(stream_records(['{"text": "a"}', "plain"], "stdin")))
    assert message == "stdin:2: not valid JSON at column 1 (Expecting value)"


def test_several_objects_over_several_lines(file) -> None:
    rows = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
    for content in ("\n".join(json.dumps(row, indent=2) for row in rows), "".join(map(json.dumps, rows))):
        for name in ("f.json", "f.jsonl"):
            assert read_json(file(name, content), LIMIT).values == {"text": ["a", "b"], "label": ["x", "y"]}


def test_lines_of_pairs_and_of_texts(file, refusal) -> None:
    pairs = read_json(file("f.jsonl", '["a", 1]\n\n["b", 0]\n'), LIMIT)
    assert (pairs.values, pairs.lines, pairs.named) == ({"text": ["a", "b"], "label": [1, 0]}, [1, 3], False)
    swapped = read_json(file("f.jsonl", '["x", "a text"]\n["x", "another"]\n'), LIMIT)
    assert swapped.values == {"label": ["x", "x"], "text": ["a text", "another"]}
    assert read_json(file("f.jsonl", '"a"\n"b"\n'), LIMIT).values == {"text": ["a", "b"]}
    assert refusal(read_json, file("f.jsonl", '["a", 1]\n{"text": "b"}\n'), LIMIT) == (
        "TMP/f.jsonl:2: the lines are of different kinds; expected an array, as in the first line; "
        'received {"text": "b"}'
    )


@pytest.mark.parametrize("line", ['["a text", "x"]', '["x", 1]', '["a text", ["x", "y"]]'])
def test_an_only_line_of_a_file_of_lines_is_a_row(file, line: str) -> None:
    text, label = json.loads(line)
    path = file("f.jsonl", line + "\n")
    assert read(path).texts == [text]
    assert [block.values for block in read_in_blocks(path).blocks()] == [{"text": [text], "label": [label]}]
    assert read(file("f.json", '["a text", "x"]'), labelled=False).texts == ["a text", "x"]
    assert read(file("g.jsonl", '[["a text", "x"], ["b text", "y"]]')).labels == ["x", "y"]


def test_an_array_in_a_file_of_lines(file) -> None:
    content = json.dumps([{"text": "a", "label": "x"}], indent=1)
    assert read_json(file("f.jsonl", content), LIMIT).values == {"text": ["a"], "label": ["x"]}


def test_a_document_on_one_line_may_be_long(file, monkeypatch) -> None:
    monkeypatch.setattr(jsonl, "MAX_LINE", 1000)
    rows = [{"text": f"text {number}", "label": "x"} for number in range(100)]
    assert len(read_json(file("f.json", json.dumps(rows)), LIMIT).lines) == 100


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('[{"text": "a",}]', "column 14 (a comma before the closing bracket); remove the comma"),
        ('[{"text": "a"},\n]', "column 15 (a comma before the closing bracket); remove the comma"),
        (
            '[{"text": "a"},\n {"te',
            "line 2, column 3 (Unterminated string starting at)",
        ),
        (
            '[{"text": "a"},\n {"text":',
            "line 2, column 10 (it ends in the middle of a value); the file was cut off: fetch or write it again",
        ),
        (
            "[{'text': 'a'}]",
            "column 3 (a single quote); JSON needs double quotes: write it with a JSON library, such as json.dumps",
        ),
        (
            '[{"text": None}]',
            "column 11 (a value of Python); JSON says null, true, false: write it with json.dumps",
        ),
    ],
)
def test_what_is_wrong_is_said_plainly(file, refusal, content: str, problem: str) -> None:
    message = refusal(read_json, file("f.json", content), LIMIT)
    assert message.removeprefix("TMP/f.json:1: ").removeprefix("TMP/f.json: ") == f"not valid JSON at {problem}"


def test_a_field_that_is_named_twice(file, refusal) -> None:
    for content, where in (('{"text": "a", "text": "b"}\n' * 2, ":1"), ('{"x": ["a"],\n "x": ["b"]}', "")):
        assert refusal(read_json, file("f.json", content), LIMIT) == (
            f"TMP/f.json{where}: an object names the field {'text' if where else 'x'} twice"
        )


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("id,text", "is the header of a table"), ('"text";"label"', "is the header of a table"),
        ("[", "begins a JSON array"), ('[{"text": "a"}, {"text": "b"}]', "begins a JSON array"),
        ('["a", "b"]', "begins a JSON array"),
    ],
)  # fmt: skip
def test_a_document_in_a_stream_of_lines_is_refused(refusal, line: str, what: str) -> None:
    assert refusal(lambda: list(stream_records([f"{line}\n", "more"], "stdin"))) == (
        f"stdin:1: the first line {what}; expected one text or JSON object per line; received {line}; "
        "write it to a file and name the file"
    )
    for text in ("A text, with a comma", "[sic] as it was said", "text"):
        assert list(stream_records([text], "stdin")) == [(1, text)]
