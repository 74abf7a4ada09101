"""What is printed for people fits their terminal; what programs read is left as it is."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import termios

import pytest

from pennyweight.cli.output import echo, echo_json

LONG = "/a/path/that/has/no/blank/and/is/longer/than/a/line"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> int:
    """Standard output on a terminal of 40 columns; returns its other end."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    monkeypatch.setattr("sys.stdout", os.fdopen(follower, "w", encoding="utf-8"))
    return leader


def test_a_terminal_gets_long_lines_wrapped_between_words(terminal: int) -> None:
    echo(f"word  {'word ' * 9}\n  classes  {'name, ' * 8}\nin {LONG}, well-known\nshort")
    shown = os.read(terminal, 10_000).decode().replace("\r", "").splitlines()
    assert shown == [
        "word  word word word word word word word",
        "word word",
        "  classes  name, name, name, name, name,",
        "  name, name, name,",
        "in",
        f"{LONG},",
        "well-known",
        "short",
    ]


def test_json_is_not_wrapped_on_a_terminal(terminal: int) -> None:
    echo_json({"key": "word " * 20})
    shown = os.read(terminal, 10_000).decode()
    assert len(shown.splitlines()) == 3
    assert json.loads(shown) == {"key": "word " * 20}


def test_a_pipe_gets_lines_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    echo("word " * 50)
    echo("word " * 50, err=True)
    assert capsys.readouterr() == ("word " * 50 + "\n",) * 2
