"""The Pareto picture: what accuracy costs in trainable parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..metrics.intervals import Interval
from .figures import LIGHT, Palette, short, styled


@dataclass(frozen=True)
class Point:
    """A run: its accuracy in [0, 1] with its interval, its trainable parameters, and whether none beats it in both."""

    name: str
    parameters: int
    accuracy: float
    interval: Interval
    best: bool


def pareto(points: Sequence[Point], palette: Palette = LIGHT, measured: str = "test") -> Any:
    """Accuracy (%) on the rows called `measured`, with intervals, against trainable parameters (log scale).

    The undominated runs are joined. Runs far below them would press the rest together; they are arrows at the bottom.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, NullFormatter

    with styled(palette):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axis = figure.subplots()
        axis.set_xscale("log")
        floor = _floor(points)
        lost = [one for one in points if one.accuracy < floor]
        points = [one for one in points if one.accuracy >= floor]
        for kind, colour, name in ((True, palette.first, "undominated"), (False, palette.second, "dominated")):
            chosen = sorted((one for one in points if one.best is kind), key=lambda one: one.parameters)
            if not chosen:
                continue
            accuracy = [100 * one.accuracy for one in chosen]
            below = [100 * (one.accuracy - one.interval[0]) for one in chosen]
            above = [100 * (one.interval[1] - one.accuracy) for one in chosen]
            axis.errorbar(
                [one.parameters for one in chosen], accuracy, yerr=[below, above], color=colour, capsize=3,
                fmt="o-" if kind else "s", linewidth=1, markersize=5, label=name,
            )  # fmt: skip
        if lost:
            axis.plot(
                [one.parameters for one in lost], [100 * floor] * len(lost), "v", color=palette.second, markersize=6,
                label=f"below {100 * floor:.0f}%",
            )  # fmt: skip
        for one in points:
            axis.annotate(
                short(one.name, 24), (one.parameters, 100 * one.accuracy), xytext=(6, 5), textcoords="offset points"
            )
        axis.set(xlabel="trainable parameters", ylabel=f"{measured} accuracy (%, 95% interval)")
        axis.set_title("Accuracy and its price")
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))  # 10k, 1M
        axis.xaxis.set_minor_formatter(NullFormatter())
        spent = {one.parameters for one in (*points, *lost)}
        if len(spent) > 1:
            axis.margins(x=0.15)
        else:  # a single price spans no axis
            axis.set_xlim(*(factor * one for one in spent for factor in (0.5, 2)))
        axis.legend(loc="best")
    return figure


def _floor(points: Sequence[Point]) -> float:
    """The accuracy below which runs are not drawn to scale: five points, or twice the frontier's span, below it."""
    frontier = [one for one in points if one.best]
    if not frontier:
        return 0.0
    accuracies = [one.accuracy for one in frontier]
    span = max(accuracies) - min(accuracies)
    return min(one.interval[0] for one in frontier) - max(0.05, 2 * span)
