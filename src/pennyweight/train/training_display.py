"""The display of a training run: on a terminal, in a notebook, or as lines."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any

from ..data.table import visible
from .observer import ROOT, Observer, forward_log


class TrainingDisplay:
    """A training run on a terminal or in a notebook: a spinner, then a bar while it trains, and what is logged above.

    Elsewhere what is logged, and a line an evaluation.

    Args:
        say: prints a line where there is nothing to print above; None for standard error.
    """

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self._console = _console()
        self._say = say or self._write
        self._live: Any = None
        self._bar: Any = None
        self._steps = (0, 0)
        self._evaluated = False
        self._texts_per_second = 0.0

    def __enter__(self) -> TrainingDisplay:
        self._spin("preparing")
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    def say(self, message: str) -> None:
        """Print a line, above the bar where there is one."""
        if self._bar is not None and self._evaluated:  # no step came after the evaluation: training is over
            self._spin("measuring")
        self._print(message)

    def step(self, step: int, total: int, loss: float, rate: float, texts: int, seconds: float) -> None:
        self._steps, self._evaluated = (step, total), False
        if not shows_bars(self._console):
            return
        if self._bar is None:
            self._start_bar(total)
        # Smoothed over about twenty steps: single steps differ with their texts' length.
        now = texts / seconds if seconds else 0.0
        self._texts_per_second += (now - self._texts_per_second) * (0.05 if self._texts_per_second else 1.0)
        figures = f"loss {loss:.3f}  {self._texts_per_second:,.0f} texts/s"
        self._bar.update(self._bar.task_ids[0], completed=step, figures=figures)

    def evaluation(self, record: dict[str, Any]) -> None:
        self._evaluated = True
        step, total = self._steps
        # The number of epochs is unknown where a resumed run has no step left.
        epochs = f"/{record['epoch'] * total / step:.3g}" if step else ""
        words = [f"epoch {record['epoch']:.3g}{epochs}", f"loss {record['train_loss']:.3f}"]
        if "validation_loss" in record:
            words.append(f"val loss {record['validation_loss']:.3f}")
        if "micro_f1" in record:
            words.append(f"val micro F1 {record['micro_f1']:.1%}")
        elif "accuracy" in record:
            words.append(f"val acc {record['accuracy']:.1%}")
        self._print("  ".join(words))

    def _print(self, message: str) -> None:
        if self._live is None:
            self._say(message)
        else:
            self._write(message)

    def _write(self, message: str) -> None:
        from rich.text import Text

        self._console.print(Text(visible(message), overflow="fold"))

    def _spin(self, words: str) -> None:
        self._stop()
        if shows_bars(self._console):
            self._live = self._console.status(words)
            self._live.start()

    def _start_bar(self, total: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        self._stop()
        # On a narrow terminal the bar alone gives way.
        steps, left = (kind(table_column=Column(no_wrap=True)) for kind in (MofNCompleteColumn, TimeRemainingColumn))
        self._live = self._bar = Progress(
            TextColumn("training"), BarColumn(), TextColumn("step"), steps,
            TextColumn(" {task.fields[figures]} "), left, TextColumn("left"),
            console=self._console, transient=True,
        )  # fmt: skip
        self._bar.add_task("training", total=total, figures="")
        self._bar.start()

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
        self._live = self._bar = None


@contextmanager
def followed(observer: Observer | None, progress: bool | None) -> Iterator[Observer | None]:
    """Who follows a run started from Python: the observer given, or a display where a person watches.

    Args:
        progress: True shows the display anywhere, False nowhere; None on a terminal and in a notebook (lines alone
            where that has no widgets), unless there is an observer.

    Yields:
        The observer to pass on. What is logged is shown too, unless the program shows its log itself.
    """
    if progress is None:
        console = _console()
        progress = observer is None and (console.is_jupyter or shows_bars(console))
    if not progress:
        yield observer
        return
    with TrainingDisplay() as display, nullcontext() if _is_log_shown() else forward_log(display.say):
        yield display if observer is None else _Both(observer, display)


class _Both:
    """Two observers, the first of which may end the run."""

    def __init__(self, first: Observer, second: Observer) -> None:
        self._all = (first, second)

    def step(self, step: int, total: int, loss: float, rate: float, texts: int, seconds: float) -> None:
        for one in self._all:
            one.step(step, total, loss, rate, texts, seconds)

    def evaluation(self, record: dict[str, Any]) -> None:
        for one in self._all:
            one.evaluation(record)


def _is_log_shown() -> bool:
    """Whether the program has set up logging, so that what is logged would be shown twice."""
    mine = logging.getLogger(ROOT)
    handlers = [*mine.handlers, *(logging.getLogger().handlers if mine.propagate else [])]
    shown = any(not isinstance(handler, logging.NullHandler) for handler in handlers)
    return shown and mine.isEnabledFor(logging.INFO)


def shows_bars(console: Any) -> bool:
    """Whether a bar can move here: on a terminal that moves its cursor, or in a notebook that has widgets."""
    if console.is_jupyter:
        return find_spec("ipywidgets") is not None
    # The stream is asked as well: rich takes FORCE_COLOR, which many CI systems set, for a terminal.
    return bool(console.is_terminal and not console.is_dumb_terminal and console.file.isatty())


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True)
