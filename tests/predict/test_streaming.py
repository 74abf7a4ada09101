"""Standard input and pipes in a process of its own: answered as they come, and ended quietly."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import pennyweight as pw
from pennyweight.data.file_streams import MAX_LINE
from pennyweight.errors import DataError
from pennyweight.predict.streaming import read_lines

ROOT = Path(__file__).parents[2]
TEXTS = ["The bank and the rate.", "", "The striker and the cup.", "Voters in the valley."]
LINES = "".join(json.dumps({"id": number, "text": text}) + "\n" for number, text in enumerate(TEXTS))
Command = Callable[..., Any]


def plain_signals() -> None:
    """Whoever starts the tests in the background hands down an ignored SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def start(*arguments: object, **streams: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pennyweight", "predict", *map(str, arguments)],
        **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams},
        text=True, preexec_fn=plain_signals, env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip


def ask(process: subprocess.Popen[str], number: int, text: str) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps({"id": number, "text": text}) + "\n")
    process.stdin.flush()
    return dict(json.loads(process.stdout.readline()))


def test_stdin_is_answered_before_it_is_closed(tiny_run: Path) -> None:
    process = start(tiny_run, "-")
    for number, text in enumerate(TEXTS[:2]):
        found = ask(process, number, text)
        assert (found["id"], found["text"]) == (number, text)
        assert found["label"] in ("Business", "Sports", "World")
    rest, err = process.communicate(timeout=120)
    assert (rest, err, process.returncode) == ("", "", 0)


def test_ctrl_c_while_it_waits_for_a_line(tiny_run: Path) -> None:
    process = start(tiny_run, "-")
    ask(process, 0, TEXTS[0])
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 130  # standard input is still open
    _, err = process.communicate()
    assert err == "stopped\n"


def test_a_reader_that_has_enough_while_more_lines_may_come(tiny_run: Path) -> None:
    process = start(tiny_run, "-")
    ask(process, 0, TEXTS[0])
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stdin.write(LINES)
    process.stdin.flush()
    assert process.wait(timeout=120) == 0
    assert process.stderr.read() == ""
    process.stdin.close()
    process.stderr.close()


def test_standard_input_that_is_closed(tiny_run: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-m", "pennyweight", "predict", str(tiny_run), "-"],
        capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, "error: standard input is closed\n")


def test_a_named_pipe_is_read_once(tiny_run: Path, tmp_path: Path, command: Command) -> None:
    os.mkfifo(tmp_path / "texts")
    out = tmp_path / "out.parquet"
    threading.Thread(target=(tmp_path / "texts").write_text, args=[LINES], daemon=True).start()
    done = command("predict", tiny_run, tmp_path / "texts", "--out", out)
    assert (done.code, done.out, done.err) == (0, "", f"4 texts labelled: {out}\n")
    table = pq.read_table(out).to_pydict()
    assert (table["id"], table["text"]) == ([0, 1, 2, 3], TEXTS)
    assert table["label"] == pw.load(tiny_run).predict(TEXTS)


def test_a_process_substitution_and_dev_stdin(tiny_run: Path, tmp_path: Path, command: Command) -> None:
    """What `<(cat lines)` makes of its pipe is a name like /dev/fd/63."""
    (tmp_path / "lines").write_text(LINES)
    expected = pw.load(tiny_run).predict(TEXTS)
    read, write = os.pipe()
    os.write(write, LINES.encode())
    os.close(write)
    kept = os.dup(0)
    try:
        with (tmp_path / "lines").open() as lines:
            os.dup2(lines.fileno(), 0)
        for name in (f"/dev/fd/{read}", "/dev/stdin"):
            done = command("predict", tiny_run, name)
            assert (done.code, done.err) == (0, ""), name
            assert [json.loads(line)["label"] for line in done.out.splitlines()] == expected, name
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(read)


def test_a_pipe_that_is_called_a_table_is_refused(tiny_run: Path, news: Path, tmp_path: Path, command: Command) -> None:
    os.mkfifo(tmp_path / "texts.csv")
    done = command("predict", tiny_run, tmp_path / "texts.csv")
    assert (done.code, done.error.replace(str(tmp_path), "TMP")) == (
        2, "TMP/texts.csv: a pipe is read line by line, as JSON lines or plain texts; received texts.csv; "
        "write it to a file first",
    )  # fmt: skip
    done = command("evaluate", tiny_run, tmp_path / "texts.csv")
    assert (done.code, done.error.replace(str(tmp_path), "TMP")) == (
        2, "TMP/texts.csv: a pipe can be read only once; expected a file; write it to a file first",
    )  # fmt: skip
    assert command("train", tmp_path / "texts.csv", "--out", tmp_path / "run").code == 2


def test_bytes_become_lines_as_they_come() -> None:
    class Slow(io.RawIOBase):
        """Gives what it is asked for in small pieces, as a terminal or a slow pipe does."""

        def __init__(self, *pieces: bytes) -> None:
            self.pieces = list(pieces)

        def read(self, size: int = -1) -> bytes:
            return self.pieces.pop(0) if self.pieces else b""

    given: Any = Slow(b"a", b"\xc3", b"\xa9\nb\n\n", b"c")
    assert list(read_lines(given, "f")) == ["a\u00e9\n", "b\n", "\n", "c"]
    endless: Any = Slow(b"ok\n", *[b"x" * (1 << 20)] * 20)
    lines = read_lines(endless, "f")
    assert next(lines) == "ok\n"
    with pytest.raises(DataError, match=f"^f:2: the line is too long; expected at most {MAX_LINE:,} bytes$"):
        next(lines)
    assert endless.pieces  # it was not read to its end
