"""Runs kept one a line in a file, so that a killed benchmark loses nothing, and their figures in words."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def done(path: Path) -> list[dict[str, Any]]:
    """The lines of earlier runs; one that was cut off in writing does not count."""
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


def in_words(values: Sequence[float]) -> str:
    """Mean over seeds ± its standard deviation, with Student's 95% interval of the mean."""
    from scipy.stats import t

    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.2f}"
    deviation = statistics.stdev(values)
    half = float(t.ppf(0.975, len(values) - 1)) * deviation / len(values) ** 0.5
    return f"{mean:.2f} ± {deviation:.2f} ({mean - half:.1f} to {mean + half:.1f})"
