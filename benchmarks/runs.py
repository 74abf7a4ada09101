"""Runs kept one per line in a file, so that a killed benchmark loses nothing; means and intervals over seeds."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def done(path: Path) -> list[dict[str, Any]]:
    """The runs in the file; a line cut off while it was being written is skipped."""
    found = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            print(f"{path}: a broken line is left out", file=sys.stderr)
    return found


def keep(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Add runs to the file."""
    with path.open("a", encoding="utf-8") as handle:
        handle.write("".join(json.dumps(line) + "\n" for line in lines))


def mean_and_half(values: Sequence[float]) -> tuple[float, float]:
    """Mean over at least two seeds and half the width of Student's 95% interval of the mean."""
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return statistics.mean(values), half


def in_words(values: Sequence[float]) -> str:
    """Mean over seeds ± its standard deviation, with Student's 95% interval of the mean."""
    if len(values) < 2:
        return f"{statistics.mean(values):.2f}"
    mean, half = mean_and_half(values)
    return f"{mean:.2f} ± {statistics.stdev(values):.2f} ({mean - half:.1f} to {mean + half:.1f})"
