"""The PNG files next to a run's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..metrics.classification import Metrics
from . import figures


def write_pictures(
    folder: str | Path, metrics: Metrics | None, history: Sequence[Mapping[str, Any]]
) -> tuple[Path, ...]:
    """Write `confusion.png` and, where there is a history, `curves.png`; returns their paths.

    Args:
        metrics: None if nothing was measured. Labels of which a text may carry any number have no confusion matrix.
        history: as in `figures.curves`.

    Raises:
        StorageError: when the disk is full or the folder cannot be written.
    """
    pictures = {}
    if metrics is not None and metrics.confusion is not None:
        pictures["confusion.png"] = figures.confusion(metrics.confusion, metrics.names)
    if history:
        pictures["curves.png"] = figures.curves(history)
    paths = {Path(folder) / name: figure for name, figure in pictures.items()}
    for path, figure in paths.items():
        figures.save_png(figure, path)
    return tuple(paths)
