"""Prediction's progress on a terminal and off it."""

from __future__ import annotations

import io

import pytest

from pennyweight.cli.progress import RowProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Errors(Terminal):
    """A terminal in place of standard error."""

    encoding = "utf-8"


def test_rows_on_a_terminal_have_a_bar_with_their_rate_and_total(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    terminal = Errors()
    monkeypatch.setattr("sys.stderr", terminal)
    with RowProgress() as progress:
        progress.begin("reading")
        progress.update(8192)
        progress.begin("predicting", 20_000)
        for done in (8192, 16_384):
            progress.update(done)
            progress._bar.refresh()
    shown = terminal.getvalue()
    assert "reading" in shown
    assert "8,192 " in shown
    assert "16,384/20,000" in shown
    assert "texts/s" in shown
    progress.update(20_000)  # after the end: nothing
    assert terminal.getvalue() == shown


def test_rows_off_a_terminal_or_not_shown_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal, shown in ((io.StringIO(), True), (Errors(), False)):
        monkeypatch.setattr("sys.stderr", terminal)
        with RowProgress(shown) as progress:
            progress.begin("predicting", 10)
            progress.update(10)
        assert terminal.getvalue() == ""
