"""Output rows: the input columns that are kept, and the predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..data.columns import id_column
from ..data.table import Columns, listed
from ..errors import DataError

if TYPE_CHECKING:
    from .onnx_classifier import OnnxClassifier
    from .predictor import Classifier

Held = TypeVar("Held")

#: A probability has so many decimals where it is written.
DECIMALS = 6


@dataclass(frozen=True)
class KeptColumns:
    """The input columns that are written before the predictions.

    Attributes:
        all: every one; otherwise only the ids, next to the text.
        text: the columns that are the text.
        ids: the name of the column with the ids; None looks for one called `id`.
    """

    all: bool = True
    text: bool = True
    ids: str | None = None

    def of(self, columns: Columns, texts: Sequence[str]) -> list[str]:
        """Those of a source, in its order.

        Args:
            texts: the columns that are its text.

        Raises:
            DataError: no column named `ids`.
        """
        own = id_column(columns, self.ids)
        return [
            name
            for name in columns.values
            if name == own or (self.text if name in texts else self.all)
        ]  # fmt: skip


def predicted_columns(
    names: Sequence[str], probabilities: np.ndarray, thresholds: np.ndarray | None = None
) -> dict[str, list[Any]]:
    """The predictions of N texts from their probabilities (N, L), as columns of N values.

    `label`, `probability` and one `p_NAME` a class; multi-label `labels`, lists of names, and one `p_NAME` a label.

    Args:
        thresholds: (L,) of a multi-label classifier, otherwise None.
    """
    rounded = np.round(probabilities, DECIMALS)
    each = {f"p_{name}": rounded[:, index].tolist() for index, name in enumerate(names)}
    if thresholds is not None:
        return {"labels": [labels_reaching(names, row, thresholds) for row in probabilities]} | each
    best = probabilities.argmax(axis=1)
    sure = rounded[np.arange(len(rounded)), best].tolist()
    return {"label": [names[index] for index in best.tolist()], "probability": sure} | each


def predictions_frame(classifier: Classifier | OnnxClassifier, texts: Any) -> Any:
    """A pandas DataFrame with the predictions of N texts: the columns of `predicted_columns`, N rows.

    Args:
        texts: as for `Classifier.predict`; the index of a Series or a DataFrame is kept.
    """
    import pandas

    probabilities = classifier.predict_proba(texts).reshape(-1, len(classifier.labels))
    columns = predicted_columns(classifier.labels, probabilities, classifier.thresholds if classifier.multi else None)
    index = getattr(texts, "index", None)
    return pandas.DataFrame(columns, index=index if isinstance(index, pandas.Index) else None)


def prediction_columns(classifier: Classifier) -> list[str]:
    """The names of a prediction's columns, in order."""
    nothing = np.zeros((0, len(classifier.labels)))
    return list(predicted_columns(classifier.labels, nothing, np.zeros(1) if classifier.multi else None))


def labels_reaching(names: Sequence[str], probabilities: np.ndarray, thresholds: np.ndarray) -> list[str]:
    """The labels whose probabilities (L,) reach their thresholds (L,)."""
    return [names[index] for index in np.flatnonzero(probabilities >= thresholds).tolist()]


def merge_columns(kept: Mapping[str, Held], predicted: Mapping[str, Held]) -> dict[str, Held]:
    """An input's columns (or a row's fields) and its predictions in one; a taken name gets `predicted_` in front."""
    merged = dict(kept)
    for name, value in predicted.items():
        while name in merged:
            name = f"predicted_{name}"
        merged[name] = value
    return merged


def merge_rows(rows: Iterable[tuple[dict[str, Any], dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """The kept fields of rows that arrive one by one, and their predictions: under the same names in every row.

    The first row decides on the names, as `merge_columns` gives them.

    Raises:
        DataError: a field of a later row has the name that the predictions already have.
    """
    names: dict[str, str] | None = None
    for number, (fields, predicted) in enumerate(rows, start=1):
        if names is None:
            merged = list(merge_columns(fields, predicted))
            names = dict(zip(predicted, merged[len(fields) :], strict=True))
        taken = [name for name in fields if name in names.values()]
        if taken:
            raise DataError(
                f"row {number:,} has a field {listed(taken)} that the first row lacks: predictions have this name",
                remedy="write the texts to a file first, or leave out the fields: --no-input-columns",
            )
        yield fields | {names[name]: value for name, value in predicted.items()}


def rows_of(columns: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Columns of N values as N rows; without a column, rows without end."""
    if not columns:
        return repeat({})
    return (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
