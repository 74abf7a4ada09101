"""Rows of a second source mixed into the training rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .labels import LabelSet
from .table import Table


def mix_rows(training: Table, further: Table, labels: LabelSet, share: float | None, seed: int) -> Table:
    """The training rows, and behind them rows of a second source.

    Args:
        training: N rows; `further`: labelled rows of the same classes, whatever its way of writing them.
        share: of all rows that the second source is to make up, in (0, 1): so many of its rows are drawn. None, or too
            few rows for it: all of them.
        seed: seed of the draw.

    Raises:
        DataError: a label that the training rows do not have.
    """
    numbers = labels.encode(further)
    rows = np.arange(len(further))
    if share is not None:
        count = min(len(further), max(1, round(len(training) * share / (1 - share))))
        rows = np.sort(np.random.default_rng([seed, 0x317]).choice(len(further), count, replace=False))
    drawn = further.select(rows)
    written: list[Any] = list(drawn.labels or ())
    if not labels.multi:  # one source may write names, the other numbers
        ours = dict(zip(labels.encode(training).tolist(), training.labels or (), strict=True))
        written = [ours.get(number, labels.names[number]) for number in numbers[rows].tolist()]
    shared = [name for name in training.extras if name in drawn.extras]
    return replace(
        training,
        texts=training.texts + drawn.texts,
        labels=[*(training.labels or ()), *written],
        lines=training.lines + drawn.lines,
        extras={name: training.extras[name] + drawn.extras[name] for name in shared},
    )
