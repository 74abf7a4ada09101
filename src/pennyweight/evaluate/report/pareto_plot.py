"""The Pareto picture: what accuracy costs in trainable parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import log10
from typing import Any

from ..metrics.intervals import Interval
from .figures import LIGHT, Palette, short, styled

WIDTH, HEIGHT = 6.6, 4.4  # inches
DODGE, WIDEST = 0.018, 0.06  # of the axis: between runs of the same price, whose intervals would overlap, and at most
CROWDED = 12  # runs, beyond which intervals of all would hide the best
_BOX = tuple[float, float, float, float]


@dataclass(frozen=True)
class Point:
    """A run: its accuracy in [0, 1] with its interval, and its trainable parameters.

    Attributes:
        name: shown next to the point; empty for none.
        best: no other run has at least this accuracy for no more parameters.
        dominated: by a paired test, a run with no more parameters has a higher accuracy; a lower figure is not enough.
    """

    name: str
    parameters: int
    accuracy: float
    interval: Interval
    best: bool
    dominated: bool = False


def pareto(
    points: Sequence[Point], palette: Palette = LIGHT, measured: str = "test", others: str = "not shown to be worse"
) -> Any:
    """Accuracy (%) on the rows called `measured`, with intervals, against trainable parameters (log scale).

    A line leads from best to best. Runs of the same price stand side by side, a hair off it. Runs far below the best
    would press the rest together; they are arrows at the bottom, with their accuracy. Of many runs only the best have
    intervals.

    Args:
        others: what is to be said of runs that are neither best nor dominated.
    """
    from matplotlib.figure import Figure

    floor = _floor(points)
    lost = [one for one in points if one.accuracy < floor]
    shown = [one for one in points if one.accuracy >= floor]
    with styled(palette):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axis = figure.subplots()
        _scale(axis, points)
        places = {id(one): x for one, x in zip((*shown, *lost), _dodged([*shown, *lost], axis.get_xlim()), strict=True)}
        front = sorted((one for one in shown if one.best), key=lambda one: (one.parameters, one.accuracy))
        steps = [(places[id(one)], 100 * one.accuracy) for one in front]
        axis.step(*zip(*steps, strict=True), where="post", color=palette.first, linewidth=1)
        for one in shown:
            _mark(axis, one, places[id(one)], palette, bare=len(shown) > CROWDED and not one.best)
        bottom = 100 * min([floor, *(one.interval[0] for one in shown)])
        for one in lost:
            axis.plot([places[id(one)]], [bottom], "v", color=palette.second, markersize=6)
        axis.margins(y=0.08)
        marks = [(_words(one), places[id(one)], 100 * one.accuracy) for one in shown]
        below = [(f"{short(one.name, 24)} {100 * one.accuracy:.0f}%".strip(), places[id(one)], bottom) for one in lost]
        _label(axis, [*marks, *below], steps, palette)
        axis.set(xlabel="trainable parameters", ylabel=f"{measured} accuracy (%, 95% interval)")
        note = _note(shown, others)
        axis.set_title("Accuracy against trainable parameters", loc="left", pad=20 if note else 6)
        axis.annotate(
            note, (0, 1), xycoords="axes fraction", xytext=(0, 5), textcoords="offset points", fontsize=8,
            color=palette.muted,
        )  # fmt: skip
    return figure


def _note(shown: Sequence[Point], others: str) -> str:
    """The meaning of the marks, above the picture, because a legend would cover the data."""
    parts = []
    if sum(one.best for one in shown) > 1:
        parts.append("line: the highest accuracy for each number of parameters")
    if any(not one.best and not one.dominated for one in shown):
        parts.append(f"hollow: a lower accuracy, {others}")
    return "; ".join(parts)


def _words(one: Point) -> str:
    return f"{short(one.name, 24)} (dominated)" if one.name and one.dominated else short(one.name, 24)


def _mark(axis: Any, one: Point, x: float, palette: Palette, *, bare: bool) -> None:
    below, above = (0.0 if bare else 100 * abs(one.accuracy - end) for end in one.interval)
    colour = palette.second if one.dominated else palette.first if one.best else palette.muted
    axis.errorbar(
        [x], [100 * one.accuracy], yerr=[[below], [above]], color=colour, capsize=0 if bare else 3, linewidth=1,
        markersize=5, fmt="s" if one.dominated else "o",
        markerfacecolor=colour if one.best or one.dominated else palette.background,
    )  # fmt: skip


def _scale(axis: Any, points: Sequence[Point]) -> None:
    """A log scale that has numbers on it, however narrow it is."""
    from matplotlib.ticker import EngFormatter, FixedLocator, NullFormatter, NullLocator

    prices = sorted({one.parameters for one in points})
    wide = max(log10(prices[-1] / prices[0]), 0.3) if prices[0] else 0.3
    axis.set_xscale("log")
    axis.set_xlim(prices[0] / 10 ** (0.2 * wide), prices[-1] * 10 ** (0.3 * wide))
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))  # 10k, 1M
    axis.xaxis.set_minor_formatter(NullFormatter())
    if wide < 2:  # powers of ten alone would be one number or none
        low, high = axis.get_xlim()
        steps = (1, 2, 5) if wide >= 0.8 else (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
        ticks = [step * 10.0**power for power in range(int(log10(low)), int(log10(high)) + 1) for step in steps]
        axis.xaxis.set_major_locator(FixedLocator([one for one in ticks if low <= one <= high]))
        axis.xaxis.set_minor_locator(NullLocator())


def _dodged(points: Sequence[Point], limits: tuple[float, float]) -> list[float]:
    """Where each point stands on the axis: its parameters, or beside them where several runs have as many."""
    span = log10(limits[1] / limits[0])
    found = {}
    ordered = sorted(range(len(points)), key=lambda index: (points[index].parameters, -points[index].accuracy))
    for price, group in groupby(ordered, key=lambda index: points[index].parameters):
        members = list(group)
        step = span * min(DODGE, WIDEST / len(members))
        for place, index in enumerate(members):
            found[index] = price * 10 ** (step * (place - (len(members) - 1) / 2))
    return [found[index] for index in range(len(points))]


def _label(
    axis: Any, marks: Sequence[tuple[str, float, float]], front: Sequence[tuple[float, float]], palette: Palette
) -> None:
    """Write names next to their points, each at the first of eight places where it covers nothing else.

    Nothing is drawn before the picture is saved, so sizes are reckoned: a letter is 0.55 of its height wide.

    Args:
        front: the places between which the line leads.
    """
    low, high = axis.get_xlim()
    bottom, top = axis.get_ylim()
    wide, tall = (WIDTH - 0.7) * 72, (HEIGHT - 1.1) * 72  # points; what the axes' numbers and names take is off

    def at(x: float, y: float) -> tuple[float, float]:
        return wide * log10(x / low) / log10(high / low), tall * (y - bottom) / (top - bottom)

    taken: list[_BOX] = [(x - 4, y - 4, x + 4, y + 4) for x, y in (at(x, y) for _, x, y in marks)]
    for bars in axis.containers:  # the intervals, too
        for (x, start), (_, end) in bars.lines[2][0].get_segments():
            taken.append((at(x, start)[0] - 1, at(x, start)[1], at(x, end)[0] + 1, at(x, end)[1]))
    steps = [at(*one) for one in front]
    for (x, y), (end, _) in pairwise(steps):
        taken.append((x, y - 1, end, y + 1))
    for words, x, y in marks:
        if not words:
            continue
        middle_x, middle_y = at(x, y)
        length = 4.95 * len(words)
        left = -8 - length
        offsets = ((8, 4), (8, -14), (left, 4), (left, -14), (8, 18), (8, -26), (left, 18), (left, -26))
        # From the point on, not from the first letter: with a bar in between it would not be clear whose name it is.
        boxes = [
            (
                middle_x + (5 if dx > 0 else dx),
                middle_y + dy,
                middle_x + (dx + length if dx > 0 else -5),
                middle_y + dy + 10,
            )
            for dx, dy in offsets
        ]
        fits = [not any(_overlap(box, other) for other in taken) and box[0] >= 0 and box[2] <= wide for box in boxes]
        place = fits.index(True) if True in fits else 0
        taken.append(boxes[place])
        dx, dy = offsets[place]
        axis.annotate(
            words, (x, y), xytext=(dx if dx > 0 else -8, dy + 1), textcoords="offset points",
            ha="left" if dx > 0 else "right", color=palette.ink,
        )  # fmt: skip


def _overlap(one: _BOX, other: _BOX) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _floor(points: Sequence[Point]) -> float:
    """The accuracy below which runs are not drawn to scale: five points, or twice the frontier's span, below it."""
    frontier = [one for one in points if one.best]
    if not frontier:
        return 0.0
    accuracies = [one.accuracy for one in frontier]
    span = max(accuracies) - min(accuracies)
    return min(one.interval[0] for one in frontier) - max(0.05, 2 * span)
