"""Pickled datasets, as the real library makes them."""

import contextlib
import gzip
import pickle
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, concatenate_datasets
from hypothesis import given, settings
from hypothesis import strategies as st

from pennyweight.data.sources import read, read_python
from pennyweight.errors import DataError

TEXTS = ["Shares fell.", "", "naïve 日本", "last"]


@pytest.fixture
def pickled(tmp_path: Path):
    def write(value: Any, protocol: int = 4, name: str = "test_unlabelled.pkl") -> Path:
        path = tmp_path / name
        path.write_bytes(pickle.dumps(value, protocol))
        return path

    return write


def texts_only() -> Dataset:
    return Dataset.from_dict({"text": TEXTS})


@pytest.mark.parametrize("protocol", range(6))
def test_the_contests_file_in_every_protocol(pickled, protocol: int) -> None:
    table = read(pickled(texts_only(), protocol), labelled=None)
    assert (table.texts, table.labels, table.lines, table.unit) == (TEXTS, None, [1, 2, 3, 4], "row")
    assert table.source.endswith("test_unlabelled.pkl")


def test_read_takes_pickles_too_and_gzipped_ones(pickled) -> None:
    path = pickled(texts_only())
    assert read(path, labelled=False).texts == TEXTS
    zipped = path.with_name("z.pkl.gz")
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    assert read(zipped, labelled=False).texts == TEXTS
    assert read_python(path, labelled=False).texts == TEXTS


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_labels_and_their_names(pickled, protocol: int) -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    made = Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    table = read(pickled(made, protocol))
    assert (table.labels, table.label_names) == ([1, 0], ("no", "yes"))
    assert read(pickled(made), labelled=False).extras == {"label": [1, 0]}


MAKERS: dict[str, Any] = {
    "chunks": lambda: Dataset(pa.table({"text": pa.chunked_array([TEXTS[:1], [], TEXTS[1:]])})),
    "a slice": lambda: Dataset.from_dict({"text": ["x", *TEXTS, "y"]}).select(range(1, 5)),
    "a selection": lambda: Dataset.from_dict({"text": TEXTS[::-1]}).select([3, 2, 1, 0]),
    "large strings": lambda: Dataset(pa.table({"text": pa.array(TEXTS, pa.large_string())})),
    "rows joined": lambda: concatenate_datasets([texts_only().select([0]), texts_only().select([1, 2, 3])]),
    "columns joined": lambda: concatenate_datasets([texts_only(), Dataset.from_dict({"id": [1, 2, 3, 4]})], axis=1),
    "pandas": lambda: Dataset.from_pandas(pd.DataFrame({"text": TEXTS})),
    "a format": lambda: texts_only().with_format("numpy"),
    "a split's name": lambda: Dataset.from_dict({"text": TEXTS}, split=datasets.Split.TEST),
    "other columns": lambda: Dataset.from_dict({"text": TEXTS, "n": [0.5] * 4, "flag": [True, False] * 2}),
    "lists": lambda: Dataset.from_dict({"text": TEXTS, "tokens": [["a"]] * 4}),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_datasets_of_every_make(pickled, maker: str) -> None:
    table = read(pickled(MAKERS[maker]()), labelled=None)
    assert table.texts == TEXTS
    assert table.extras.keys() == {"columns joined": {"id"}, "other columns": {"n", "flag"}}.get(maker, set())


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_datasets_up_to_four_hold_an_index_of_batches(pickled, protocol: int, monkeypatch) -> None:
    monkeypatch.setattr(datasets.table.InMemoryTable, "__getstate__", lambda table: vars(table), raising=False)
    path = pickled(texts_only(), protocol)
    assert b"_reconstruct_record_batch" in path.read_bytes()
    assert b"numpy" in path.read_bytes()
    assert read(path, labelled=None).texts == TEXTS


def test_a_mapped_dataset_held_in_memory(pickled) -> None:
    made = texts_only().map(lambda row: {"text": row["text"].upper()}, keep_in_memory=True)
    assert read(pickled(made), labelled=None).texts == [text.upper() for text in TEXTS]


def test_a_split_of_several(pickled, refusal) -> None:
    path = pickled(DatasetDict(train=texts_only(), test=texts_only().select([3])))
    assert read(path, split="test", labelled=None).texts == ["last"]
    assert refusal(read, path, split="validation", labelled=None) == (
        "TMP/test_unlabelled.pkl: the pickle is refused: it has the splits train, test, and not validation; "
        "expected a pickled datasets.Dataset that was in memory; "
        "nothing in it was run; ask for the data as CSV, JSONL or Parquet"
    )


def test_a_null_is_missing_or_empty(pickled, refusal) -> None:
    path = pickled(Dataset.from_dict({"text": ["a", None]}))
    assert refusal(read, path, labelled=None).startswith("TMP/test_unlabelled.pkl row 2: the text is missing")
    assert read(path, allow_null=True, labelled=None).texts == ["a", ""]


def test_a_memory_mapped_dataset_holds_no_rows(pickled, tmp_path: Path, refusal) -> None:
    datasets.disable_progress_bars()
    texts_only().save_to_disk(tmp_path / "saved")
    datasets.enable_progress_bars()
    message = refusal(read, pickled(datasets.load_from_disk(str(tmp_path / "saved"))), labelled=None)
    assert message == (
        "TMP/test_unlabelled.pkl: the pickle is refused: it contains no rows, only the path of a cache file "
        "(TMP/saved/data-00000-of-00001.arrow); "
        "on the machine that has this file, write dataset.to_parquet('data.parquet') and use that; "
        "expected a pickled datasets.Dataset that was in memory; "
        "nothing in it was run; ask for the data as CSV, JSONL or Parquet"
    )


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (["a", "b"], "it holds a list"),
        ({"text": ["a"]}, "it holds a dict"),
        (None, "it holds a NoneType"),
        (Features({"text": Value("string")}), "it holds a datasets.features.features.Features"),
        (Dataset.from_dict({"text": []}), "it contains no rows of text or numbers"),
        (pd.DataFrame({"text": ["a"]}), "it asks for pandas."),
    ],
)
def test_other_pickles(pickled, refusal, value: Any, problem: str) -> None:
    message = refusal(read, pickled(value), labelled=None)
    assert message.startswith(f"TMP/test_unlabelled.pkl: the pickle is refused: {problem}")


@pytest.mark.parametrize("content", [b"", b"text,label\n", b"\0" * 10])
def test_files_that_are_no_pickles(file, refusal, content: bytes) -> None:
    assert refusal(read, file("f.pkl", content), labelled=None) == (
        "TMP/f.pkl: the pickle is refused: it is not a pickle; expected a pickled datasets.Dataset that was in memory; "
        "nothing in it was run; ask for the data as CSV, JSONL or Parquet"
    )


# --- the older and the crooked, put together by hand ---------------------------------------------------------------


class Made:
    """Pickles as a call of `function`, whatever it would do; the same `Made` twice is stored once."""

    def __init__(self, function: Any, *args: Any, state: Any = None) -> None:
        self.reduced = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> Any:
        return self.reduced


STRING = Made(pa.lib.type_for_alias, "string")
OFFSETS, LETTERS = b"\0\0\0\0\2\0\0\0\3\0\0\0", b"abc"


def chunk(length: Any = 2, offset: Any = 0, offsets: Any = OFFSETS, letters: Any = LETTERS, nulls: Any = 0) -> Made:
    buffers = [None, *(None if part is None else Made(pa.lib.py_buffer, part) for part in (offsets, letters))]
    return Made(pa.lib._restore_array, (STRING, length, nulls, offset, buffers, [], None))


def in_memory(*chunks: Any, name: str = "text", columns: int = 1) -> Made:
    schema = Made(pa.lib.schema, [Made(pa.lib.field, name, STRING, True, None)], None)
    column = Made(pa.lib.chunked_array, list(chunks), STRING)
    table = Made(pa.lib._reconstruct_table, [column] * columns, schema)
    return Made(datasets.table.InMemoryTable, state={"table": table})


def joined(blocks: Any) -> Made:
    return Made(datasets.table.ConcatenationTable, state={"blocks": blocks, "schema": None})


def holding(table: Any, **state: Any) -> Made:
    return Made(Dataset, state={"_data": table, "_indices": None, **state})


def test_buffers_of_older_arrow_are_plain_bytes(pickled) -> None:
    assert read(pickled(holding(in_memory(chunk()))), labelled=None).texts == ["ab", "c"]


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (in_memory(chunk(length=3)), "the Arrow data in it are damaged"),
        (in_memory(chunk(length=1 << 40)), "the Arrow data in it are damaged"),
        (in_memory(chunk(length=1 << 60)), "a chunk has an impossible length"),
        (in_memory(chunk(length=-1)), "a chunk has an impossible length"),
        (in_memory(chunk(length="2")), "a chunk has an impossible length"),
        (in_memory(chunk(length=True)), "a chunk has an impossible length"),
        (in_memory(chunk(offset=-8)), "a chunk has an impossible length"),
        (in_memory(chunk(offset=5)), "the Arrow data in it are damaged"),
        (in_memory(chunk(offsets=b"\0\0\0\0\xff\xff\xff\x7f\xff\xff\xff\x7f")), "the Arrow data in it are damaged"),
        (in_memory(chunk(offsets=b"\0\0\0\0\xff\xff\xff\x7f\3\0\0\0")), "the Arrow data in it are damaged"),
        (in_memory(chunk(offsets=b"\3\0\0\0\2\0\0\0\0\0\0\0")), "the Arrow data in it are damaged"),
        (in_memory(chunk(offsets=b"\xff\xff\xff\xff\0\0\0\0\1\0\0\0")), "the Arrow data in it are damaged"),
        (in_memory(chunk(offsets=None)), "the Arrow data in it are damaged"),
        (in_memory(chunk(letters=None)), "the Arrow data in it are damaged"),
        (in_memory(chunk(letters=b"\xff\xfe\xfd")), "the Arrow data in it are damaged"),
        (in_memory(Made(pa.lib._restore_array, (STRING, 2, 0, 0))), "a chunk is not whole"),
        (in_memory(chunk(letters=12)), "an Arrow buffer in it is not made of bytes"),
        (in_memory(chunk(), columns=2), "its schema has a different number of columns from its data"),
        (in_memory("text"), "it lacks pyarrow.lib._restore_array, which every pickled dataset has"),
        (Made(datasets.table.InMemoryTable), "its table has no attributes"),
        ({"text": ["a"]}, "its table is a dict"),
        (None, "its table is a NoneType"),
        (joined([[joined([[in_memory(chunk())]])]]), "its blocks hold blocks"),
        (joined(7), "its blocks is not a list"),
    ],
)
def test_crooked_tables(pickled, refusal, table: Any, problem: str) -> None:
    assert refusal(read, pickled(holding(table)), labelled=None) == (
        f"TMP/test_unlabelled.pkl: the pickle is refused: {problem}; "
        "expected a pickled datasets.Dataset that was in memory; "
        "nothing in it was run; ask for the data as CSV, JSONL or Parquet"
    )


@pytest.mark.parametrize("nulls", [-5, 2, 1 << 62, "x"])
def test_the_files_own_count_of_nulls_is_not_believed(pickled, nulls: Any) -> None:
    assert read(pickled(holding(in_memory(chunk(nulls=nulls)))), labelled=None).texts == ["ab", "c"]


def test_a_selection_past_the_rows(pickled, refusal) -> None:
    selection = Dataset.from_dict({"indices": pa.array([0, 2], pa.uint64())}).data
    path = pickled(holding(in_memory(chunk()), _indices=selection))
    assert "it selects rows that it does not have" in refusal(read, path, labelled=None)
    path = pickled(holding(in_memory(chunk()), _indices=in_memory(chunk(), name="indices")))
    assert "it selects rows that it does not have" in refusal(read, path, labelled=None)
    path = pickled(holding(in_memory(chunk()), _indices=in_memory(chunk())))
    assert "its selection of rows has no column of indices" in refusal(read, path, labelled=None)


def test_bytes_named_over_and_over_are_not_unfolded_over_and_over(pickled, refusal) -> None:
    big = chunk(letters=b"a" * 100_000, offsets=b"\0\0\0\0\xa0\x86\1\0\xa0\x86\1\0")
    none = chunk(length=0)
    blocks = [[in_memory(*[none] * 300)] * 300] * 300  # 27 million chunks of nothing
    for table in (in_memory(*[big] * 1000), joined(blocks)):
        message = refusal(read, pickled(holding(table)), labelled=None)
        assert "the pickle is refused: it uses the same bytes over and over" in message


VALID = pickle.dumps(Dataset.from_dict({"text": TEXTS, "label": [0, 1, 0, 1]}).select([2, 1, 0]), 4)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_damage_anywhere_gives_a_table_or_one_line(tmp_path_factory, damage: list[tuple[int, int]]) -> None:
    content = bytearray(VALID)
    for position, byte in damage:
        content[position] = byte
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(bytes(content))
    with contextlib.suppress(DataError):
        assert read(path, labelled=None).lines


def test_cut_off_anywhere(file, refusal) -> None:
    for end in range(0, len(VALID) - 1, 7):
        assert "the pickle is refused: " in refusal(read, file("f.pkl", VALID[:end]), labelled=None)
