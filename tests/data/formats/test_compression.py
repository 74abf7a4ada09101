"""Compressed files: gzip, bzip2, xz and zip archives of one file, in every format; what is damaged or hostile."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import zipfile

import pytest

from pennyweight.data.row_blocks import read_in_blocks
from pennyweight.data.sources import read

CSV = b"text,label\na,x\nb,y\n"
FASTTEXT = b"__label__x a\n__label__y b\n"


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


PACK = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zip": lambda data: zipped({"inner": data})}


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize(("name", "content"), [("f.csv", CSV), ("f.txt", FASTTEXT)])
def test_each_compression_is_told_by_its_bytes(file, kind: str, name: str, content: bytes) -> None:
    packed = PACK[kind](content) if kind != "zip" else zipped({name: content})
    for called in (f"{name}.{kind}", name):
        path = file(called, packed)
        table = read(path)
        assert (table.texts, table.labels) == (["a", "b"], ["x", "y"])
        assert list(read_in_blocks(path).each_text()) == ["a", "b"]


def test_a_zip_archive_is_read_by_the_name_in_it(file) -> None:
    extra = {"__MACOSX/._data.tsv": b"\0", "folder/.DS_Store": b"\0"}
    path = file("archive.zip", zipped({"folder/data.tsv": CSV.replace(b",", b"\t"), **extra}))
    assert read(path).labels == ["x", "y"]


def test_parquet_in_an_archive(file) -> None:
    import pandas as pd

    content = pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"]}).to_parquet()
    for kind, pack in PACK.items():
        packed = pack(content) if kind != "zip" else zipped({"f.parquet": content})
        assert read(file(f"f.parquet.{kind}", packed)).labels == ["x", "y"]


def test_archives_that_are_refused(file, refusal) -> None:
    assert refusal(read, file("f.zip", zipped({"train.csv": CSV, "test.csv": CSV}))) == (
        "TMP/f.zip: the zip archive contains several files; expected one data file; received train.csv, test.csv; "
        "unpack it and name the file"
    )
    assert refusal(read, file("f.zip", zipped({}))) == (
        "TMP/f.zip: the zip archive contains no file; expected one data file"
    )
    made = bytearray(zipped({"f.csv": CSV}))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag that says encrypted
        made[made.index(mark) + place] |= 1
    assert refusal(read, file("f.csv.zip", bytes(made))) == (
        "TMP/f.csv.zip: the zip archive is encrypted; unpack it with the password first"
    )
    method = bytearray(zipped({"f.csv": CSV}))
    for mark, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        struct.pack_into("<H", method, method.index(mark) + place, 97)
    assert "the file in the zip archive cannot be read; received That compression method is not supported" in refusal(
        read, file("f.csv.zip", bytes(method))
    )
    inner = {"g.zip": zipped({"g.csv": CSV})}
    assert "an archive in an archive, which is not supported" in refusal(read, file("f.zip", zipped(inner)))
    twice = {"g.csv.gz": gzip.compress(CSV)}
    assert "compressed twice, which is not supported" in refusal(read, file("f.zip", zipped(twice)))


@pytest.mark.parametrize("kind", PACK)
def test_damage_is_one_line(file, refusal, kind: str) -> None:
    words = "".join(f"text {number},{'xy'[number % 2]}\n" for number in range(5000)).encode()
    whole = PACK[kind](b"text,label\n" + words)
    for damaged in (whole[: len(whole) // 2], whole[:40] + bytes([whole[40] ^ 0xFF]) + whole[41:]):
        message = refusal(read, file(f"f.csv.{kind}", damaged))
        assert message.startswith("TMP/f.csv.")
        assert "damaged or was cut off" in message


@pytest.mark.parametrize("kind", PACK)
def test_bombs_are_refused(file, refusal, kind: str) -> None:
    packed = PACK[kind](b"text\n" + b"a" * (80 << 20))
    for reader in (read, read_in_blocks):
        message = refusal(reader, file(f"f.csv.{kind}", packed))
        assert "looks like a decompression bomb" in message
    assert "too large once decompressed" in refusal(read, file("g.csv.xz", lzma.compress(CSV)), max_bytes=5)


def test_a_name_that_says_another_compression(file, refusal) -> None:
    for kind, name in (("gz", "gzip"), ("bz2", "bzip2"), ("xz", "xz"), ("zip", "zip")):
        assert refusal(read, file(f"f.csv.{kind}", CSV)) == (
            f"TMP/f.csv.{kind}: the suffix stands for {name}, but the content is not {name}; rename it without .{kind} "
            f"or compress it"
        )


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_streams_that_follow_one_another_are_one_file(file, refusal, kind: str) -> None:
    pack = PACK[kind]
    first, second = pack(b"text,label\na,x\n"), pack(b"b,y\n")
    for number, packed in enumerate((
        first + second, first + pack(b"") + second, pack(b"") + first + second, first + second + bytes(512),
    )):  # fmt: skip
        assert read(file(f"{number}.csv.{kind}", packed)).texts == ["a", "b"]
    for number, packed in enumerate((
        first + b"junk", first + second[:-3], first + bytes([second[0] ^ 0xFF]) + second[1:],
    )):  # fmt: skip
        assert "damaged or was cut off" in refusal(read, file(f"damaged{number}.csv.{kind}", packed))
    assert "the file is empty" in refusal(read, file(f"empty.csv.{kind}", pack(b"")))
