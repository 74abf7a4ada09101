from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, IterableDataset, Value

from pennyweight.data.input_spec import InputSpec
from pennyweight.data.sources import read, read_python
from pennyweight.data.table import Table

TEXTS, LABELS = ["a", "b", "c"], ["x", "y", "x"]


class MapStyle:
    """A dataset as PyTorch's are: a length, and items by position that do not end on their own."""

    def __len__(self) -> int:
        return len(TEXTS)

    def __getitem__(self, row: int) -> tuple[str, str]:
        return TEXTS[row % 3], LABELS[row % 3]


class Stream:
    """A dataset that can only be walked through, again and again."""

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return zip(TEXTS, LABELS, strict=True)


SHAPES: dict[str, Any] = {
    "pairs": list(zip(TEXTS, LABELS, strict=True)),
    "lists of two": [list(pair) for pair in zip(TEXTS, LABELS, strict=True)],
    "tuple of pairs": tuple(zip(TEXTS, LABELS, strict=True)),
    "texts and labels": (TEXTS, LABELS),
    "arrays": (np.array(TEXTS), np.array(LABELS)),
    "series": (pd.Series(TEXTS), pd.Series(LABELS)),
    "columns": {"text": TEXTS, "label": LABELS},
    "dicts": [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)],
    "frame": pd.DataFrame({"text": TEXTS, "label": LABELS}),
    "dataset": Dataset.from_dict({"text": TEXTS, "label": LABELS}),
    "datasets": DatasetDict(train=Dataset.from_dict({"text": TEXTS, "label": LABELS})),
    "stream of a dataset": Dataset.from_dict({"text": TEXTS, "label": LABELS}).to_iterable_dataset(),
    "stream without a schema": IterableDataset.from_generator(
        lambda: ({"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True))
    ),
    "map-style dataset": MapStyle(),
    "iterable": Stream(),
    "views in a dictionary": pa.table(  # as polars gives its Categorical
        {
            "text": TEXTS,
            "label": pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), pa.array(["x", "y"], pa.string_view())),
        }
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_the_same_table(shape: str) -> None:
    table = read_python(SHAPES[shape])
    assert (table.texts, table.labels, table.lines) == (TEXTS, LABELS, [1, 2, 3])
    assert all(type(text) is str for text in table.texts)
    assert (table.source, table.unit) == ("data", "row")


def test_texts_alone() -> None:
    assert read_python(TEXTS, labelled=False).texts == TEXTS
    assert read_python(pd.Series(TEXTS), labelled=None).labels is None


def test_integers_of_arrays_are_labels() -> None:
    assert read_python((TEXTS, np.array([1, 0, 1]))).labels == [1, 0, 1]
    assert read_python([(text, np.int64(1)) for text in TEXTS]).labels == [1, 1, 1]


def test_a_path_and_a_table(file, refusal) -> None:
    path = file("f.csv", "text,label\na,x\nb,y\n")
    assert read_python(path).texts == read_python(str(path)).texts == ["a", "b"]
    table = read(path)
    assert read_python(table) is table
    assert refusal(read_python, Table(["a"], None, "f.csv", [2])) == (
        "f.csv: the table has no labels; read it with labelled=True"
    )


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT])
def test_what_pandas_calls_missing(refusal, missing: Any) -> None:
    frame = pd.DataFrame({"text": ["a", missing], "label": [0, 1]})
    assert refusal(read_python, frame).startswith("data row 2: the text is missing (null or NaN)")
    assert read_python(frame, allow_null=True).texts == ["a", ""]


def test_columns_of_a_frame_can_be_named_and_joined() -> None:
    frame = pd.DataFrame({"head": TEXTS, "tail": TEXTS, "kind": pd.Categorical(LABELS), "when": pd.Timestamp(0)})
    table = read_python(frame, InputSpec(("head", "tail"), "kind", "/"))
    assert (table.texts, table.labels) == (["a/a", "b/b", "c/c"], LABELS)


@pytest.mark.parametrize(("data", "received"), [(7, "7"), (b"abc", "b'abc'"), (None, "None")])
def test_other_shapes_are_refused(refusal, data: Any, received: str) -> None:
    assert refusal(read_python, data) == (
        "data: data of this kind cannot be read; expected (text, label) pairs, a tuple (texts, labels), "
        "a list of texts, a dict of columns, a list of dicts, a DataFrame, a Dataset or a path; "
        f"received {received}"
    )


@pytest.mark.parametrize("data", [[], {}, ([], []), {"text": []}, pd.DataFrame({"text": []})])
def test_nothing_is_refused(refusal, data: Any) -> None:
    assert refusal(read_python, data).startswith("data: there are no rows; expected (text, label) pairs")


def test_rows_of_different_kinds(refusal) -> None:
    assert refusal(read_python, [("a", "x"), {"text": "b"}]) == (
        "data row 2: the rows are of different kinds; expected a (text, label) pair; received {'text': 'b'}"
    )
    assert refusal(read_python, [{"text": "b"}, ("a", "x")]) == (
        "data row 2: the rows are of different kinds; expected a dict; received ('a', 'x')"
    )
    assert refusal(read_python, [("a", "x"), ("b", "y", "z")]) == (
        "data row 2: the row is not a (text, label) pair; received ('b', 'y', 'z')"
    )
    assert refusal(read_python, ["a", 7], labelled=False).startswith("data row 2: the text is not a string")


def test_columns_of_different_length(refusal) -> None:
    assert refusal(read_python, (TEXTS, ["x"])) == "data: the columns differ in length; received text 3, label 1"


def test_a_split_that_is_not_there(refusal) -> None:
    assert refusal(read_python, SHAPES["datasets"], split="test") == (
        "data: no split named test; expected one of train; name the split"
    )


def test_two_columns_of_one_name(refusal) -> None:
    import pandas as pd

    frame = pd.DataFrame([["a", "x", "x"], ["b", "y", "y"]], columns=["text", "label", "label"])
    assert read_python(frame).labels == ["x", "y"]
    frame.iloc[1, 2] = "z"
    assert refusal(read_python, frame) == (
        "data: two columns are named label, columns 2 and 3, and they differ; rename one of them"
    )


def test_a_tuple_of_two_rows_is_no_tuple_of_texts_and_labels(refusal) -> None:
    assert read_python((("good", 1), ("bad", 0))).labels == [1, 0]
    assert read_python(((("a", "b"), "x"), (("c", "d"), "y")), InputSpec(pair=True)).labels == ["x", "y"]
    for data in ((("good", "bad"), (1, 0)), (["good", "bad"], ["1", "0"]), (("good", "bad", "so"), ("x", "y", "z"))):
        assert read_python(data).texts[:2] == ["good", "bad"]
    assert refusal(read_python, (("good", "pos"), ("bad", "neg"))) == (
        "data: a tuple of two pairs is ambiguous: two (text, label) pairs, or two texts and their two labels; expected "
        "a list of pairs [(text, label), ...], or lists ([texts], [labels]); received (('good', 'pos'), ('bad', 'neg'))"
    )


def test_a_function_on_the_rows_of_a_dataset_is_obeyed() -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    plain = Dataset.from_dict({"text": TEXTS, "label": [0, 1, 0]}, features=features)
    louder = plain.with_transform(lambda rows: {"text": [t.upper() for t in rows["text"]], "label": rows["label"]})
    for data in (louder, plain.to_iterable_dataset()):
        table = read_python(data)
        assert table.texts == (["A", "B", "C"] if data is louder else TEXTS)
        assert table.labels == [0, 1, 0]
        assert table.label_names == ("no", "yes")


def test_numbers_of_tensors_are_labels() -> None:
    assert read_python((TEXTS, list(torch.tensor([0, 2, 1])))).labels == [0, 2, 1]
    assert read_python((TEXTS, [np.array(1), np.array(0), np.array(1)])).labels == [1, 0, 1]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (TEXTS, "the texts have no labels; expected (text, label) pairs, or a tuple (texts, labels); received 3 texts"),
        (pd.Series(TEXTS), "the texts have no labels; expected (text, label) pairs, or a tuple (texts, labels); "
         "received 3 texts"),
        ([7, 8], "the rows are not (text, label) pairs; expected (text, label) pairs, or a tuple (texts, labels); "
         "received 7"),
    ],
)  # fmt: skip
def test_rows_without_labels(refusal, data: Any, said: str) -> None:
    assert refusal(read_python, data) == f"data: {said}"


def test_two_lists_in_a_list(refusal) -> None:
    assert refusal(read_python, [TEXTS, LABELS]) == (
        "data row 1: the row is not a (text, label) pair; received ['a', 'b', 'c']; "
        "two lists belong into a tuple: (texts, labels)"
    )


def test_what_is_read_only_once_it_is_collected(refusal) -> None:
    class LazyFrame:
        def collect(self) -> None: ...

    assert refusal(read_python, LazyFrame()).endswith("; collect it first: data.collect()")


def test_probabilities_are_no_labels(refusal) -> None:
    assert refusal(read_python, (TEXTS, np.array([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]]))) == (
        "data row 1: the labels are probabilities; expected label names, or zeros and ones; received [0.5, 0.5]; "
        "use the most probable label of each row, or pass a table of probabilities as teacher"
    )
