"""A run on a terminal and off it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pennyweight.cli.progress import RowProgress, TrainingDisplay


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def steps(progress: TrainingDisplay) -> None:
    for step in range(1, 4):
        progress.step(step, 3, 0.5 / step, 1e-4, 32, 0.25)
    record = {"epoch": 1.0, "train_loss": 0.25, "validation_loss": 0.5, "accuracy": 0.875}
    progress.evaluation(record)


@pytest.mark.parametrize("set_by_ci", [{}, {"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1"}])
def test_off_a_terminal_there_is_a_line_an_evaluation(
    set_by_ci: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for name, value in set_by_ci.items():
        monkeypatch.setenv(name, value)
    said: list[str] = []
    with TrainingDisplay(said.append) as progress:
        steps(progress)
    assert said == ["epoch 1/1  loss 0.250  val loss 0.500  val acc 87.5%"]
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    progress = TrainingDisplay(lambda line: None)
    monkeypatch.setattr(progress, "_console", Console(file=terminal, force_terminal=True, width=80, no_color=True))
    with progress:
        steps(progress)
        progress._bar.refresh()
    shown = terminal.getvalue()
    assert "3/3" in shown
    for figure in ("loss 0.167", "lr 1.0e-04", "128 texts/s"):
        assert figure in shown


def test_what_is_logged_stands_above_the_bar_which_goes_when_training_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    display = TrainingDisplay(lambda line: pytest.fail("printed past the display"))
    monkeypatch.setattr(display, "_console", Console(file=terminal, force_terminal=True, width=60, no_color=True))
    with display:
        assert display._live is not None  # a spinner, while libraries load
        display.say("data: [bold]8 texts\x1b[2J")
        steps(display)
        assert display._bar is not None
        display.say("baselines: " + "word " * 20)
        assert display._bar is None
    shown = terminal.getvalue()
    assert "data: [bold]8 texts\\u001b[2J" in shown  # no markup, and nothing that the terminal would act on
    assert "epoch 1/1  loss 0.250" in shown
    lines = [line for line in shown.replace("\r", "\n").split("\n") if "word" in line]
    assert lines
    assert all(line.rstrip().endswith("word") for line in lines)  # wrapped between words


def test_a_terminal_that_cannot_move_its_cursor_gets_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()
    progress = TrainingDisplay(lambda line: None)
    monkeypatch.setattr(progress, "_console", Console(file=terminal, force_terminal=True, width=80))
    with progress:
        steps(progress)
    assert terminal.getvalue() == ""


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
