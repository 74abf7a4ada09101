"""A random sample of rows, the same for the same seed."""

from __future__ import annotations

import numpy as np


def sample_rows(rows: int, most: int | None, seed: int = 0) -> np.ndarray:
    """At most `most` (None: all) of the row numbers 0 to `rows` - 1, ascending."""
    if most is None or rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
