import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from pennyweight.data.input_spec import InputSpec
from pennyweight.data.sources import read, stream

CSV = "text,label\na,x\nb,y\n"
JSONL = '{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n'
FORMS = {
    "f.csv": CSV,
    "f.CSV": CSV,
    "f.tsv": CSV.replace(",", "\t"),
    "f.jsonl": JSONL,
    "f.ndjson": JSONL,
    "f.json": "[" + JSONL.strip().replace("\n", ",") + "]",
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("zipped", [False, True])
def test_every_form_gzipped_or_not(file, name: str, zipped: bool) -> None:
    content = FORMS[name].encode()
    table = read(file(f"{name}.gz" if zipped else name, gzip.compress(content) if zipped else content))
    assert (table.texts, table.labels) == (["a", "b"], ["x", "y"])


def test_a_name_with_dots(file) -> None:
    assert len(read(file("news.2024.v1.csv", CSV))) == 2


def test_no_such_file(file, tmp_path: Path, refusal) -> None:
    file("train.csv", CSV)
    assert refusal(read, tmp_path / "trian.csv") == "TMP/trian.csv: no such file; did you mean TMP/train.csv?"
    assert refusal(read, tmp_path / "absent.jsonl") == "TMP/absent.jsonl: no such file"
    assert (
        refusal(read, tmp_path / "no" / "f.csv")
        == "TMP/no/f.csv: no such file; the folder TMP/no does not exist either"
    )


@pytest.mark.parametrize("name", ["data/train.csv", "data/train.csv.gz", "one", "a/b/c", "a/b c", "x" * 5000])
def test_what_does_not_look_like_a_hub_name_is_not_looked_for_there(monkeypatch, refusal, name: str) -> None:
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("asked the hub"))
    assert "no such file" in refusal(read, name)


def test_a_form_that_cannot_be_told(file, refusal) -> None:
    assert refusal(read, file("notes.docx", "hello")) == (
        "TMP/notes.docx: cannot detect the file's format from its name (notes.docx) or its content; expected "
        "CSV, TSV, JSON, JSON lines, Parquet, Arrow, .xlsx, fastText, TREC or plain lines, or one of these compressed "
        "(.gz, .bz2, .xz, .zip); name it with --format (predict: --input-format), or rename the file"
    )


def test_an_overlong_text_in_a_file(file, refusal) -> None:
    for name, content in {
        "f.csv": f"text,label\na,x\n{'b' * 10_000_000},y\n",
        "f.jsonl": json.dumps({"text": "a"}) + "\n\n" + json.dumps({"text": "b" * 10_000_000}),
    }.items():
        message = refusal(read, file(name, content), labelled=False)
        assert message.startswith(f"TMP/{name}:3: one text has 10,000,000 characters; expected at most 1,000,000; ")


def test_null_and_nan_in_jsonl_name_the_line(file, refusal) -> None:
    for value in ("null", "NaN"):
        path = file("f.jsonl", f'{{"text": "a", "label": 1}}\n\n{{"text": {value}, "label": 0}}\n')
        assert refusal(read, path).startswith("TMP/f.jsonl:3: the text is missing (null or NaN)")
        assert read(path, allow_null=True).texts == ["a", ""]


def test_a_terminal_cannot_be_driven_from_a_column_name(file, refusal) -> None:
    message = refusal(read, file("f.csv", "\x1b]0;owned\x07,b\nx,y\n"))
    assert "\x1b" not in message
    assert "\\x1b]0;owned\\x07" in message


def texts(*lines: str, **options: Any) -> list[str]:
    return [text for _, _, text in stream(lines, **options)]


def test_a_stream_of_objects_keeps_their_fields() -> None:
    assert list(stream(['{"id": 4, "text": "a"}', '{"id": 5, "text": null}'])) == [
        ({"id": 4, "text": "a"}, ("text",), "a"),
        ({"id": 5, "text": None}, ("text",), ""),
    ]


def test_a_stream_of_plain_texts() -> None:
    assert texts("one\n", "\n", "three") == ["one", "", "three"]


def test_a_stream_joins_columns() -> None:
    assert texts('{"title": "a", "description": "b"}', '{"title": "c", "description": ""}') == ["a b", "c"]
    assert texts('{"x": "a", "y": "b"}', input_spec=InputSpec(("y", "x"), separator="-")) == ["b-a"]


def test_a_stream_says_where_it_fails(refusal) -> None:
    assert refusal(texts, '{"text": "a"}', '{"text": 5}') == (
        "standard input:2: the text is not a string; expected a string; received 5"
    )
    assert refusal(texts, '{"a": 1}').startswith(
        "standard input:1: cannot tell which column is the text; received columns a;"
    )
    assert refusal(texts, "b" * 1_000_001, source="pipe").startswith("pipe:1: one text has 1,000,001 characters")
    assert refusal(texts, '{"text": "\\ud800"}').startswith(
        "standard input:1: the text contains half of a surrogate pair"
    )
