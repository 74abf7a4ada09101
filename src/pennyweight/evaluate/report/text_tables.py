"""What a run leaves to look at without a browser: a text table and PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..metrics.multi_label import MultilabelMetrics
from ..metrics.single_label import Averages, ClassRow, Metrics
from . import figures


def text_table(metrics: Metrics) -> str:
    """The figures as plain text, percentages with one decimal, no trailing newline."""
    low, high = metrics.accuracy_interval
    averages = {"macro average": metrics.macro, "weighted average": metrics.weighted}
    rows: list[tuple[str, ClassRow | Averages, str]] = [
        *((figures.short(row.name, 40), row, f"{row.support:,}") for row in metrics.per_class),
        *((name, average, "") for name, average in averages.items()),
    ]
    width = max(len(name) for name, *_ in rows)
    lines = [
        f"accuracy {_percent(metrics.accuracy)}% (95% interval {_percent(low)} to {_percent(high)}), "
        f"{metrics.n + metrics.unknown:,} texts",
        *unknown_line(metrics),
        f"log loss {metrics.log_loss:.4f} nats, calibration error {_percent(metrics.ece)}%",
        "",
        f"{'class':<{width}}  precision %  recall %    F1 %  texts",
    ]
    for name, value, support in rows:
        numbers = f"{_percent(value.precision):>11}  {_percent(value.recall):>8}  {_percent(value.f1):>6}"
        lines.append(f"{name:<{width}}  {numbers}  {support:>5}".rstrip())
    return "\n".join(lines)


def several_table(metrics: MultilabelMetrics) -> str:
    """As `text_table`, where a text may carry any number of labels."""
    low, high = metrics.exact_interval
    averages = {f"{name} average": getattr(metrics, name) for name in ("micro", "macro", "weighted", "samples")}
    rows: list[tuple[str, ClassRow | Averages, str]] = [
        *(
            (figures.short(row.name, 40), row, f"{threshold:9.3f}  {row.support:>5,}")
            for row, threshold in zip(metrics.per_label, metrics.thresholds, strict=True)
        ),
        *((name, average, "") for name, average in averages.items()),
    ]
    width = max(len(name) for name, *_ in rows)
    lines = [
        f"micro F1 {_percent(metrics.micro.f1)}%, macro F1 {_percent(metrics.macro.f1)}%, {metrics.n:,} texts",
        f"exact match {_percent(metrics.exact)}% (95% interval {_percent(low)} to {_percent(high)}), "
        f"Hamming loss {_percent(metrics.hamming)}%, log loss {metrics.log_loss:.4f} nats",
        *unknown_line(metrics),
        "",
        f"{'label':<{width}}  precision %  recall %    F1 %  threshold  texts",
    ]
    for name, value, rest in rows:
        numbers = f"{_percent(value.precision):>11}  {_percent(value.recall):>8}  {_percent(value.f1):>6}"
        lines.append(f"{name:<{width}}  {numbers}  {rest}".rstrip())
    return "\n".join(lines)


def unknown_line(metrics: Metrics | MultilabelMetrics) -> list[str]:
    """What is to be known where rows with unknown labels count as wrong; empty where there are none."""
    if not metrics.unknown:
        return []
    counted = "exact match" if isinstance(metrics, MultilabelMetrics) else "accuracy"
    return [
        f"{metrics.unknown:,} texts with unknown labels count as wrong in the {counted}; all else is of the other "
        f"{metrics.n:,}"
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def write_pictures(
    folder: str | Path, metrics: Metrics | None, history: Sequence[Mapping[str, Any]]
) -> tuple[Path, ...]:
    """Write `confusion.png` and, where there is a history, `curves.png`; returns their paths.

    Args:
        metrics: None where a text may carry several labels: then nothing is confused with one other.
        history: as in `figures.curves`.

    Raises:
        StorageError: when the disk is full or the folder cannot be written.
    """
    pictures = {} if metrics is None else {"confusion.png": figures.confusion(metrics)}
    if history:
        pictures["curves.png"] = figures.curves(history)
    paths = {Path(folder) / name: figure for name, figure in pictures.items()}
    for path, figure in paths.items():
        figures.save_png(figure, path)
    return tuple(paths)
