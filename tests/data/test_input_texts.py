"""One list of strings out of whatever Python callers hold texts in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict

from pennyweight.data.formats.python_objects import python_columns
from pennyweight.data.input_spec import InputSpec
from pennyweight.data.input_texts import is_single_text, to_texts
from pennyweight.data.sources import read_python
from pennyweight.data.table import PAIR, Table
from pennyweight.errors import InputError
from pennyweight.predict.explanation import explain

TEXTS = ["a", "", "c\u00e9"]
FRAME = pd.DataFrame({"id": [1, 2, 3], "text": TEXTS, "label": ["x", "y", "x"]})


def texts(data: Any, **fields: Any) -> list[str]:
    return to_texts(data, InputSpec(**fields, named_by_user=True))


def generated() -> Iterator[str]:
    yield from TEXTS


class Foreign:
    """A frame of another library that speaks Arrow's protocol, as polars' do."""

    columns = ("text", "n")

    def __arrow_c_stream__(self, schema: object = None) -> object:
        held = pa.table({"text": pa.array(TEXTS, pa.string_view()), "n": [1, 2, 3]})
        return held.__arrow_c_stream__(schema)


SHAPES: dict[str, Any] = {
    "list": TEXTS,
    "tuple": tuple(TEXTS),
    "strings of numpy": [np.str_(text) for text in TEXTS],
    "array": np.array(TEXTS),
    "array of objects": np.array(TEXTS, dtype=object),
    "column vector": np.array(TEXTS)[:, None],
    "column vector of objects": np.array(TEXTS, dtype=object)[:, None],
    "series": pd.Series(TEXTS, index=[7, 8, 9]),
    "series of strings": pd.Series(TEXTS, dtype="string"),
    "series of Arrow strings": pd.Series(TEXTS, dtype=pd.ArrowDtype(pa.string())),
    "categories": pd.Series(TEXTS, dtype="category"),
    "index": pd.Index(TEXTS),
    "arrow": pa.array(TEXTS),
    "chunked arrow": pa.chunked_array([TEXTS[:1], TEXTS[1:]]),
    "dict values": dict(enumerate(TEXTS)).values(),
    "frame": FRAME,
    "frame of strings": FRAME.astype({"text": "string"}),
    "frame of Arrow strings": FRAME.convert_dtypes(dtype_backend="pyarrow"),
    "frame of categories": FRAME.astype({"text": "category"}),
    "frame of one column": pd.DataFrame({0: TEXTS}),
    "dict of columns": {"text": TEXTS, "n": np.arange(3)},
    "dict of series": {"text": pd.Series(TEXTS), "n": [1, 2, 3]},
    "dicts": [{"text": text, "n": 1} for text in TEXTS],
    "dataset": Dataset.from_dict({"text": TEXTS, "n": [1, 2, 3]}),
    "column of a dataset": Dataset.from_dict({"text": TEXTS})["text"],
    "datasets": DatasetDict(test=Dataset.from_dict({"text": TEXTS})),
    "arrow table": pa.table({"text": TEXTS, "n": [1, 2, 3]}),
    "foreign frame": Foreign(),
    "table": Table(TEXTS, None, "data", [1, 2, 3]),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_the_same_texts(shape: str) -> None:
    found = texts(SHAPES[shape])
    assert found == TEXTS
    assert all(type(text) is str for text in found)
    assert not is_single_text(SHAPES[shape])


def test_a_generator_is_read_once() -> None:
    assert texts(generated()) == TEXTS


@pytest.mark.parametrize("text", ["one text", np.str_("one text"), np.array("one text")])
def test_one_string_is_one_text(text: Any) -> None:
    assert is_single_text(text)
    assert texts(text) == ["one text"]


@pytest.mark.parametrize(
    "empty", [[], (), {}, np.array([]), pd.Series([], dtype=str), pd.DataFrame({"text": []}), {"text": []}]
)
def test_nothing_is_nothing(empty: Any) -> None:
    assert texts(empty) == []


MISSING = "the text is missing (null or NaN); expected a string; remove the row or give it a text"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (["a", None], f"text 2: {MISSING}"),
        (["a", float("nan")], f"text 2: {MISSING}"),
        (["a", pd.NA], f"text 2: {MISSING}"),
        (pd.Series(["a", None], dtype="string"), f"text 2: {MISSING}"),
        (pd.Series(["a", None]), f"text 2: {MISSING}"),
        (pa.array(["a", None]), f"text 2: {MISSING}"),
        (pd.DataFrame({"text": ["a", pd.NA]}), f"data row 2: {MISSING}"),
        ({"text": ["a", None]}, f"data row 2: {MISSING}"),
        (Dataset.from_dict({"text": ["a", None]}), f"data row 2: {MISSING}"),
        (["a", 7], "text 2: the text is not a string; expected a string; received 7"),
        (["a", True], "text 2: the text is not a string; expected a string; received True"),
        (np.array([1.5, 2.0]), "text 1: the text is not a string; expected a string; received 1.5"),
        (["a", {"text": "b"}], "text 2: the text is not a string; expected a string; received {'text': 'b'}"),
        ({"text": ["a", 7]}, "data row 2: the text is not a string; expected a string; received 7"),
        (["a", b"b"], "text 2: the text is bytes; expected a string; received b'b'; decode it first"),
        (np.array([b"a"]), "text 1: the text is bytes; expected a string; received b'a'; decode it first"),
        (
            ["a", "\ud800"],
            "text 2: the text contains half of a surrogate pair (\\ud800) at character 0; export the data again "
            "as UTF-8",
        ),
        (
            [["a", "b"]],
            "text 1: this classifier reads single texts, not pairs; expected predict([\"...\", ...]); "
            "received ['a', 'b']",
        ),
        (
            np.array([["a", "b"]]),
            "text 1: this classifier reads single texts, not pairs; expected predict([\"...\", ...]); "
            "received ['a', 'b']",
        ),
        (np.zeros((1, 1, 1)), "data: an array of 3 dimensions; expected one dimension; received (1, 1, 1)"),
        (
            pd.DataFrame([["a", "b"]], columns=["text", "text"]),
            "data: two columns are named text, columns 1 and 2, and they differ; rename one of them",
        ),
        (
            pd.DataFrame([["a", "b"]], columns=[1, "1"]),
            "data: two columns are named 1, columns 1 and 2, and they differ; rename one of them",
        ),
        ({1: ["a"], "1": ["b"]}, "data: two columns are named 1, columns 1 and 2, and they differ; rename one of them"),
        (
            pd.DataFrame([["a"]], columns=pd.MultiIndex.from_tuples([("text", "x")])),
            "data: the data frame has a multi-level column index; expected one name a column; "
            "received ('text', 'x'); join them: frame.columns = ['_'.join(name) for name in frame.columns]",
        ),
        (
            {"\ud800": ["a"], "n": [1]},
            "data: cannot tell which column is the text; received columns \\ud800, n; name it with --text-columns a,b",
        ),
    ],
)  # fmt: skip
def test_what_is_no_text_is_refused_with_its_place(data: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        texts(data)
    assert str(caught.value) == message


EXPECTED = "expected a text, or a list, array, Series, frame, dataset or dict of texts"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, f"data: neither a text nor a collection of texts; {EXPECTED}; received None"),
        (7, f"data: neither a text nor a collection of texts; {EXPECTED}; received 7"),
        (b"a", f"data: neither a text nor a collection of texts; {EXPECTED}; received b'a'"),
        ({"a"}, f"data: a set has no order; {EXPECTED}; received {{'a'}}"),
        (
            Path("f.csv"),
            f"data: neither a text nor a collection of texts; {EXPECTED}; received {Path('f.csv')!r}; "
            "a file is read by `pennyweight predict RUN FILE`",
        ),
    ],
)
def test_what_is_no_collection_is_refused(data: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        texts(data)
    assert str(caught.value) == message


PAIRS = [("a", "b"), ("", "d")]


@pytest.mark.parametrize(
    "data",
    [
        PAIRS, [list(pair) for pair in PAIRS], np.array(PAIRS), pd.Series(PAIRS), [PAIR.join(("a", "b")), f"{PAIR}d"],
        (pair for pair in PAIRS),
    ],
)  # fmt: skip
def test_pairs(data: Any) -> None:
    assert texts(data, pair=True) == [f"a{PAIR}b", f"{PAIR}d"]


def test_pairs_of_columns_and_one_pair() -> None:
    frame = pd.DataFrame(PAIRS, columns=["premise", "hypothesis"])
    for data in (frame, frame.to_dict("list"), frame.to_dict("records"), Dataset.from_pandas(frame)):
        assert texts(data, pair=True, text_columns=("premise", "hypothesis")) == [f"a{PAIR}b", f"{PAIR}d"]
    assert is_single_text(("a", "b"), pair=True)
    assert not is_single_text(("a", "b"))
    assert texts(("a", "b"), pair=True) == [f"a{PAIR}b"]
    with pytest.raises(InputError, match=r"^text 1: this classifier reads pairs of texts; expected predict"):
        texts(["a", "b"], pair=True)
    with pytest.raises(InputError, match=r"^text 2: the text is not a string; expected a string; received 7$"):
        texts([("a", "b"), ("c", 7)], pair=True)


def test_columns_are_read_as_training_reads_them() -> None:
    frame = pd.DataFrame({"title": ["a"], "description": ["b"], "label": ["x"]})
    assert texts(frame) == read_python(frame).texts == ["a b"]
    assert texts(frame, text_columns=("description",)) == ["b"]
    named = pd.DataFrame({"review": ["a"], "comment": ["b"]})
    assert texts(named, label_column="comment") == ["a"]
    with pytest.raises(InputError, match="several columns could be the text: review, comment"):
        texts(named)


@pytest.mark.parametrize("shape", ["arrow table", "foreign frame", "column of a dataset"])
def test_training_reads_them_too(shape: str) -> None:
    assert python_columns(SHAPES[shape], "train").values["text"] == TEXTS


def test_labels_of_a_column_vector_are_one_a_text() -> None:
    table = read_python((np.array(["a", "b"])[:, None], np.array([[1], [0]])))
    assert (table.texts, table.labels) == (["a", "b"], [1, 0])


def test_the_classifier_takes_them_all(tiny_run: Path, command: Callable[..., Any]) -> None:
    import pennyweight as pw

    classifier = pw.load(tiny_run)
    texts = ["The bank and the rate.", "The striker and the cup."]
    labels = classifier.predict(texts)
    assert classifier.predict(pd.DataFrame({"text": texts, "label": ["x", "y"]})) == labels
    assert classifier.predict({"text": texts}) == labels
    assert classifier.predict(text for text in texts) == labels
    # One string, one answer: no axis for the texts.
    assert classifier.predict(texts[0]) == labels[0]
    assert classifier.predict_proba(texts[0]) == pytest.approx(classifier.predict_proba(texts)[0], abs=1e-5)
    assert classifier.logits(texts[0]).shape == (3,)
    assert classifier.predict_proba([]).shape == (0, 3)
    for ask in (classifier.predict, classifier.predict_proba, classifier.logits):
        with pytest.raises(InputError, match=r"^text 2: the text is missing"):
            ask([texts[0], None])
    with pytest.raises(InputError, match=r"^text: the text is not a string"):
        explain(classifier, 7)
    assert classifier.with_prior("em", texts[0]).weights is not None
    with pytest.raises(InputError, match=r"^text 1: the text is not a string"):
        classifier.with_prior("em", [7])
