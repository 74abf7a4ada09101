"""What an evaluation during training computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..data.batching import Encoded
from ..evaluate.metrics import epoch_metrics
from ..model.inference import Feed, logits
from ..model.text_model import TextModel


def make_validator(
    model: TextModel,
    source: Feed | None,
    tokens: Mapping[str, Encoded],
    labels: Mapping[str, np.ndarray],
    names: Sequence[str],
) -> Callable[[], dict[str, float]] | None:
    """A function that gives the figures of the validation split; None where there is none.

    Args:
        source: of the validation batches: token ids, or a prefix.
        tokens, labels: by split.
        names: L class names, in label order.
    """
    if source is None:
        return None

    def evaluate() -> dict[str, float]:
        lengths = tokens["validation"].lengths
        values = logits(model.model, source, lengths, batch_size=model.batch_size, bucket=model.bucket)
        return epoch_metrics.figures(labels["validation"], values, names)

    return evaluate
