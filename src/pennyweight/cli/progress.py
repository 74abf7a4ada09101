"""A run as seen from a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


class ProgressBar:
    """A progress bar on a terminal; elsewhere only a line per evaluation."""

    def __init__(self, say: Callable[[str], None]) -> None:
        from rich.console import Console

        self._say = say
        self._console = Console(stderr=True)
        self._bar: Any = None
        self._task: Any = None
        self._texts_per_second = 0.0

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, step: int, total: int, loss: float, rate: float, texts: int, seconds: float) -> None:
        if not _shows_bars(self._console):
            return
        if self._bar is None:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[figures]}"),
                TimeRemainingColumn(), console=self._console, transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task("training", total=total, figures="")
            self._bar.start()
        # Smoothed over about twenty steps: single steps differ with their texts' length.
        now = texts / seconds if seconds else 0.0
        self._texts_per_second += (now - self._texts_per_second) * (0.05 if self._texts_per_second else 1.0)
        figures = f"loss {loss:.3f}  lr {rate:.1e}  {self._texts_per_second:.0f} texts/s"
        self._bar.update(self._task, completed=step, figures=figures)

    def evaluation(self, record: dict[str, Any]) -> None:
        self._say(
            f"epoch {record['epoch']:.2f}: training loss {record['train_loss']:.4f}"
            + (f", validation loss {record['validation_loss']:.4f}" if "validation_loss" in record else "")
            + (
                f", validation micro F1 {record['micro_f1']:.2%}"
                if "micro_f1" in record
                else f", validation accuracy {record['accuracy']:.2%}"
                if "accuracy" in record
                else ""
            )
        )


class RowProgress:
    """Rows done, their rate and the time left, as a bar on a terminal; elsewhere nothing.

    Args:
        shown: False for no bar anywhere.
    """

    def __init__(self, shown: bool = True) -> None:
        self._shown = shown
        self._bar: Any = None
        self._task: Any = None
        self._words = ""
        self._rows: int | None = None

    def __enter__(self) -> RowProgress:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def begin(self, words: str, rows: int | None = None) -> None:
        """Begin a stage of the work, such as `reading`, of so many rows, if that is known."""
        self.end()
        self._words, self._rows = words, rows
        self._bar = _row_bar() if self._shown else None

    def update(self, done: int) -> None:
        """So many rows of this stage are done; those of the first call were done before it began."""
        if self._bar is None:
            return
        if self._task is None:
            # rich measures from its first update that changes something on: one row less makes this one count.
            self._task = self._bar.add_task(self._words, completed=done - 1, total=self._rows, figures="")
            self._bar.start()
        self._bar.update(self._task, completed=done)
        figures = f"{done:,}" if self._rows is None else f"{done:,}/{self._rows:,}"
        if speed := self._bar.tasks[0].speed:
            figures += f"  {speed:,.0f} texts/s"
        self._bar.update(self._task, figures=figures)

    def end(self) -> None:
        """End the stage: the bar goes."""
        if self._task is not None:
            self._bar.stop()
        self._bar = self._task = None


def _row_bar() -> Any:
    """A bar of rich's on a terminal that can show one, else None."""
    if not sys.stderr.isatty():
        return None  # before anything of rich is imported
    from rich.console import Console

    console = Console(stderr=True)
    if not _shows_bars(console):
        return None
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"), TimeRemainingColumn(),
        console=console, transient=True, redirect_stdout=False, speed_estimate_period=120.0,
    )  # fmt: skip


def _shows_bars(console: Any) -> bool:
    # The stream is asked as well: rich takes FORCE_COLOR, which many CI systems set, for a terminal.
    return bool(console.is_terminal and not console.is_dumb_terminal and console.file.isatty())
