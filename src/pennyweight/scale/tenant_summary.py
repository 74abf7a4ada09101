"""One page about many classifiers, and the same as a table: summary.html, summary.csv, summary.json."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from ..evaluate.report.html import environment
from ..predict.formula_guard import escape_formula
from ..storage.atomic import write_text
from ..storage.json_files import write_json
from .tenant_training import TenantOutcome, accuracy_of
from .tenants import SUMMARIES

FORMAT = 1
TEMPLATE = Path(__file__).parent / "page" / "summary.html"
COLUMNS = (
    "name", "state", "labels", "train_texts", "measured_on", "measured_texts", "accuracy", "accuracy_low",
    "accuracy_high", "macro_f1", "against_baselines", "trainable", "budget", "warnings", "seconds", "error",
)  # fmt: skip


@dataclass(frozen=True)
class ManySummary:
    """The results of a manifest.

    Attributes:
        folder: folder of the classifiers.
        outcomes: in the manifest's order.
        left: names of the rows that were not reached.
        workers: processes.
        seconds: wall-clock time.
    """

    folder: Path
    outcomes: tuple[TenantOutcome, ...]
    left: tuple[str, ...]
    workers: int
    seconds: float

    @property
    def failed(self) -> tuple[TenantOutcome, ...]:
        """The rows of the manifest whose classifier could not be trained."""
        return tuple(outcome for outcome in self.outcomes if outcome.state == "failed")

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A mapping a row of the manifest, with the keys `COLUMNS`; None if there is no value."""
        return [row_of(outcome) for outcome in self.outcomes]

    @property
    def mean_accuracy(self) -> float | None:
        """Over the classifiers that were measured."""
        found = [row["accuracy"] for row in self.rows if row["accuracy"] is not None]
        return float(np.mean(found)) if found else None

    def to_json(self) -> dict[str, Any]:
        """Plain values, as in summary.json."""
        states = [outcome.state for outcome in self.outcomes]
        return {
            "format": FORMAT,
            "counts": {state: states.count(state) for state in ("trained", "finished", "failed")}
            | {"left": len(self.left)},
            "mean_accuracy": self.mean_accuracy,
            "workers": self.workers,
            "seconds": round(self.seconds, 3),
            "peak_memory_mb": max((outcome.peak_memory_mb for outcome in self.outcomes), default=0),
            "classifiers": self.rows,
            "not_reached": list(self.left),
        }

    def __str__(self) -> str:
        counts = self.to_json()["counts"]
        lines = [
            f"{counts['trained']:,} classifiers trained in {self.seconds:.1f} s by {self.workers} "
            f"{'process' if self.workers == 1 else 'processes'}, {counts['finished']:,} finished earlier, "
            f"{counts['failed']:,} failed"
        ]
        if self.mean_accuracy is not None:
            lines.append(f"mean accuracy {100 * self.mean_accuracy:.1f}%, each classifier measured on its own texts")
        lines += [f"failed: {outcome.name}: {outcome.error}" for outcome in self.failed[:20]]
        lines += [f"and {len(self.failed) - 20} more"] if len(self.failed) > 20 else []
        return "\n".join(lines)


def row_of(outcome: TenantOutcome) -> dict[str, Any]:
    """An outcome as a row of the summary."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {"name": outcome.name, "state": outcome.state, "error": outcome.error or None}
    metrics = outcome.metrics
    if not metrics:
        return row
    row |= {
        "labels": len(metrics["data"]["labels"]),
        "train_texts": metrics["train"]["rows"],
        "trainable": metrics["trainable"],
        "budget": metrics["budget"],
        "warnings": len(metrics.get("audit", {}).get("warnings") or ()),
        "seconds": round(outcome.seconds, 3),
    }
    measured = next((name for name in ("test", "validation") if name in metrics), None)
    return row if measured is None else row | _measured(metrics, measured)


def _measured(metrics: Mapping[str, Any], name: str) -> dict[str, Any]:
    figures = metrics[name]
    low, high = figures["accuracy_interval"] if "accuracy" in figures else figures["exact_match_interval"]
    return {
        "measured_on": name,
        "measured_texts": figures["n"],
        "accuracy": accuracy_of(figures),
        "accuracy_low": low,
        "accuracy_high": high,
        "macro_f1": figures["macro_f1"],
        "against_baselines": metrics["verdict"]["standing"] if "verdict" in metrics else None,
    }


def write_summary(summary: ManySummary) -> None:
    """Write the three files, each whole or not at all.

    Raises:
        StorageError: they cannot be written.
    """
    page, table, values = (summary.folder / name for name in SUMMARIES)
    write_json(values, summary.to_json())
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: escape_formula(value) for key, value in row.items()} for row in summary.rows)
    write_text(table, text.getvalue())
    write_text(page, render_summary(summary))


def render_summary(summary: ManySummary) -> str:
    """The page as one string of HTML, with the report's own styles: those that are least sure of themselves first."""
    template = environment().from_string(TEMPLATE.read_text("utf-8"))
    rows = [row | {"href": f"{quote(row['name'])}/report.html"} for row in summary.rows]
    done = [row for row in rows if row["state"] != "failed"]
    done.sort(key=lambda row: (row["accuracy_low"] is None, row["accuracy_low"] or 0.0, row["name"]))
    failed = [row for row in rows if row["state"] == "failed"]
    page: str = template.render(rows=done, failed=failed, s=summary.to_json(), name=summary.folder.resolve().name)
    return page.encode("utf-8", "replace").decode("utf-8")
