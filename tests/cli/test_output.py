"""What is printed for people fits their terminal; what programs read is left as it is."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import termios
from collections.abc import Callable

import pytest

from pennyweight.cli.output import echo, echo_json, in_percent, note

LONG = "/a/path/that/has/no/blank/and/is/longer/than/a/line"


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, show: Callable[[], None]) -> str:
    """What `show` prints on a terminal of 40 columns."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    # In the test itself, not in a fixture: pytest puts its own stream back when a test begins.
    with os.fdopen(follower, "w", encoding="utf-8") as stdout, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", stdout)
        show()
        stdout.flush()
        shown = os.read(leader, 10_000).decode().replace("\r", "")
    os.close(leader)
    return shown


def test_a_terminal_gets_long_lines_wrapped_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"word  {'word ' * 9}\n  classes  {'name, ' * 8}\nin {LONG}, well-known\nshort"
    assert on_a_terminal(monkeypatch, lambda: echo(text)).splitlines() == [
        "word  word word word word word word word",
        "word word",
        "  classes  name, name, name, name, name,",
        "  name, name, name,",
        "in",
        f"{LONG},",
        "well-known",
        "short",
    ]


def test_json_is_not_wrapped_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = on_a_terminal(monkeypatch, lambda: echo_json({"key": "word " * 20}))
    assert len(shown.splitlines()) == 3
    assert json.loads(shown) == {"key": "word " * 20}


def test_a_pipe_gets_lines_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    echo("word " * 50)
    echo("word " * 50, err=True)
    assert capsys.readouterr() == ("word " * 50 + "\n",) * 2


def test_no_probability_is_shown_as_certain() -> None:
    assert [in_percent(each) for each in (0.0, 0.504, 0.994, 0.996, 1.0)] == ["0%", "50%", "99%", ">99%", ">99%"]


def test_a_note_that_cannot_be_written_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        note("a line")
        note("another")
        stderr.flush()
