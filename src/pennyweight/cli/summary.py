"""The end of a run in a few lines."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

_CHOSEN_BY = (
    "measured on the validation texts, which training also used for its choices: expect slightly lower figures on new "
    "texts, or give --test FILE for unbiased ones"
)


def summary(metrics: dict[str, Any]) -> str:
    """The end of a run in a few lines: what was trained, how fast, how good. Fits 80 columns."""
    from ..evaluate.metrics.classification import Metrics
    from ..evaluate.report.metrics_table import metrics_table

    name = "test" if "test" in metrics else "validation"
    budget = "no budget" if metrics["budget"] is None else f"budget {metrics['budget']:,}"
    speed = metrics["train"]
    lines = [
        f"{metrics['trainable']:,} trainable parameters ({budget}), {metrics['total']:,} in all",
        *([] if not _stores_more(metrics) else [f"{metrics['stored']:,} numbers stored, including the frozen bases"]),
        f"trained in {speed['seconds']:.1f} s" + _rate(speed["texts_per_second"]),
    ]
    if name not in metrics:
        return "\n".join([*lines, "not measured: there are no validation or test texts"])
    lines += [
        f"measured on {name}:" if name == "test" else textwrap.fill(_CHOSEN_BY, 80),
        "",
        metrics_table(Metrics.from_json(metrics[name])),
    ]
    if "ordinal" in metrics[name]:
        ranks = metrics[name]["ordinal"]
        error, kappa = ranks["mean_absolute_error"], ranks["quadratic_kappa"]
        lines += ["", f"mean absolute error {error:.3f} ranks, quadratic kappa {kappa:.3f}"]
    if metrics.get("baselines"):
        lines += ["", _bars(metrics, name)]
    if "verdict" in metrics:
        lines += ["", *textwrap.wrap(metrics["verdict"]["headline"], 80, break_on_hyphens=False)]
    return "\n".join(lines)


def _bars(metrics: dict[str, Any], name: str) -> str:
    """Accuracy (multi-label: micro F1) of the classifier and the baselines, as bars of up to 40 characters."""
    key = "micro_f1" if "micro_f1" in metrics["baselines"][0] else "accuracy"
    own = metrics[name]["micro"]["f1"] if key == "micro_f1" else metrics[name]["accuracy"]
    shares = {"this classifier": own} | {one["name"]: one[key] for one in metrics["baselines"]}
    width = max(map(len, shares))
    best_first = sorted(shares.items(), key=lambda item: -item[1])
    return "\n".join(
        f"{words:<{width}} {share:>6.1%} {'█' * round((78 - width - 7) * share)}" for words, share in best_first
    )


def _rate(texts_per_second: float | None) -> str:
    """Nothing where no training step was done, but a head fitted."""
    return f", {texts_per_second:.0f} texts/s" if texts_per_second else ""


def _stores_more(metrics: dict[str, Any]) -> bool:
    return bool((metrics.get("stored") or 0) > metrics["trainable"])


def run_places(folder: Path) -> str:
    """Where a run and its report lie."""
    page = folder / "report.html"
    return f"run:    {folder}" + (f"\nreport: {page}" if page.is_file() else "")
