"""Accuracy against trainable parameters, as one picture: of `evidence.py` and of `methods.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runs import mean_and_half

TICKS = {1e3: "1k", 2e3: "2k", 5e3: "5k", 1e4: "10k", 2e4: "20k", 5e4: "50k", 1e5: "100k", 2e5: "200k", 5e5: "500k",
         1e6: "1M"}  # fmt: skip


@dataclass(frozen=True)
class Series:
    """One method at several counts of parameters.

    Attributes:
        points: trained parameters, and the accuracies of all seeds in percent.
        joined: whether a line runs through the points.
        nudge: what the counts are multiplied by, so that equal ones do not cover each other.
    """

    label: str
    points: Sequence[tuple[int, Sequence[float]]]
    colour: str
    marker: str
    joined: bool = False
    nudge: float = 1.0


def plot(series: Sequence[Series], path: Path, title: str) -> None:
    """Draw means with their 95% intervals over seeds; the file is the same for the same runs."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    style = {
        "svg.hashsalt": "evidence", "svg.fonttype": "path", "font.size": 11, "axes.spines.top": False,
        "axes.spines.right": False, "axes.edgecolor": "#555555", "text.color": "#222222", "axes.labelcolor": "#222222",
    }  # fmt: skip
    counts = [count for each in series for count, _ in each.points]
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **style, "backend": "agg"}):
        figure = Figure(figsize=(7.6, 4.6), layout="constrained", facecolor="white")
        axis = figure.subplots()
        axis.set_xscale("log")
        for each in series:
            middles, halves = zip(*(_with_interval(values) for _, values in each.points), strict=True)
            axis.errorbar(
                [each.nudge * count for count, _ in each.points], middles, yerr=halves, color=each.colour,
                fmt=each.marker, linestyle="-" if each.joined else "none", label=each.label, capsize=4, markersize=7,
                linewidth=1.6, elinewidth=1.2,
            )  # fmt: skip
        axis.xaxis.set_major_locator(FixedLocator(list(TICKS)))
        axis.xaxis.set_major_formatter(FixedFormatter(list(TICKS.values())))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set(
            xlabel="trainable parameters, head included (log scale)", ylabel="test accuracy (%)",
            xlim=(0.8 * min(counts), 1.35 * max(counts)),
        )  # fmt: skip
        axis.set_title(title, fontsize=12)
        axis.grid(axis="y", color="#e3e3e3")
        axis.set_axisbelow(True)
        axis.legend(loc="lower right", frameon=False)
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _with_interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half of its interval; of one seed no interval."""
    return mean_and_half(values) if len(values) > 1 else (values[0], 0.0)
