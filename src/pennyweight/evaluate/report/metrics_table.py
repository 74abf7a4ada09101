"""The metrics as plain text."""

from __future__ import annotations

from ..metrics.classification import ClassRow, Metrics
from .figures import short
from .text_table import GAP, TERMINAL, column_widths, text_table

MOST, WORST = 100, 20  # of more classes only the worst are shown
LONGEST, SHORTEST = 40, 16  # a class's name, where it must make room for the figures; in cells of a terminal


def metrics_table(metrics: Metrics) -> str:
    """The figures as plain text, percentages with one decimal; fits 80 columns; no final newline.

    Of more than `MOST` classes the `WORST` by F1 are shown, of those that occur.
    """
    averages = {name: getattr(metrics, name) for name in ("micro", "macro", "weighted", "samples")}
    shown = {f"{name} average": average for name, average in averages.items() if average is not None}
    thresholds = metrics.thresholds or ()
    header = ["label" if thresholds else "class", "precision %", "recall %", "F1 %"]
    header += ["threshold"] if thresholds else []
    areas, precisions = _ranking_cells(metrics)
    header += (["AUC %"] if areas else []) + (["AP %"] if precisions else [])
    blank = [""] * (len(header) - 3)
    header += ["texts"]
    rows = [
        [
            short(row.name, LONGEST), *map(_percent, (row.precision, row.recall, row.f1)),
            *(f"{threshold:.3f}" for threshold in thresholds[place : place + 1]),
            *areas[place : place + 1], *precisions[place : place + 1], f"{row.support:,}",
        ]
        for place, row in _shown(metrics)
    ]  # fmt: skip
    rows += [
        [name, *map(_percent, (average.precision, average.recall, average.f1)), *blank]
        for name, average in shown.items()
    ]
    figures = sum(GAP + width for width in column_widths(header, rows)[1:])
    room = max(SHORTEST, min(LONGEST, TERMINAL - figures))
    rows = [[_fitted(name, room), *cells] for name, *cells in rows]
    classes, what = len(metrics.per_class), "labels" if thresholds else "classes"
    note = [f"the {WORST} of {classes:,} {what} with the lowest F1; --json shows all"] if classes > MOST else []
    return "\n".join([*_headline(metrics), "", *note, text_table(header, rows)])


def _shown(metrics: Metrics) -> list[tuple[int, ClassRow]]:
    """The classes of the table, each with its number."""
    every = list(enumerate(metrics.per_class))
    if len(every) <= MOST:
        return every
    return sorted(every, key=lambda one: (not one[1].support, one[1].f1))[:WORST]


def _fitted(name: str, cells: int) -> str:
    """A name that takes at most so many cells of a terminal."""
    from rich.cells import cell_len

    longest = cells
    while cell_len(fitted := short(name, longest)) > cells:
        longest -= 1
    return fitted


def _ranking_cells(metrics: Metrics) -> tuple[list[str], list[str]]:
    """ROC-AUC and average precision of each label; of two classes the area, which both share, is in the headline."""
    if metrics.ranking is None:
        return [], []
    areas, precisions = (
        ["" if value is None else _percent(value) for value in each]
        for each in (metrics.ranking.roc_auc, metrics.ranking.average_precision)
    )
    return (areas if metrics.multi_label else []), precisions


def _headline(metrics: Metrics) -> list[str]:
    low, high = metrics.accuracy_interval
    interval = f"{_percent(metrics.accuracy)}% (95% interval {_percent(low)} to {_percent(high)})"
    unknown = []
    if metrics.unknown:
        counted = "exact match" if metrics.multi_label else "accuracy"
        unknown = [
            f"{metrics.unknown:,} texts with unknown labels count as wrong in the {counted}; the other metrics use the "
            f"remaining {metrics.n:,} texts"
        ]
    if metrics.micro is None or metrics.hamming is None:
        return [
            f"accuracy {interval}, {metrics.n + metrics.unknown:,} texts",
            *unknown,
            f"log loss {metrics.log_loss:.4f} nats, calibration error {_percent(metrics.ece or 0.0)}%{_area(metrics)}",
        ]
    return [
        f"micro F1 {_percent(metrics.micro.f1)}%, macro F1 {_percent(metrics.macro.f1)}%{_area(metrics)}, "
        f"{metrics.n:,} texts",
        f"exact match {interval}",
        f"Hamming loss {_percent(metrics.hamming)}%, log loss {metrics.log_loss:.4f} nats",
        *unknown,
    ]


def _area(metrics: Metrics) -> str:
    found = None if metrics.ranking is None else metrics.ranking.macro_roc_auc
    words = "macro ROC-AUC" if metrics.multi_label else "ROC-AUC"
    return "" if found is None else f", {words} {_percent(found)}%"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
