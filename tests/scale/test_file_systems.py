"""Files by path and URI: found, read and written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pennyweight.errors import DataError, InputError, StorageError
from pennyweight.scale.file_systems import FileStore, find_files, is_uri, open_uri


def test_a_file_a_folder_and_a_pattern_are_found_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    for name in ("b.csv", "a.csv", "a.parquet", ".hidden.csv", "_SUCCESS", "a/deep.csv", "x[1].csv"):
        (tmp_path / name).write_text(name)

    def names(given: str) -> list[str]:
        return [file.name.removeprefix(f"{tmp_path}/") for file in find_files(given)]

    assert names(str(tmp_path)) == ["a.csv", "a.parquet", "b.csv", "x[1].csv"]
    assert names(f"{tmp_path}/*.csv") == ["a.csv", "b.csv", "x[1].csv"]
    assert names(f"{tmp_path}/*/*.csv") == ["a/deep.csv"]
    assert names(f"{tmp_path}/x[1].csv") == ["x[1].csv"]  # a file of this very name
    monkeypatch.chdir(tmp_path)
    (found,) = find_files("b.csv")
    assert (found.name, found.uri, found.size, found.local) == ("b.csv", str(tmp_path / "b.csv"), 5, True)
    (found,) = find_files(f"file://{tmp_path}/b.csv")
    assert found.open().read() == b"b.csv"
    for nothing in ("c.csv", "*.txt", str(tmp_path / "a" / "none")):
        with pytest.raises(
            DataError, match=r"no such file; expected a file, a folder of files or a pattern such as 'd/\*\.csv'"
        ):
            find_files(nothing)


def test_a_file_that_changes_after_it_was_found_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("one")
    (found,) = find_files(str(path))
    assert found.open().read() == b"one"
    path.write_text("three")
    with pytest.raises(DataError, match=r"a\.csv: the file was changed or removed after this command started"):
        found.open()


def test_uris_are_told_from_paths_and_must_not_carry_passwords() -> None:
    assert [is_uri(given) for given in ("s3://b/k", "gs://b", "fsspec+memory://x", "/a/b", "a:b", "./x://")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
    with pytest.raises(InputError, match="a URI must not contain credentials; set them in the environment"):
        open_uri("s3://key:secret@bucket/x")
    with pytest.raises(InputError, match="no file system opens this URI; expected s3://BUCKET"):
        open_uri("nothing://bucket/x")


def test_what_is_written_is_whole_or_absent(tmp_path: Path) -> None:
    store = FileStore(str(tmp_path / "deep" / "out"))
    store.make()
    store.write("a/part", [b"one ", b"two"])
    assert (store.read("a/part"), store.sizes("a"), store.sizes()) == (b"one two", {"part": 7}, {})

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="the disk is full; free some space and run again"):
        store.write("a/part", broken())
    assert (store.read("a/part"), os.listdir(tmp_path / "deep" / "out" / "a")) == (b"one two", ["part"])
    store.remove(["a/part", "a/none"])
    store.remove_folder("a")
    store.remove_folder("a")
    assert os.listdir(tmp_path / "deep" / "out") == []


def test_object_storage_is_read_and_written(bucket: str, tmp_path: Path) -> None:
    store = FileStore(bucket.format("out/x"))
    store.make()
    store.write("part-1", [b"one ", b"two"])
    store.write(".units/1.json", [b"{}"])
    assert (store.read("part-1"), store.name) == (b"one two", "s3://texts/out/x")
    assert (store.sizes(), store.sizes(".units")) == ({"part-1": 7}, {"1.json": 2})
    (found,) = find_files(bucket.format("out/x/part-*"))
    assert (found.name, found.local) == ("s3://texts/out/x/part-1", False)
    assert found.copy_to(tmp_path).read_bytes() == b"one two"
    store.remove_folder(".units")
    store.remove(["part-1"])
    with pytest.raises(DataError, match="no such file"):
        find_files(bucket.format("out/x/part-*"))
    with pytest.raises(StorageError, match="s3://none/x: cannot be written or listed"):
        FileStore(bucket.format("x").replace("texts", "none").replace("true", "false")).write("a", [b"x"])
