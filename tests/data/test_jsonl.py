import json

import pytest

from pennyweight.data import jsonl
from pennyweight.data.jsonl import columns_of, read_json, stream_records

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
        "TMP/f.json row 2: the array holds something else than objects; "
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
