"""The row written for a text: the fields of its input that are kept, and its prediction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.columns import id_column
from ..data.table import Columns, Table

if TYPE_CHECKING:
    from .predictor import Classifier

# Texts predicted at once: bounds memory, whatever the file's size.
CHUNK = 8192


def predict_rows(
    classifier: Classifier, blocks: Iterable[tuple[Columns, Table]], *, keep: bool = True, ids: str | None = None
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Predict texts in order.

    Args:
        blocks: a source's columns and its texts, as `Walk.both` gives them; no more than one block is held.
        keep, ids: as for `columns_to_keep`.

    Yields:
        The fields of the input that are kept, and the prediction: `label`, `probability` and one `p_NAME` a class;
        multi-label `labels`, a list, and one `p_NAME` a label.

    Raises:
        DataError: no column named `ids`.
    """
    thresholds = classifier.thresholds if classifier.multi else None
    for columns, table in blocks:
        names = columns_to_keep(columns, keep, ids)
        for start in range(0, len(table), CHUNK):
            texts = table.texts[start : start + CHUNK]
            for row, probabilities in enumerate(classifier.predict_proba(texts), start):
                fields = {name: columns.values[name][row] for name in names}
                yield fields, prediction_row(classifier.labels, probabilities, thresholds)


def prediction_row(
    names: Sequence[str], probabilities: np.ndarray, thresholds: np.ndarray | None = None
) -> dict[str, Any]:
    """A text's prediction from its (L,) probabilities, as fields.

    Args:
        thresholds: (L,) of a multi-label classifier, else None.
    """
    best = int(probabilities.argmax())
    each = {f"p_{name}": round(float(p), 6) for name, p in zip(names, probabilities, strict=True)}
    if thresholds is not None:
        return {"labels": labels_reaching(names, probabilities, thresholds)} | each
    return {"label": names[best], "probability": round(float(probabilities[best]), 6)} | each


def prediction_columns(classifier: Classifier) -> list[str]:
    """The fields of a prediction, in order."""
    return list(
        prediction_row(classifier.labels, np.zeros(len(classifier.labels)), np.zeros(1) if classifier.multi else None)
    )


def labels_reaching(names: Sequence[str], probabilities: np.ndarray, thresholds: np.ndarray) -> list[str]:
    """The labels whose probabilities (L,) reach their thresholds (L,)."""
    return [names[index] for index in np.flatnonzero(probabilities >= thresholds).tolist()]


def columns_to_keep(columns: Columns, keep: bool, ids: str | None) -> list[str]:
    """The columns written beside the predictions: all of them, or only the one with the ids, if there is one.

    Args:
        keep: all of them.
        ids: the name of the column with the ids; None looks for one called `id`.
    """
    own = id_column(columns, ids)
    return [*columns.values] if keep else [] if own is None else [own]


def merge_row(fields: Mapping[str, Any], prediction: Mapping[str, Any]) -> dict[str, Any]:
    """An input's fields and its prediction in one row; a name that is taken gets `predicted_` in front."""
    row = dict(fields)
    for name, value in prediction.items():
        while name in row:
            name = f"predicted_{name}"
        row[name] = value
    return row
