"""A run as seen from a terminal."""

from __future__ import annotations

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
        # The stream is asked as well: rich takes FORCE_COLOR, which many CI systems set, for a terminal.
        console = self._console
        if not console.is_terminal or console.is_dumb_terminal or not console.file.isatty():
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
