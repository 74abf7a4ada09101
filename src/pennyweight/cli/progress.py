"""A run as seen from a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from ..data.table import visible


class TrainingDisplay:
    """A training run on a terminal: a spinner, then a bar while it trains, and what is logged above them.

    Elsewhere what is logged, and a line an evaluation.

    Args:
        say: prints a line where there is nothing to print above.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        from rich.console import Console

        self._say = say
        self._console = Console(stderr=True)
        self._live: Any = None
        self._bar: Any = None
        self._steps = (0, 0)
        self._evaluated = False
        self._texts_per_second = 0.0

    def __enter__(self) -> TrainingDisplay:
        self._spin("starting")
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
        if not _shows_bars(self._console):
            return
        if self._bar is None:
            self._start_bar(total)
        # Smoothed over about twenty steps: single steps differ with their texts' length.
        now = texts / seconds if seconds else 0.0
        self._texts_per_second += (now - self._texts_per_second) * (0.05 if self._texts_per_second else 1.0)
        figures = f"loss {loss:.3f}  lr {rate:.1e}  {self._texts_per_second:.0f} texts/s"
        self._bar.update(self._bar.task_ids[0], completed=step, figures=figures)

    def evaluation(self, record: dict[str, Any]) -> None:
        self._evaluated = True
        step, total = self._steps
        epochs = (
            f"/{record['epoch'] * total / step:.3g}" if step else ""
        )  # unknown where a resumed run has no step left
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
            from rich.text import Text

            self._console.print(Text(visible(message), overflow="fold"))

    def _spin(self, words: str) -> None:
        self._stop()
        if _shows_bars(self._console):
            self._live = self._console.status(words)
            self._live.start()

    def _start_bar(self, total: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._stop()
        self._live = self._bar = Progress(
            TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(), console=self._console, transient=True,
        )  # fmt: skip
        self._bar.add_task("training", total=total, figures="")
        self._bar.start()

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
        self._live = self._bar = None


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
