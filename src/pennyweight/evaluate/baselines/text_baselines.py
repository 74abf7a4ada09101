"""The baselines that need nothing but texts and labels."""

from __future__ import annotations

from ..labelled_rows import LabelledRows
from .baseline import Baseline
from .majority import majority
from .tfidf import tfidf


def train_text_baselines(
    train: LabelledRows, measured: LabelledRows, validation: LabelledRows | None, n_labels: int, *, seed: int = 0
) -> tuple[Baseline, ...]:
    """The majority class and TF-IDF, trained on `train`.

    Args:
        measured: the rows to predict.
        validation: predicted too where a text may carry any number of labels, for their thresholds are tuned on it.

    Raises:
        DataError: without training rows.
    """
    tuned_on = validation.texts if validation is not None and train.labels.ndim == 2 else ()
    asked = [*tuned_on, *measured.texts]
    return (
        majority(train.labels, len(asked), n_labels).split(len(tuned_on)),
        tfidf(train.texts, train.labels, asked, n_labels, seed=seed).split(len(tuned_on)),
    )
