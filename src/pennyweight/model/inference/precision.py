"""The number format for prediction: the fastest whose measured accuracy equals that of fp32.

int8 rounds coarsely enough to change labels, so it is taken only where at least `FEWEST_ROWS` held-out rows can show
that it changes few. With one label per text it is measured, and used, in a cascade with fp32.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ...data.batching import Encoded, select
from ...data.sampling import sample_rows
from .cascade import CascadeEngine, margin_limit
from .engine import InferenceEngine

# Rows that the choice is measured on, and by how much the accuracy may differ from fp32's: 0.1 points.
FEWEST_ROWS, MOST_ROWS, MOST_CHANGE = 1000, 2000, 0.001
WARM_UP = 64  # texts


@dataclass(frozen=True)
class PrecisionFigures:
    """The results of one number format on the measured rows.

    Attributes:
        accuracy: the share of right answers; multi-label, of texts whose labels are all right.
        labels_changed: the share of texts whose labels are not fp32's.
        texts_per_second: token ids to logits.
    """

    accuracy: float
    labels_changed: float
    texts_per_second: float


@dataclass(frozen=True)
class PrecisionChoice:
    """The number format, and why.

    Attributes:
        rows: how many validation rows it was measured on; 0 where it was not.
        measured: by number format.
        cascade: of int8 and fp32, with the limit that the measurement gave; None if int8 was not measured, or texts
            have any number of labels.
    """

    precision: str
    rows: int = 0
    measured: Mapping[str, PrecisionFigures] = field(default_factory=dict)
    cascade: CascadeEngine | None = None

    def to_json(self) -> dict[str, Any]:
        """As in metrics.json."""
        return {
            "precision": self.precision,
            "rows": self.rows,
            "measured": {name: asdict(figures) for name, figures in self.measured.items()},
        }

    def __str__(self) -> str:
        if not self.measured:
            return self.precision
        each = ", ".join(
            f"{name} {figures.accuracy:.2%} at {figures.texts_per_second:,.0f} texts/s"
            for name, figures in self.measured.items()
        )
        return f"{self.precision} (on {self.rows:,} validation texts: {each})"


def measure_precisions(
    engines: Mapping[str, InferenceEngine],
    tokens: Encoded,
    decide: Callable[[np.ndarray], np.ndarray],
    truth: np.ndarray,
) -> PrecisionChoice:
    """The fastest number format whose accuracy differs from the first one's by at most 0.1 points.

    Args:
        engines: by number format, `fp32` first.
        tokens: tokens of N validation texts, `FEWEST_ROWS` or more; of more than `MOST_ROWS` a random part is measured.
        decide: from logits (N, L) to answers (N,) or (N, L), as `truth` (N,) or (N, L) has them.
    """
    chosen = sample_rows(len(tokens), MOST_ROWS, 0)
    rows, truth = select(tokens, chosen), truth[chosen]
    warm = select(tokens, chosen[:WARM_UP])
    measured: dict[str, PrecisionFigures] = {}
    exact: np.ndarray | None = None
    cascade: CascadeEngine | None = None
    for name, engine in engines.items():
        engine.logits(warm)
        began = time.perf_counter()
        logits = engine.logits(rows)
        seconds = time.perf_counter() - began
        exact = logits if exact is None else exact
        if name == "int8" and truth.ndim == 1:
            cascade = CascadeEngine(engine, engines["fp32"], margin_limit(exact, logits))
            began = time.perf_counter()
            logits = cascade.corrected(rows, logits)
            seconds += time.perf_counter() - began
        answers = decide(logits)
        measured[name] = PrecisionFigures(
            float(_equal(answers, truth).mean()), float((~_equal(answers, decide(exact))).mean()), len(rows) / seconds
        )
    base = next(iter(measured.values())).accuracy
    # Shares of whole rows: the small number is for the rounding of their difference.
    good = {name: each for name, each in measured.items() if abs(each.accuracy - base) < MOST_CHANGE + 1e-9}
    return PrecisionChoice(max(good, key=lambda name: good[name].texts_per_second), len(rows), measured, cascade)


def _equal(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N,) whether each text's answers are the same."""
    same = one == other
    found: np.ndarray = same if same.ndim == 1 else same.all(axis=1)
    return found
