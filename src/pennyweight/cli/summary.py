"""The end of a run in a few lines."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any


def summary(metrics: dict[str, Any]) -> str:
    """The end of a run in a few lines: what was trained, how fast, how good. Fits 80 columns."""
    from ..evaluate.metrics.classification import Metrics
    from ..evaluate.report.metrics_table import metrics_table

    name = "test" if "test" in metrics else "validation"
    budget = "no budget" if metrics["budget"] is None else f"budget {metrics['budget']:,}"
    speed = metrics["train"]
    lines = [
        f"{metrics['trainable']:,} trainable parameters ({budget}), {metrics['total']:,} in all",
        f"trained in {speed['seconds']:.1f} s, {speed['texts_per_second'] or 0:.0f} texts/s",
    ]
    if name not in metrics:
        return "\n".join([*lines, "not measured: nothing was held out, and there are no test texts"])
    lines += [
        f"measured on {name}:",
        "",
        metrics_table(Metrics.from_json(metrics[name])),
    ]
    if "ordinal" in metrics[name]:
        ranks = metrics[name]["ordinal"]
        error, kappa = ranks["mean_absolute_error"], ranks["quadratic_kappa"]
        lines += ["", f"mean absolute error {error:.3f} ranks, quadratic kappa {kappa:.3f}"]
    if "verdict" in metrics:
        lines += ["", *textwrap.wrap(metrics["verdict"]["headline"], 80)]
    return "\n".join(lines)


def run_places(folder: Path) -> str:
    """Where a run and its report lie."""
    page = folder / "report.html"
    return f"run:    {folder}" + (f"\nreport: {page}" if page.is_file() else "")
