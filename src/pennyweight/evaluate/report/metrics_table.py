"""The metrics as plain text."""

from __future__ import annotations

from ..metrics.classification import Metrics
from .figures import short
from .text_table import text_table


def metrics_table(metrics: Metrics) -> str:
    """The figures as plain text, percentages with one decimal; no final newline."""
    averages = {name: getattr(metrics, name) for name in ("micro", "macro", "weighted", "samples")}
    shown = {f"{name} average": average for name, average in averages.items() if average is not None}
    thresholds = metrics.thresholds or ()
    header = ["label" if thresholds else "class", "precision %", "recall %", "F1 %"]
    header += ["threshold", "texts"] if thresholds else ["texts"]
    blank = [""] * (len(header) - 4)
    rows = [
        [
            short(row.name, 40), *map(_percent, (row.precision, row.recall, row.f1)),
            *(f"{threshold:.3f}" for threshold in thresholds[place : place + 1]), f"{row.support:,}",
        ]
        for place, row in enumerate(metrics.per_class)
    ]  # fmt: skip
    rows += [
        [name, *map(_percent, (average.precision, average.recall, average.f1)), *blank]
        for name, average in shown.items()
    ]
    return "\n".join([*_headline(metrics), "", text_table(header, rows)])


def _headline(metrics: Metrics) -> list[str]:
    low, high = metrics.accuracy_interval
    interval = f"{_percent(metrics.accuracy)}% (95% interval {_percent(low)} to {_percent(high)})"
    unknown = []
    if metrics.unknown:
        counted = "exact match" if metrics.multi_label else "accuracy"
        unknown = [
            f"{metrics.unknown:,} texts with unknown labels count as wrong in the {counted}; all else is of the other "
            f"{metrics.n:,}"
        ]
    if metrics.micro is None or metrics.hamming is None:
        return [
            f"accuracy {interval}, {metrics.n + metrics.unknown:,} texts",
            *unknown,
            f"log loss {metrics.log_loss:.4f} nats, calibration error {_percent(metrics.ece or 0.0)}%",
        ]
    return [
        f"micro F1 {_percent(metrics.micro.f1)}%, macro F1 {_percent(metrics.macro.f1)}%, {metrics.n:,} texts",
        f"exact match {interval}, Hamming loss {_percent(metrics.hamming)}%, log loss {metrics.log_loss:.4f} nats",
        *unknown,
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
