"""JSON documents of every shape that people have, and the lines that refuse the others."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

from pennyweight.data.row_blocks import read_in_blocks
from pennyweight.data.sources import read

TEXTS = ["The striker scored twice.", "Shares fell again.", "A late goal won it.", "The bank warned."]
LABELS = ["Sports", "Business", "Sports", "Business"]
ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]
PAIRS = [[text, label] for text, label in zip(TEXTS, LABELS, strict=True)]
COLUMNS = {"text": TEXTS, "label": LABELS}
FRAME = pd.DataFrame(ROWS)
OTHER = [{"text": "unlike", "label": "Other"}]

SHAPES: dict[str, Any] = {
    "rows": ROWS,
    "pairs": PAIRS,
    "pairs, label first": [pair[::-1] for pair in PAIRS],
    "columns": COLUMNS,
    "index of rows": dict(enumerate(ROWS)),
    "rows under data": {"data": ROWS},
    "rows under any one key": {"news": ROWS},
    "rows beside other things": {"version": "1.0", "meta": {"by": "us"}, "title": "News", "data": ROWS, "tags": ["a"]},
    "columns under a key": {"data": COLUMNS},
    "pairs under a key": {"train": PAIRS},
    "splits of rows": {"train": ROWS, "validation": OTHER, "test": OTHER},
    "splits of pairs": {"oos_train": [["unlike", "oos"]], "train": PAIRS, "val": [["unlike", "Other"]]},
    "splits of columns": {"train": COLUMNS, "test": {"text": ["unlike"], "label": ["Other"]}},
    "a level down": [{"data": {"text": text}, "label": label} for text, label in PAIRS],
    "the hub's rows": {"features": [{"name": "text"}], "rows": [{"row_idx": n, "row": r} for n, r in enumerate(ROWS)]},
    "rasa": {"rasa_nlu_data": {"common_examples": [{"text": t, "intent": i} for t, i in PAIRS], "lookup_tables": []}},
    "doccano": [{"id": n, "data": text, "label": label} for n, (text, label) in enumerate(PAIRS)],
    **{
        f"pandas {orient}": json.loads(FRAME.to_json(orient=orient))
        for orient in ("records", "columns", "index", "split", "table", "values")
    },
}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_read(file, shape: str, indent: int | None) -> None:
    path = file("f.json", json.dumps(SHAPES[shape], indent=indent))
    table = read(path)
    assert (table.texts, table.labels) == (TEXTS, LABELS)
    assert table.named == (shape not in ("pairs", "pairs, label first", "pandas values", "pairs under a key",
                                         "splits of pairs"))  # fmt: skip
    assert list(read_in_blocks(path).each_text()) == TEXTS


def test_lists_of_texts_by_label(file) -> None:
    by_label = {"Sports": [TEXTS[0], TEXTS[2]], "Business": [TEXTS[1], TEXTS[3]]}
    for shape in (by_label, {"data": by_label}, {"question": ["Is it?"], "news": ["It is.", "So it was."]}):
        table = read(file("f.json", json.dumps(shape)))
        found = {label: [t for t, own in zip(table.texts, table.labels or [], strict=True) if own == label]
                 for label in dict.fromkeys(table.labels or [])}  # fmt: skip
        assert found == shape.get("data", shape)
        assert not table.named


def test_a_label_called_as_a_split_is(file) -> None:
    table = read(file("f.json", json.dumps({"train": ["It left at six."], "bus": ["It broke down.", "It was late."]})))
    assert table.labels == ["train", "bus", "bus"]


@pytest.mark.parametrize(
    ("split", "text"),
    [("train", "a"), ("validation", "b"), ("dev", "b"), ("test", "c"), ("extra", "d")],
)
def test_the_split_that_is_asked_for(file, split: str, text: str) -> None:
    shape = {"train": [["a", "x"]], "val": [["b", "x"]], "TEST": [["c", "x"]], "extra": [["d", "x"]]}
    path = file("f.json", json.dumps(shape))
    assert read(path, split=split).texts == [text]
    assert list(read_in_blocks(path, split=split).each_text()) == [text]


def test_intents_with_their_patterns(file) -> None:
    intents = [{"tag": "hello", "patterns": ["Hi", "Good day"], "responses": ["Hello!"]},
               {"tag": "bye", "patterns": ["See you"], "responses": []}]  # fmt: skip
    table = read(file("f.json", json.dumps({"intents": intents})))
    assert (table.texts, table.labels) == (["Hi", "Good day", "See you"], ["hello", "hello", "bye"])


def test_texts_alone(file, refusal) -> None:
    for shape in (TEXTS, {"texts": TEXTS}, {"train": TEXTS, "test": ["unlike"]}):
        assert read(file("f.json", json.dumps(shape)), labelled=False, split="train").texts == TEXTS
    assert refusal(read, file("f.json", json.dumps(TEXTS))) == (
        "TMP/f.json: the file has texts but no labels; expected a label for each text; received 4 texts; give a file "
        "with one label per line after a comma (texts.txt,labels.txt), or name a format that has labels: --format "
        "fasttext, trec, csv or tsv"
    )


def test_an_index_keeps_what_names_its_rows(file) -> None:
    table = read(file("f.json", json.dumps({"doc-7": ROWS[0], "doc-9": ROWS[1]})))
    assert table.extras["id"] == ["doc-7", "doc-9"]


def test_one_row(file) -> None:
    for name, row in (("f.json", ROWS[0]), ("g.jsonl", {"text": "a", "labels": ["x", "y"]})):
        assert read(file(name, json.dumps(row))).texts == [row["text"]]


EXPECTED = 'expected rows ({"text": ..., "label": ...}), pairs (["text", "label"]), columns, or lists of texts by label'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", f"TMP/f.json: the JSON contains no rows; {EXPECTED}; received an empty object"),
        ("7", f"TMP/f.json: the JSON contains no rows; {EXPECTED}; received number (7)"),
        ('"news"', f"TMP/f.json: the JSON contains no rows; {EXPECTED}; received string (news)"),
        ("null", f"TMP/f.json: the JSON contains no rows; {EXPECTED}; received null (None)"),
        ("[1, 2]", f"TMP/f.json: the JSON contains no rows; {EXPECTED}; received an array of 2 (number)"),
        ("[]", "TMP/f.json: the array is empty; expected an array of objects"),
        ('{"data": []}', f"TMP/f.json: the JSON contains no rows; {EXPECTED}; received an object with keys data"),
        (
            '[["a", "x"], ["b"]]',
            "TMP/f.json row 2: the rows differ in length; expected 2 values, as in the first row; received 1: ['b']",
        ),
        (
            '{"data": [["a", "x"], "b"]}',
            "TMP/f.json -> data, row 2: the array contains values of several kinds; expected one kind, as in its first "
            "value (array); received string (b)",
        ),
        (
            '{"Sports": [{"text": "a"}], "World": [{"text": "b"}]}',
            f"TMP/f.json: the JSON contains rows under several keys; {EXPECTED}; received an object with keys Sports, "
            "World; keep one of them",
        ),
        ('{"text": ["a", "b"], "label": ["x"]}', "TMP/f.json: the columns differ in length; received text 2, label 1"),
        (
            '[{"id": 1, "data": {"text": "a"}, "annotations": [{"result": []}]}]',
            "TMP/f.json row 1: the rows are Label Studio's full export; "
            'expected {"text": ..., "label": ...}; export the project as JSON-MIN or CSV',
        ),
        (
            '{"val": [["a", "x"]], "test": [["b", "x"]]}',
            "TMP/f.json: no split named train; expected one of val, test; name the split",
        ),
        (
            '{"columns": ["text", "label"], "data": [["a", "x"], ["b"]]}',
            "TMP/f.json -> data, row 2: the row does not fit the columns; expected 2 values (text, label); "
            "received 1: ['b']",
        ),
    ],
)
def test_what_is_refused(file, refusal, content: str, message: str) -> None:
    path = file("f.json", content)
    assert refusal(read, path) == message
    assert refusal(read_in_blocks, path, split="train") == message


def test_nesting_that_leads_nowhere(file, refusal) -> None:
    path = file("f.json", '{"data": ' * 20 + '[["a", "x"]]' + "}" * 20)
    assert "the JSON is nested too deeply" in refusal(read, path)
