"""The top of a report: classifier and baselines as dots, the map of ranks, the most frequent confusions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ...budget.architecture import describe, linear_modules
from ...budget.plan import Plan
from ...budget.targets import ranks
from ..baselines.comparison import BaselineRow
from ..metrics.classification import Metrics
from ..metrics.intervals import Interval

MOST_LAYERS, MOST_MODULES = 48, 12  # of a map that can still be read
SHADES = 4


@dataclass(frozen=True)
class Dot:
    """One row of the dots: a name, a share in [0, 1], its interval, whether it is this classifier."""

    name: str
    share: float
    interval: Interval | None
    own: bool = False


@dataclass(frozen=True)
class RankMap:
    """The rank of each adapted matrix.

    Attributes:
        modules: M names of matrices of a layer.
        ranks: (layers, M), layer 0 first; None if a matrix is frozen.
    """

    modules: tuple[str, ...]
    ranks: tuple[tuple[int | None, ...], ...]


@dataclass(frozen=True)
class Confusion:
    """`count` of the `of` texts labelled `true` were predicted as `predicted`."""

    true: str
    predicted: str
    count: int
    of: int


def dots(metrics: Metrics, intervals: Mapping[str, Interval], baselines: Sequence[BaselineRow]) -> list[Dot]:
    """The classifier and its baselines by accuracy, or micro F1 where a text may carry any number of labels."""
    if metrics.micro is None:
        own = Dot("this classifier", metrics.accuracy, metrics.accuracy_interval, own=True)
        others = [Dot(row.name, row.score, row.metrics.accuracy_interval) for row in baselines]
    else:
        own = Dot("this classifier", metrics.micro.f1, intervals.get("micro_f1"), own=True)
        others = [Dot(row.name, row.score, None) for row in baselines]
    return sorted([own, *others], key=lambda dot: -dot.share)


def dot_plot(rows: Sequence[Dot], figure: str) -> str:
    """HTML: a row for each, its dot on its interval, and the number next to it. Names stand above on a narrow page."""
    parts = []
    for row in rows:
        marks = ""
        if row.interval is not None:
            low, high = (min(1.0, max(0.0, each)) for each in row.interval)
            marks = f'<i class="ci" style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></i>'
        marks += f'<i class="dot" style="left:{100 * row.share:.1f}%"></i>'
        kind = "row own" if row.own else "row"
        name = row.name if len(row.name) <= 60 else row.name[:59] + "…"
        parts.append(
            f'<div class="{kind}"><span>{escape(name)}</span><span class="track">{marks}</span>'
            f"<span>{100 * row.share:.1f}%</span></div>"
        )
    ticks = "".join(f'<small style="left:{each}%">{each}%</small>' for each in (0, 25, 50, 75, 100))
    said = ", ".join(f"{row.name} {100 * row.share:.1f}%" for row in rows)
    return (
        f'<div class="dots" role="img" aria-label="{escape(f"{figure} with 95% intervals: {said}")}">{"".join(parts)}'
        f'<div class="row axis"><span></span><span class="track">{ticks}</span><span></span></div></div>'
    )


def rank_map(plan: Plan, config: Mapping[str, Any]) -> RankMap | None:
    """The ranks of a plan by layer and module; None if no matrix of a layer is adapted, or too many to show."""
    if plan.adapter is None:
        return None
    modules = [module for module in linear_modules(config) if module.layer is not None]
    names = tuple(dict.fromkeys(module.suffix for module in modules))
    depth, by_name = describe(config).layers, ranks(config, plan.adapter)
    if depth > MOST_LAYERS or len(names) > MOST_MODULES:
        return None
    found: list[list[int | None]] = [[None] * len(names) for _ in range(depth)]
    for module in modules:
        found[module.layer][names.index(module.suffix)] = by_name.get(module.name)
    return RankMap(names, tuple(map(tuple, found)))


def rank_picture(found: RankMap) -> str:
    """Inline SVG: layers, the highest on top, by modules; each rank in its cell, darker where it is higher."""
    wide, high, left = 68, 24, 58
    given = [rank for row in found.ranks for rank in row if rank is not None] or [1]
    lowest, highest = min(given), max(given)
    parts = []
    for place, row in enumerate(reversed(found.ranks)):
        y = 4 + place * high
        layer = len(found.ranks) - 1 - place
        parts.append(f'<text x="{left - 8}" y="{y + 15}" text-anchor="end" class="tick">layer {layer}</text>')
        for column, rank in enumerate(row):
            x = left + column * wide
            shade = 0 if rank is None else _shade(rank, lowest, highest)
            parts.append(f'<rect x="{x}" y="{y}" width="{wide - 2}" height="{high - 2}" rx="2" class="shade{shade}"/>')
            if rank is not None:
                parts.append(
                    f'<text x="{x + wide / 2 - 1}" y="{y + 15}" text-anchor="middle" class="on{shade}">{rank}</text>'
                )
    foot = 4 + len(found.ranks) * high
    for column, name in enumerate(found.modules):
        for line, word in enumerate(_two_lines(name)):
            middle = left + column * wide + wide / 2 - 1
            parts.append(
                f'<text x="{middle}" y="{foot + 13 + 12 * line}" text-anchor="middle" class="tick">'
                f"{escape(word)}</text>"
            )
    width = left + wide * len(found.modules) + 4
    return (
        f'<svg viewBox="0 0 {width} {foot + 32}" style="max-width:{width}px" width="100%" role="img" class="ranks" '
        f'aria-label="Rank of each adapted matrix, up to {highest}, by layer and module">{"".join(parts)}</svg>'
    )


def _shade(rank: int, lowest: int, highest: int) -> int:
    """From 1 to `SHADES`; where all ranks are alike, at least 2, with the whole range between lowest and highest."""
    if 2 * lowest > highest > lowest:
        return 2 + round((SHADES - 2) * (rank - lowest) / (highest - lowest))
    return max(1, round(SHADES * rank / highest))


def _two_lines(name: str) -> list[str]:
    """A module's name in short lines: `attention.output.dense` as `attention`, `output`."""
    words = [word for word in name.split(".") if word not in ("self", "dense")] or [name]
    return [
        word if len(word) <= 12 else word[:11] + "…" for word in (words if len(words) <= 2 else [words[0], words[-1]])
    ]


def top_confusions(metrics: Metrics, most: int = 5) -> list[Confusion]:
    """The pairs of classes that are confused most often, the most frequent first."""
    if metrics.confusion is None:
        return []
    names = metrics.names
    found = [
        Confusion(names[true], names[predicted], count, sum(row))
        for true, row in enumerate(metrics.confusion)
        for predicted, count in enumerate(row)
        if true != predicted and count
    ]
    return sorted(found, key=lambda one: (-one.count, -one.count / one.of, one.true, one.predicted))[:most]
