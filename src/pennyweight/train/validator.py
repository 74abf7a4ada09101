"""Evaluations during training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..data.batching import Encoded
from ..evaluate.metrics import epoch_metrics
from ..model.inference import Feed, logits
from ..model.text_model import TextModel
from .process_group import ProcessGroup


def make_validator(
    model: TextModel,
    source: Feed | None,
    tokens: Mapping[str, Encoded],
    labels: Mapping[str, np.ndarray],
    names: Sequence[str],
    group: ProcessGroup | None = None,
) -> Callable[[], dict[str, float]] | None:
    """A function that gives the figures of the validation split; None if there is none.

    Args:
        source: source of the validation batches: token ids, or a prefix.
        tokens, labels: by split.
        names: L class names, in label order.
        group: the processes that train: each computes its share of the rows, and all get the figures.
    """
    if source is None:
        return None

    windows = tokens["validation"].windows
    # A text has a row for each of its windows; memory is the same as with texts of one window.
    size = model.batch_size if windows is None else max(1, model.batch_size // int(windows.counts.max()))

    def evaluate() -> dict[str, float]:
        lengths = tokens["validation"].lengths

        def compute(rows: np.ndarray) -> np.ndarray:
            def feed(indices: np.ndarray) -> dict[str, Any]:
                return source(rows[indices])

            return logits(model.model, feed, lengths[rows], batch_size=size, bucket=model.bucket)

        values = (group or ProcessGroup()).by_rows(lengths, compute)
        return epoch_metrics.figures(labels["validation"], values, names)

    return evaluate
