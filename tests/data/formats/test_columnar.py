import gzip
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from pennyweight.data.formats.columnar import (
    ParquetRows,
    class_names,
    read_arrow,
    read_arrow_blocks,
    read_hub,
    read_parquet,
    read_saved,
)
from pennyweight.data.row_blocks import read_in_blocks
from pennyweight.data.sources import read
from pennyweight.errors import DataError

LIMIT = 1 << 30
ROWS: dict[str, list[Any]] = {"text": ["a", "b", "é"], "label": [1, 0, 1]}


@pytest.fixture(autouse=True)
def _quiet():
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def dataset(rows: dict[str, list[Any]] | None = None) -> Dataset:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    return Dataset.from_dict(rows or ROWS, features=features)


def test_parquet_with_class_names(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    dataset().to_parquet(path)
    table = read(path)
    assert (table.texts, table.labels, table.label_names) == (["a", "b", "é"], [1, 0, 1], ("no", "yes"))
    assert (table.lines, table.unit) == ([1, 2, 3], "row")


def test_ranges_of_rows_are_those_of_the_file_read_in_blocks(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    texts = pa.array([None if number % 7 == 3 else f"text {number % 5}" for number in range(100)])
    columns = {"text": texts.dictionary_encode(), "n": list(range(100)), "other": [{"a": 1}] * 100}
    pa.parquet.write_table(pa.table(columns), path, row_group_size=30)
    blocks = list(read_arrow_blocks(path, LIMIT, 16, "parquet"))
    rows = ParquetRows(path, str(path))
    assert rows.rows == 100
    # In order, backwards, ahead over row groups, the same again, over the end.
    for number in (0, 1, 2, 3, 1, 0, 5, 5, 6, 2):
        assert rows.read(number * 16, 16) == blocks[number]
    assert rows.read(29, 2).values["n"] == [29, 30]
    assert rows.read(95, 50).lines == [96, 97, 98, 99, 100]


def test_gzipped_parquet(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    dataset().to_parquet(path)
    zipped = tmp_path / "g.parquet.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    assert read(zipped).texts == ["a", "b", "é"]


def test_columns_that_are_neither_text_nor_number_are_left_out_and_named(tmp_path: Path) -> None:
    kinds = {
        "text": pa.array(["a", "b"]).dictionary_encode(),
        "long": pa.array(["c", "d"], pa.large_string()),
        "score": [0.5, None],
        "flag": [True, False],
        "tokens": [["a"], ["b"]],
        "raw": pa.array([b"a", b"b"]),
    }
    pyarrow.parquet.write_table(pa.table(kinds), tmp_path / "f.parquet")
    columns = read_parquet(tmp_path / "f.parquet", LIMIT)
    assert columns.values == {"text": ["a", "b"], "long": ["c", "d"], "score": [0.5, None], "flag": [True, False]}
    assert columns.unreadable == {"tokens": "list<element: string>", "raw": "binary"}


@pytest.mark.parametrize("reader", [read_parquet, read_arrow])
@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"ARROW1\0\0", b"text,label\na,x\n", b"PAR1" + b"\0" * 100 + b"PAR1"]
)
def test_files_that_are_something_else(file, refusal, reader, content: bytes) -> None:
    kind = "Parquet" if reader is read_parquet else "Arrow"
    message = refusal(reader, file("f.bin", content), LIMIT)
    assert message.startswith(f"TMP/f.bin: cannot be read as {kind}: damaged, or another format; received ")
    assert message.endswith("; write it again, or pass a CSV or JSONL file")


def test_damaged_parquet(tmp_path: Path, file, refusal) -> None:
    dataset({"text": ["words and words"] * 500, "label": [0, 1] * 250}).to_parquet(tmp_path / "f.parquet")
    content = bytearray((tmp_path / "f.parquet").read_bytes())
    content[10:60] = b"\xff" * 50
    message = refusal(read_parquet, file("g.parquet", bytes(content)), LIMIT)
    assert message.startswith("TMP/g.parquet: cannot be read as Parquet: damaged, or another format; received ")


def test_no_rows_and_no_usable_columns(tmp_path: Path, refusal) -> None:
    path = tmp_path / "f.parquet"
    pyarrow.parquet.write_table(pa.table({"text": pa.array([], pa.string()), "label": pa.array([], pa.int64())}), path)
    assert refusal(read, path) == "TMP/f.parquet: there are no rows; received columns text, label"
    pyarrow.parquet.write_table(pa.table({"tokens": [["a"], ["b"]]}), path)
    assert refusal(read, path) == (
        "TMP/f.parquet: cannot tell which column is the text; received columns tokens (list<element: string>); "
        "name it with --text-columns a,b"
    )


def test_text_that_is_not_utf8_in_parquet(tmp_path: Path, refusal) -> None:
    bad = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\x02\0\0\0"), pa.py_buffer(b"\xff\xfe")])
    pyarrow.parquet.write_table(pa.table({"text": bad, "label": ["x"]}), tmp_path / "f.parquet")
    assert refusal(read, tmp_path / "f.parquet") == (
        "TMP/f.parquet, rows from 1: column text contains bytes that are not UTF-8; export the data again as UTF-8"
    )


def test_offsets_that_point_outside_are_refused_before_arrow_follows_them(tmp_path: Path, refusal) -> None:
    table = pa.table({"text": ["a" * 77]})
    with pa.ipc.new_file(tmp_path / "f.arrow", table.schema) as writer:
        writer.write_table(table)
    content = bytearray((tmp_path / "f.arrow").read_bytes())
    offsets = content.rindex((77).to_bytes(4, "little"), 0, content.index(b"a" * 77))
    content[offsets : offsets + 4] = (0x3FFFFFFF).to_bytes(4, "little")
    (tmp_path / "f.arrow").write_bytes(bytes(content))
    message = refusal(read, tmp_path / "f.arrow", labelled=False)
    assert message.startswith(
        "TMP/f.arrow: cannot be read as Arrow: damaged, or another format; received ArrowInvalid: "
    )
    assert "1073741823" in message


def test_a_small_file_that_unfolds(tmp_path: Path, refusal) -> None:
    # One long text, referred to a hundred thousand times: 20 kB on disk, 100 MB unfolded.
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array(["x" * 1000]))
    pyarrow.parquet.write_table(pa.table({"text": column.cast(pa.string())}), tmp_path / "f.parquet")
    assert (tmp_path / "f.parquet").stat().st_size < 50_000
    assert refusal(read, tmp_path / "f.parquet", labelled=False, max_bytes=10_000_000) == (
        "TMP/f.parquet: the data are too large once decompressed; expected at most 10,000,000 bytes; "
        "split them, or read them with a higher max_bytes"
    )


def test_arrow_files_and_streams(tmp_path: Path) -> None:
    table = pa.table(ROWS)
    with pa.ipc.new_file(tmp_path / "file.arrow", table.schema) as writer:
        writer.write_table(table)
    with pa.ipc.new_stream(tmp_path / "stream.arrow", table.schema) as writer:
        writer.write_table(table)
    for name in ("file.arrow", "stream.arrow"):
        assert read(tmp_path / name).texts == ["a", "b", "é"]


def test_a_saved_dataset_with_a_selection_of_rows(tmp_path: Path) -> None:
    dataset().select([2, 0]).save_to_disk(tmp_path / "saved")
    table = read(tmp_path / "saved")
    assert (table.texts, table.labels, table.label_names) == (["é", "a"], [1, 1], ("no", "yes"))


def test_a_saved_dictionary_of_datasets(tmp_path: Path, refusal) -> None:
    DatasetDict(train=dataset(), test=dataset().select([1])).save_to_disk(tmp_path / "saved")
    assert len(read(tmp_path / "saved")) == 3
    assert read(tmp_path / "saved", split="test").texts == ["b"]
    assert refusal(read, tmp_path / "saved", split="validation") == (
        "TMP/saved: no split named validation; expected one of train, test; name the split"
    )


def test_a_folder_that_is_no_saved_dataset(tmp_path: Path, refusal) -> None:
    (tmp_path / "d" / "sub").mkdir(parents=True)
    assert refusal(read, tmp_path / "d") == (
        "TMP/d: the folder has no readable data files; expected a folder written by datasets.save_to_disk, a folder of "
        ".txt files per class, or data files named by split; received a folder with sub/"
    )
    (tmp_path / "d" / "news.csv").write_text("text,label\n")
    assert "received a folder with news.csv, sub/; name one of its files" in refusal(read, tmp_path / "d")


def test_a_folder_with_a_loading_script_is_not_opened(tmp_path: Path, refusal, monkeypatch) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    script = f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
    (folder / "corpus.py").write_text(script)
    (folder / "dataset_infos.json").write_text("{}")
    (folder / "news.csv").write_text("text,label\na,x\n")
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("load_dataset was called"))
    monkeypatch.setattr(datasets, "load_from_disk", lambda *_, **__: pytest.fail("load_from_disk was called"))
    assert refusal(read, folder).startswith("TMP/corpus: the folder has no readable data files")
    assert not (tmp_path / "ran").exists()


def test_a_saved_dataset_with_a_script_beside_it_is_read_without_running_it(tmp_path: Path) -> None:
    dataset().save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / "saved.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    assert len(read(tmp_path / "saved")) == 3
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("damage", ["state.json", "dataset_info.json", "data-00000-of-00001.arrow"])
def test_a_damaged_saved_dataset(tmp_path: Path, refusal, damage: str) -> None:
    dataset().save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / damage).write_text("not this")
    message = refusal(read_saved, tmp_path / "saved", "train", LIMIT)
    assert message.startswith("TMP/saved: cannot be read as a saved dataset: damaged, or another format; received ")


def test_a_hub_name(monkeypatch) -> None:
    asked = []

    def load_dataset(*args: Any, **kwargs: Any) -> Dataset:
        asked.append((args, kwargs))
        return dataset()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    table = read("fancyzhx/ag_news", split="test")
    assert (table.source, table.texts, table.label_names) == ("fancyzhx/ag_news", ["a", "b", "é"], ("no", "yes"))
    read("cardiffnlp/tweet_eval:emoji")
    # No argument lets a dataset's own code run.
    assert asked == [
        (("fancyzhx/ag_news", None), {"split": "test"}),
        (("cardiffnlp/tweet_eval", "emoji"), {"split": "train"}),
    ]


@pytest.mark.parametrize(
    ("error", "received", "remedy"),
    [
        (
            ConnectionError("Couldn't reach 'a/b' on the Hub (OfflineModeIsEnabled)"),
            "ConnectionError: Couldn't reach 'a/b' on the Hub (OfflineModeIsEnabled)",
            "check the network and the split's name, or download the dataset and pass a file",
        ),
        (
            ValueError("Unknown split \"train\". Should be one of ['test'].\nmore"),
            "ValueError: Unknown split \"train\". Should be one of ['test']",
            "check the network and the split's name, or download the dataset and pass a file",
        ),
        (
            datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub or cannot be accessed."),
            "DatasetNotFoundError: Dataset 'a/b' doesn't exist on the Hub or cannot be accessed",
            "check the name; a private dataset needs `hf auth login`",
        ),
    ],
)
def test_a_hub_name_that_cannot_be_had(monkeypatch, refusal, error: Exception, received: str, remedy: str) -> None:
    def load_dataset(*_: Any, **__: Any) -> Dataset:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert refusal(read, "a/b") == (
        "no such file, and the dataset a/b (split train) could not be fetched from the hub; "
        f"received {received}; {remedy}"
    )


def test_without_network_the_real_client_gives_one_line(refusal) -> None:
    message = refusal(read_hub, "fancyzhx/ag_news", "train", LIMIT)
    assert message.startswith(
        "no such file, and the dataset fancyzhx/ag_news (split train) could not be fetched from the hub; received "
    )


def test_a_stream_from_the_hub_is_refused(monkeypatch, refusal) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: dataset().to_iterable_dataset())
    assert refusal(read, "a/b") == ("a/b: IterableDataset cannot be read; expected a datasets.Dataset with its rows")


@pytest.mark.parametrize(
    "metadata",
    [None, {}, {b"huggingface": b"no json"}, {b"huggingface": b"[]"}, {b"huggingface": b'{"info": {"features": 1}}'}],
)
def test_metadata_of_another_form_gives_no_names(metadata: Any) -> None:
    assert class_names(pa.schema([pa.field("label", pa.int64())], metadata=metadata)) == {}


@pytest.mark.parametrize("kind", ["parquet", "arrow", "stream"])
def test_columns_of_one_name_are_refused(kind: str, tmp_path: Path) -> None:
    table = pa.table([["a", "b"], ["c", "d"], ["e", "f"]], names=["text", "note", "note"])
    path = tmp_path / ("x.parquet" if kind == "parquet" else "x.arrow")
    if kind == "parquet":
        pa.parquet.write_table(table, path)
    else:
        with (pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream)(path, table.schema) as writer:
            writer.write_table(table)
    for check in (True, False):
        with pytest.raises(DataError) as caught:
            read_in_blocks(path, check=check)
        assert str(caught.value) == f"{path}: several columns have one name: note; rename them"
    with pytest.raises(DataError, match="several columns have one name: note; rename them"):
        read(path)
