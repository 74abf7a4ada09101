"""Folders: a folder of texts per class, with or without splits above; data files named by split; and neither."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from pennyweight.data.row_blocks import read_in_blocks
from pennyweight.data.sources import read


def lay(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


CLASSES = {"pos/10.txt": "good\n", "pos/9.txt": "\ufefffine\nday", "neg/a.txt": "bad", "neg/b": "sad", "README": "x"}


def test_a_folder_of_texts_for_each_class(tmp_path: Path) -> None:
    table = read(lay(tmp_path / "d", CLASSES | {".git/x/y.txt": "no", "pos/.hidden.txt": "no"}))
    assert table.texts == ["bad", "sad", "fine\nday", "good"]
    assert table.labels == ["neg", "neg", "pos", "pos"]
    assert table.extras["id"] == ["neg/a.txt", "neg/b", "pos/9.txt", "pos/10.txt"]
    assert not table.named
    assert list(read_in_blocks(tmp_path / "d").each_text()) == table.texts


def test_the_folder_of_a_split(tmp_path: Path, refusal) -> None:
    files = {f"{split}/{name}": f"{split} text" for split in ("train", "test") for name in ("pos/1.txt", "neg/1.txt")}
    root = lay(tmp_path / "d", files | {"train/unsup/1.txt": "?", "imdb.vocab": "the", "train/urls_pos.txt": "http"})
    for split in ("train", "test"):
        table = read(root, split=split)
        assert (table.texts, table.labels) == ([f"{split} text"] * 2, ["neg", "pos"])
        assert list(read_in_blocks(root, split=split).each_text()) == table.texts
    assert read(root).notes == ("folder unsup is left out: its texts have no label",)
    assert refusal(read, root, split="validation") == (
        "TMP/d: no split named validation; expected a folder named validation or valid or val or dev or development; "
        "received test, train; name the split, or its folder"
    )


def test_a_file_that_is_not_text_names_itself(tmp_path: Path, refusal) -> None:
    root = lay(tmp_path / "d", CLASSES | {"neg/c.txt": b"caf\xe9"})
    assert refusal(read, root).startswith("TMP/d/neg/c.txt:1: byte 0xE9 at offset 3 is not UTF-8; ")
    root = lay(tmp_path / "d", {"neg/c.txt": b"a\0b"})
    assert refusal(read, root).startswith("TMP/d/neg/c.txt:1: the line contains a NUL byte; ")
    lay(tmp_path / "d", {"neg/c.txt": "a" * 4_000_001})
    assert refusal(read, root).startswith("TMP/d/neg/c.txt: the file is too large; ")


def test_a_folder_is_bounded(tmp_path: Path, refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    from pennyweight.data.formats import folder

    root = lay(tmp_path / "d", CLASSES)
    assert "TMP/d: the folder is too large; expected at most " in refusal(read, root, max_bytes=8)
    monkeypatch.setattr(folder, "MAX_FILES", 3)
    assert "TMP/d: the folder is too large; expected at most 3 files and " in refusal(read, root)


def test_a_link_that_leads_out_is_not_followed(tmp_path: Path, refusal) -> None:
    root = lay(tmp_path / "d", CLASSES)
    (tmp_path / "secret.txt").write_text("secret")
    (root / "pos" / "link.txt").symlink_to(tmp_path / "secret.txt")
    assert refusal(read, root) == (
        "TMP/d/pos/link.txt: a link that leads out of the folder; put the file itself in its place"
    )


@pytest.mark.parametrize("place", ["", "data/"])
def test_data_files_by_split(tmp_path: Path, refusal, place: str) -> None:
    frame = pd.DataFrame({"text": ["a", "b", "c"], "label": ["x", "y", "x"]})
    root = lay(
        tmp_path / "d",
        {
            "README.md": "# Data",
            f"{place}train-00000-of-00002.parquet": frame[:2].to_parquet(index=False),
            f"{place}train-00001-of-00002.parquet": frame[2:].to_parquet(index=False),
            f"{place}validation.csv": "text,label\nd,x\n",
        },
    )
    table = read(root)
    assert (table.texts, table.labels, table.lines) == (["a", "b", "c"], ["x", "y", "x"], [1, 2, 3])
    assert read(root, split="dev").texts == ["d"]
    assert read_in_blocks(root, split="dev").streamed
    assert [text for split in ("train", "dev") for text in read_in_blocks(root, split=split).each_text()] == list(
        "abcd"
    )
    assert f"TMP/d{'/data' if place else ''}: no split named test; expected one of train, validation" in refusal(
        read, root, split="test"
    )


def test_folders_that_are_not_guessed(tmp_path: Path, refusal) -> None:
    two = lay(tmp_path / "two", {"train_text.txt": "a\n", "train_labels.txt": "0\n"})
    assert refusal(read, two) == (
        "TMP/two: the folder contains several files of split train; received train_labels.txt, train_text.txt; "
        "name one of them, or texts and labels: TMP/two/train_text.txt,TMP/two/train_labels.txt"
    )
    assert "received a folder with a.txt, b.txt; name one of its files" in refusal(
        read, lay(tmp_path / "flat", {"a.txt": "a", "b.txt": "b"})
    )
    assert "received a folder with news.csv, x/, y/; name one of its files" in refusal(
        read, lay(tmp_path / "mixed", {"news.csv": "text\n", "x/a.txt": "a", "y/b.txt": "b"})
    )
    (tmp_path / "empty").mkdir()
    assert refusal(read, tmp_path / "empty").endswith("received an empty folder")
