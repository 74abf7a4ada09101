"""Runs side by side: each with its metrics, their intervals and its size, and every pair compared text by text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ..artifact.load_artifact import metrics_of, predictions_of
from ..artifact.saved_files import read_files
from ..data.html_table import html_text
from ..errors import ArtifactError, DataError, InputError
from ..evaluate.metrics.classification import Metrics
from ..evaluate.metrics.paired_tests import Comparison, compare, p_in_words
from ..evaluate.metrics.pareto_front import pareto_front
from ..evaluate.metrics.shift import Shift
from ..evaluate.report.pareto_plot import Point
from ..evaluate.report.text_table import TERMINAL, text_table
from ..evaluate.row_predictions import RowPredictions, aligned

LEVEL = 0.05  # a corrected p below it tells two runs apart


@dataclass(frozen=True)
class Run:
    """A finished run: its metrics on the test rows, its predictions for them, and what it cost.

    Attributes:
        labels: class names in label order.
        size: bytes of the saved classifier, the frozen backbone aside.
        seconds: training time.
        temperature: fitted on validation.
        extra: the whole metrics.json.
    """

    name: str
    labels: tuple[str, ...]
    metrics: Metrics
    predictions: RowPredictions
    trainable: int
    total: int
    seconds: float
    size: int
    temperature: float
    extra: dict[str, Any]


@dataclass(frozen=True)
class SideBySide:
    """Runs on the same test rows, all their pairs, and which of them no other beats in both accuracy and parameters."""

    runs: tuple[Run, ...]
    pairs: tuple[Comparison, ...]
    adjusted: tuple[float, ...]
    frontier: tuple[str, ...]

    @property
    def dominated(self) -> tuple[str, ...]:
        """The runs that another with no more parameters beats by the paired test, corrected for the number of pairs.

        A lower accuracy alone is not enough, and neither is being off the frontier, which knows only the figures.
        """
        price = {run.name: run.trainable for run in self.runs}
        beaten = set()
        for pair, adjusted in zip(self.pairs, self.adjusted, strict=True):
            sure = pair.p is None or adjusted < LEVEL
            if sure and pair.first_is_better and price[pair.first] <= price[pair.second]:
                beaten.add(pair.second)
            if sure and pair.second_is_better and price[pair.second] <= price[pair.first]:
                beaten.add(pair.first)
        return tuple(run.name for run in self.runs if run.name in beaten)

    def to_json(self) -> dict[str, Any]:
        """Plain values: one row a run, one a pair; `p_holm` is corrected for the number of pairs."""
        return {
            "runs": [
                _figures(run) | {"pareto": run.name in self.frontier, "dominated": run.name in self.dominated}
                for run in self.runs
            ],
            "pairs": [
                {
                    "first": pair.first,
                    "second": pair.second,
                    "n": pair.n,
                    "difference": pair.difference,
                    "interval": list(pair.interval),
                    "p": pair.p,
                    "p_holm": adjusted,
                    "sentence": str(pair),
                }
                for pair, adjusted in zip(self.pairs, self.adjusted, strict=True)
            ],
        }

    def points(self) -> list[Point]:
        """The points of the Pareto picture."""
        return [
            Point(
                run.name,
                run.trainable,
                run.metrics.accuracy,
                run.metrics.accuracy_interval,
                best=run.name in self.frontier,
                dominated=run.name in self.dominated,
            )
            for run in self.runs
        ]

    def _repr_html_(self) -> str:
        return html_text(str(self))

    def __str__(self) -> str:
        """Two plain text tables: the runs, then the pairs in words."""
        under = [name for name in ("held out %", "ood %") if any(name in _shifted(run) for run in self.runs)]
        lines = [
            [
                run.name,
                "dominated" if run.name in self.dominated else "best" if run.name in self.frontier else "",
                *_cells(run),
                *(f"{100 * _shifted(run)[name]:.1f}" if name in _shifted(run) else "" for name in under),
            ]
            for run in self.runs
        ]
        header = [
            "run", "for its size", "accuracy %", "95% interval", "macro F1 %", "ECE %", "parameters", "seconds",
            "size kB", *under,
        ]  # fmt: skip
        sentences = [
            f"{pair}"
            + (f"; {p_in_words(adjusted)} corrected for {len(self.pairs)} pairs" if len(self.pairs) > 1 else "")
            for pair, adjusted in zip(self.pairs, self.adjusted, strict=True)
        ]
        return "\n".join([text_table(header, lines, left=2, width=TERMINAL), "", *sentences])


def read_run(folder: str | Path) -> Run:
    """A run as it lies on disk; nothing is loaded that computes.

    Raises:
        ArtifactError: not a finished run, a damaged one, or one without kept predictions for test rows.
    """
    folder = Path(folder)
    saved = read_files(folder)
    values, kept = metrics_of(saved), predictions_of(saved)
    try:
        predictions = RowPredictions.from_arrays(kept, "test")
        if predictions is None:
            raise ArtifactError(
                "this run was not measured on test rows", where=folder, remedy="train it again with --test FILE"
            )
        metrics = Metrics.from_json(values["test"])
        return Run(
            name=folder.name,
            labels=tuple(values["data"]["labels"]),
            metrics=metrics,
            predictions=predictions,
            trainable=int(values["trainable"]),
            total=int(values["total"]),
            seconds=float(values["train"]["seconds"]),
            size=sum(map(len, (saved.manifest, *saved.content.values()))),
            temperature=1.0 if metrics.multi_label else float(values["calibration"]["temperature"]),
            extra=values,
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ArtifactError("the run's metrics.json lacks a value", where=folder, received=str(error)) from error


def side_by_side(runs: Sequence[Run]) -> SideBySide:
    """Compare runs on the same test rows.

    Raises:
        InputError: for fewer than two.
        DataError: when they were not measured on the same rows with the same labels; the message says what differs.
    """
    if len(runs) < 2:
        raise InputError("comparing takes at least two runs", received=len(runs))
    runs = _with_distinct_names(runs)
    first = runs[0]
    predicted = {first.name: first.predictions.predicted}
    unknown = first.metrics.unknown
    for run in runs[1:]:
        if run.metrics.unknown != unknown:
            expected = f"{unknown:,} rows with unknown labels that count as wrong"
            raise _unlike(first, run, expected, f"{run.metrics.unknown:,}")
        predicted[run.name] = _on_rows_of(first, run)
    pairs = tuple(
        compare(
            first.predictions.labels, predicted[one.name], predicted[other.name], names=(one.name, other.name)
        ).with_unknown(unknown)
        for one, other in combinations(runs, 2)
    )
    front = pareto_front([run.metrics.accuracy for run in runs], [run.trainable for run in runs])
    best = tuple(run.name for run, kept in zip(runs, front.tolist(), strict=True) if kept)
    return SideBySide(tuple(runs), pairs, holm([pair.p or 0.0 for pair in pairs]), best)


def holm(values: Sequence[float]) -> tuple[float, ...]:
    """p-values corrected for their number.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.
    """
    order = np.argsort(values, kind="stable")
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(np.asarray(values)[order] * np.arange(len(values), 0, -1)))
    return tuple(adjusted.tolist())


def _on_rows_of(first: Run, run: Run) -> np.ndarray:
    """The predictions of `run`, in the row order and with the class numbers of `first`."""
    if set(first.labels) != set(run.labels):
        raise _unlike(first, run, f"labels {', '.join(first.labels)}", ", ".join(run.labels))
    if first.metrics.multi_label != run.metrics.multi_label:
        raise _unlike(first, run, "both with one label per text, or both with any number of labels", "one of each")
    if first.metrics.multi_label:
        return _sets_on_rows_of(first, run)
    renumbered = np.array([first.labels.index(name) for name in run.labels], dtype=np.int32)
    moved = RowPredictions(
        run.predictions.rows,
        renumbered[run.predictions.labels],
        renumbered[run.predictions.predicted],
        run.predictions.confidence,
    )
    order = aligned(first.predictions, moved)
    if order is None:
        ours, theirs = len(first.predictions.rows), len(moved.rows)
        shared = len(np.intersect1d(first.predictions.rows, moved.rows))
        raise _unlike(first, run, f"{ours:,} test rows", f"{theirs:,} test rows, {shared:,} texts in common")
    if not (first.predictions.labels == moved.labels[order]).all():
        count = int((first.predictions.labels != moved.labels[order]).sum())
        raise _unlike(first, run, "the same label for each text", f"{count:,} texts with another label")
    predicted: np.ndarray = moved.predicted[order]
    return predicted


def _sets_on_rows_of(first: Run, run: Run) -> np.ndarray:
    """As `_on_rows_of` for sets of labels, which have no numbers to be put in another order."""
    if first.labels != run.labels:
        expected = f"labels in the order {', '.join(first.labels)} (--label-names)"
        raise _unlike(first, run, expected, ", ".join(run.labels))
    order = aligned(first.predictions, run.predictions)
    if order is None or not (first.predictions.labels == run.predictions.labels[order]).all():
        raise _unlike(first, run, "the same texts with the same labels", "others")
    predicted: np.ndarray = run.predictions.predicted[order]
    return predicted


def _unlike(first: Run, run: Run, expected: str, received: str) -> DataError:
    return DataError(
        f"{first.name} and {run.name} were not measured on the same test rows",
        expected=expected,
        received=received,
        remedy="train or evaluate both on the same test file",
    )


def _with_distinct_names(runs: Sequence[Run]) -> list[Run]:
    """Folders of one name get a number, so that a sentence about them can be understood."""
    seen: dict[str, int] = {}
    found = []
    for run in runs:
        seen[run.name] = seen.get(run.name, 0) + 1
        found.append(run if seen[run.name] == 1 else replace(run, name=f"{run.name} ({seen[run.name]})"))
    return found


def _figures(run: Run) -> dict[str, Any]:
    return {
        "name": run.name,
        "n": run.metrics.n,
        "accuracy": run.metrics.accuracy,
        "accuracy_interval": list(run.metrics.accuracy_interval),
        "macro_f1": run.metrics.macro.f1,
        "ece": run.metrics.ece,
        "temperature": run.temperature,
        "trainable": run.trainable,
        "total": run.total,
        "seconds": run.seconds,
        "bytes": run.size,
    } | {SHIFTED[name]: value for name, value in _shifted(run).items()}


SHIFTED = {"held out %": "held_out_accuracy", "ood %": "ood_accuracy"}


def _shifted(run: Run) -> dict[str, float]:
    """The run's results under shift: the held-out mean at the middle severity, and the other file's accuracy."""
    values = run.extra.get("shift")
    if not values:
        return {}
    found = Shift.from_json(values)
    shown = {"held out %": found.mean("held out").accuracy} if found.means else {}
    return shown | ({"ood %": found.ood[0].accuracy} if found.ood else {})


def _cells(run: Run) -> list[str]:
    low, high = run.metrics.accuracy_interval
    return [
        f"{100 * run.metrics.accuracy:.1f}",
        f"{100 * low:.1f} to {100 * high:.1f}",
        f"{100 * run.metrics.macro.f1:.1f}",
        "" if run.metrics.ece is None else f"{100 * run.metrics.ece:.1f}",
        f"{run.trainable:,}",
        f"{run.seconds:.0f}",
        f"{run.size / 1000:,.0f}",
    ]
