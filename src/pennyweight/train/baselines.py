"""The baselines of a run, trained on its own training rows."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from ..data.batching import Encoded
from ..evaluate.baselines.baseline import Baseline
from ..evaluate.baselines.linear_probe import LINEAR_PROBE
from ..evaluate.baselines.majority import COMMONEST, MAJORITY
from ..evaluate.baselines.text_baselines import train_text_baselines
from ..evaluate.baselines.tfidf import TFIDF, TFIDF_ONE_VS_REST
from ..evaluate.labelled_rows import LabelledRows
from .frozen_features import FrozenBackbone, train_linear_probe
from .frozen_head import FrozenHead

logger = logging.getLogger(__name__)


def train_baselines(
    rows: Mapping[str, LabelledRows],
    tokens: Mapping[str, Encoded],
    n_labels: int,
    frozen: FrozenBackbone | None = None,
    head: FrozenHead | None = None,
    *,
    seed: int = 0,
) -> tuple[Baseline, ...]:
    """Majority class and TF-IDF, and a linear probe of the frozen backbone where there is one.

    Args:
        frozen: the model's backbone; None if the classifier is a head on it.
        head: the probe, if it was compared with the adapter.
        rows: `train`, and `validation`, `test` or both; `tokens`: theirs.
    """
    probe = [] if frozen is None else [LINEAR_PROBE]
    names = (MAJORITY, TFIDF) if rows["train"].labels.ndim == 1 else (COMMONEST, TFIDF_ONE_VS_REST)
    logger.info(f"baselines: {', '.join([*names, *probe])}")
    train, validation, measured_on = rows["train"], rows.get("validation"), "test" if "test" in rows else "validation"
    baselines = train_text_baselines(train, rows[measured_on], validation, n_labels, seed=seed)
    if frozen is None:
        return baselines
    if head is not None:
        return (*baselines, head.baseline(frozen, tokens[measured_on]))
    # Where a text may carry any number of labels, thresholds are tuned on the validation rows.
    tuned_on = ["validation"] if train.labels.ndim == 2 and validation is not None else []
    predicted = [tokens[name] for name in (*tuned_on, measured_on)]
    return (*baselines, train_linear_probe(frozen, tokens["train"], train.labels, predicted, n_labels, seed=seed))
