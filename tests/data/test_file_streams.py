import gzip
import os
import tracemalloc
from pathlib import Path

import pytest

from pennyweight.data import file_streams as source
from pennyweight.data.file_streams import is_compressed, open_bytes, read_bytes, read_lines, suggest_names
from pennyweight.data.sources import read

LIMIT = 1 << 30


def lines(path: Path, limit: int = LIMIT) -> list[str]:
    return list(read_lines(path, limit))


def test_lines_are_physical_and_keep_their_ends(file) -> None:
    path = file("f.txt", "one\r\ntwo\u2028still two\x0b\nthree")
    assert lines(path) == ["one\r\n", "two\u2028still two\x0b\n", "three"]


def test_a_byte_order_mark_is_dropped(file) -> None:
    assert lines(file("f.txt", b"\xef\xbb\xbftext")) == ["text"]


def test_gzip_is_told_by_its_bytes(file) -> None:
    assert lines(file("named.gz", gzip.compress(b"a\nb"))) == ["a\n", "b"]
    unnamed = file("unnamed.csv", gzip.compress(b"a\nb"))
    assert lines(unnamed) == ["a\n", "b"]
    assert is_compressed(unnamed)
    assert not is_compressed(file("plain.csv", b"a"))
    assert not is_compressed(unnamed.with_name("absent"))


def test_a_name_that_says_gzip_and_content_that_does_not(file, refusal) -> None:
    assert refusal(lines, file("f.csv.gz", "text")) == (
        "TMP/f.csv.gz: the suffix stands for gzip, but the content is not gzip; rename it without .gz or compress it"
    )


def test_a_wrong_encoding_names_byte_offset_and_line(file, refusal) -> None:
    path = file("f.csv", "text,label\nna\u00efve,x\n".encode() + "caf\u00e9,y\n".encode("latin-1"))
    assert refusal(lines, path) == (
        "TMP/f.csv:3: byte 0xE9 at offset 23 is not UTF-8; expected UTF-8; "
        "name it, such as --encoding cp1252, or convert it: iconv -f WINDOWS-1252 -t UTF-8"
    )


@pytest.mark.parametrize("offset", [(1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_the_offset_holds_across_blocks(file, refusal, offset: int) -> None:
    # A two-byte letter lies across the border of the blocks that the search reads, before the byte at fault.
    path = file("f.txt", b"\n" + b"a" * (offset - 3) + "é".encode() + b"\xff")
    message = refusal(lines, path)
    assert message.startswith(f"TMP/f.txt:2: byte 0xFF at offset {offset:,} is not UTF-8")


def test_a_letter_cut_off_by_the_end(file, refusal) -> None:
    message = refusal(lines, file("f.txt", b"ok\n\xe2\x82"))
    assert message.startswith("TMP/f.txt:2: byte 0xE2 at offset 3 is not UTF-8")


@pytest.mark.parametrize(("codec", "name"), [("utf-16", "UTF-16"), ("utf-32", "UTF-32")])
def test_other_unicode_is_named(file, refusal, codec: str, name: str) -> None:
    message = refusal(lines, file("f.csv", "text,label\n".encode(codec)))
    assert message == (
        f"TMP/f.csv: the file is {name}; expected UTF-8; name it with --encoding {codec}, "
        f"or convert it: iconv -f {name} -t UTF-8"
    )


def test_a_nul_byte_names_the_line(file, refusal) -> None:
    assert refusal(lines, file("f.csv", b"a\nb\0c\n")) == (
        "TMP/f.csv:2: the line contains a NUL byte; expected UTF-8 text; "
        "the file is damaged, binary or UTF-16: export it again as UTF-8"
    )


def test_a_line_without_end_is_not_read_to_its_end(file, refusal, monkeypatch) -> None:
    monkeypatch.setattr(source, "MAX_LINE", 1000)
    assert refusal(lines, file("f.csv", "ok\n" + "a" * 5000)) == (
        "TMP/f.csv:2: the line is too long; expected at most 1,000 characters; cut it or leave it out"
    )


@pytest.mark.parametrize("cut", [5, 30, -9, -4])
def test_a_cut_gzip_file(file, refusal, cut: int) -> None:
    path = file("f.csv.gz", gzip.compress(os.urandom(2000).hex().encode())[:cut])
    assert refusal(lines, path) == (
        "TMP/f.csv.gz: the gzip file is damaged or was cut off; received Compressed file ended before the "
        "end-of-stream marker was reached; fetch or compress it again"
    )


@pytest.mark.parametrize("position", [2, 30, 600, -6, -1])
def test_a_damaged_gzip_file(file, refusal, position: int) -> None:
    content = bytearray(gzip.compress(os.urandom(2000).hex().encode()))
    content[position] ^= 0xFF
    message = refusal(lines, file("f.csv.gz", bytes(content)))
    assert message.startswith("TMP/f.csv.gz: the gzip file is damaged or was cut off; received ")


def test_the_limit_counts_what_comes_out_of_gzip(file, refusal) -> None:
    path = file("f.csv.gz", gzip.compress(b"text\n" * 400))
    assert len(lines(path, 2000)) == 400
    assert refusal(lines, path, 1999) == (
        "TMP/f.csv.gz: the file is too large once decompressed; expected at most 1,999 bytes; "
        "split it, or read it with a higher max_bytes"
    )
    plain = file("f.csv", b"text\n" * 400)
    assert refusal(read_bytes, plain, 1999).startswith("TMP/f.csv: the file is too large; expected at most 1,999")


def test_a_bomb_is_refused_long_before_the_limit(file, refusal, monkeypatch) -> None:
    monkeypatch.setattr(source, "BOMB_FLOOR", 1 << 20)
    path = file("f.csv.gz", gzip.compress(b"text,label\n" * 500_000))
    message = refusal(lines, path)
    assert message.startswith(
        "TMP/f.csv.gz: the gzip file looks like a decompression bomb; expected at most 200 times its"
    )


def test_a_bomb_is_known_before_a_row_is_kept(file, refusal, monkeypatch) -> None:
    monkeypatch.setattr(source, "BOMB_FLOOR", 1 << 20)
    path = file("f.jsonl.gz", gzip.compress(b'{"text": "a", "label": 1}\n' * 1_000_000))
    tracemalloc.start()
    try:
        message = refusal(read, path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert message.startswith("TMP/f.jsonl.gz: the gzip file looks like a decompression bomb")
    assert peak < 16 << 20


def test_a_file_that_may_not_be_read(file, refusal, monkeypatch) -> None:
    path = file("f.csv", "a")

    def deny(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    assert refusal(read_bytes, path, LIMIT) == "TMP/f.csv: cannot read the file (Permission denied)"


def test_bytes_come_back_whole(file) -> None:
    content = os.urandom(3 << 20)
    assert read_bytes(file("a.bin", content), LIMIT) == content
    with open_bytes(file("b.bin.gz", gzip.compress(content)), LIMIT) as stream:
        assert stream.read(10) == content[:10]


def test_near_names(file, tmp_path: Path) -> None:
    file("train.csv", "")
    assert suggest_names(tmp_path / "trian.csv") == f"did you mean {tmp_path}/train.csv?"
    assert suggest_names(tmp_path / "quite-another.parquet") is None
    assert suggest_names(tmp_path / "none" / "f.csv") == f"the folder {tmp_path}/none does not exist either"


def test_a_named_encoding(file, refusal) -> None:
    path = file("f.csv", "text,label\ncaf\u00e9,y\n".encode("cp1252"))
    assert list(read_lines(path, LIMIT, "cp1252")) == ["text,label\n", "caf\u00e9,y\n"]
    for codec in ("utf-16-le", "utf-16-be", "utf-8", "utf-8-sig"):
        marked = file("f.txt", "\ufeffcaf\u00e9\n".encode(codec.removesuffix("-sig")))
        assert list(read_lines(marked, LIMIT, codec)) == ["caf\u00e9\n"]
    assert list(read_lines(file("f.txt", "caf\u00e9".encode("utf-16")), LIMIT, "utf-16")) == ["caf\u00e9"]
    assert refusal(list, read_lines(file("g.csv", b"a\nb\x81\n"), LIMIT, "cp1252")) == (
        "TMP/g.csv:2: byte 0x81 at offset 3 is not cp1252; expected cp1252; "
        "name another with --encoding, such as --encoding cp1252"
    )


@pytest.mark.parametrize("name", ["nonsense", "base64", "rot13", "no\0name"])
def test_no_such_encoding(file, refusal, name: str) -> None:
    assert refusal(list, read_lines(file("f.csv", "a"), LIMIT, name)) == (
        f"no such character encoding; expected one such as utf-8, cp1252, latin-1 or utf-16; received {name}"
    )


@pytest.mark.parametrize(("codec", "mark"), [("utf-8-sig", "UTF-8"), ("utf-16", "UTF-16")])
def test_a_byte_order_mark_contradicts_the_named_encoding(file, refusal, codec: str, mark: str) -> None:
    assert refusal(list, read_lines(file("f.csv", "text".encode(codec)), LIMIT, "latin-1")) == (
        f"TMP/f.csv: the first bytes show that the file is {mark}; expected what --encoding says, latin-1"
    )
