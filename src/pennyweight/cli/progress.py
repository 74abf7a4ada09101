"""The progress of prediction on a terminal."""

from __future__ import annotations

import sys
from typing import Any

from ..train.training_display import shows_bars


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
    """A bar of rich's on a terminal that can show one, otherwise None."""
    if not sys.stderr.isatty():
        return None  # before anything of rich is imported
    from rich.console import Console

    console = Console(stderr=True)
    if not shows_bars(console):
        return None
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"), TimeRemainingColumn(),
        console=console, transient=True, redirect_stdout=False, speed_estimate_period=120.0,
    )  # fmt: skip
