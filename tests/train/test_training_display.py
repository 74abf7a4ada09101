"""A training run on a terminal, in a notebook, and off them."""

from __future__ import annotations

import io
import logging
import re

import pytest
from rich.console import Console

from pennyweight.train import training_display
from pennyweight.train.training_display import TrainingDisplay, followed


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


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> tuple[TrainingDisplay, Terminal]:
    """A display on a terminal of 80 columns without colour, and what that shows."""
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    progress = TrainingDisplay(lambda line: None)
    monkeypatch.setattr(progress, "_console", Console(file=terminal, force_terminal=True, width=80, no_color=True))
    return progress, terminal


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    progress, terminal = on_a_terminal(monkeypatch)
    with progress:
        steps(progress)
        progress._bar.refresh()
    shown = terminal.getvalue()
    for figure in ("step 3/3", "loss 0.167", "128 texts/s", "0:00:00 left"):
        assert figure in shown


def test_the_bar_is_one_line_of_80_columns_for_a_run_of_days(monkeypatch: pytest.MonkeyPatch) -> None:
    progress, terminal = on_a_terminal(monkeypatch)
    with progress:
        progress.step(912_345, 1_234_567, 12.3456, 1e-4, 32, 0.001)
        progress._bar.refresh()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).replace("\r", "\n")
    bars = [line for line in shown.splitlines() if "training" in line]
    assert {len(line) <= 80 for line in bars} == {True}
    line = bars[-1]
    for part in ("━", "step  912345/1234567", "loss 12.346", "32,000 texts/s", "left"):
        assert part in line


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


class Watched:
    """Remembers what it is told of a run."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def step(self, step: int, *figures: float) -> None:
        self.steps.append(step)

    def evaluation(self, record: dict[str, object]) -> None:
        self.steps.append(-1)


def test_from_python_there_is_a_display_only_where_a_person_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(training_display, "_console", lambda: Console(file=io.StringIO()))
    with followed(None, None) as observer:
        assert observer is None
    monkeypatch.setattr(
        training_display, "_console", lambda: Console(file=terminal, force_terminal=True, width=80, no_color=True)
    )
    mine = Watched()
    for given, progress in ((mine, None), (mine, False), (None, False)):
        with followed(given, progress) as observer:
            assert observer is given
    assert terminal.getvalue() == ""
    monkeypatch.setattr(training_display, "_is_log_shown", lambda: False)
    with followed(mine, True) as observer:
        assert observer is not None
        logging.getLogger("pennyweight.pipeline").info("data: 8 texts")
        steps(observer)
    assert mine.steps == [1, 2, 3, -1]
    assert "data: 8 texts" in terminal.getvalue()
    assert "epoch 1/1" in terminal.getvalue()


def test_a_log_that_the_program_shows_itself_is_not_shown_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, log = Terminal(), io.StringIO()
    monkeypatch.setattr(training_display, "_console", lambda: Console(file=terminal, force_terminal=True, width=80))
    logger, handler = logging.getLogger("pennyweight"), logging.StreamHandler(log)
    monkeypatch.setattr(logger, "handlers", [*logger.handlers, handler])
    monkeypatch.setattr(logger, "level", logging.INFO)
    logger.manager._clear_cache()
    with followed(None, True):
        logging.getLogger("pennyweight.pipeline").info("data: 8 texts")
    assert log.getvalue() == "data: 8 texts\n"
    assert "data" not in terminal.getvalue()


def test_a_notebook_without_widgets_gets_lines_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), force_jupyter=True)
    for package, shown in (("ipywidgets", True), (None, False)):
        monkeypatch.setattr(training_display, "find_spec", lambda name, found=package: found)
        assert training_display.shows_bars(console) is shown
    lines: list[str] = []
    monkeypatch.setattr(training_display, "_console", lambda: console)
    monkeypatch.setattr(training_display.TrainingDisplay, "_write", lambda self, line: lines.append(line))
    monkeypatch.setattr(training_display, "_is_log_shown", lambda: False)
    with followed(None, None) as observer:
        assert observer is not None
        steps(observer)
    assert lines == ["epoch 1/1  loss 0.250  val loss 0.500  val acc 87.5%"]
