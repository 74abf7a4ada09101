"""A classifier's prediction for each row, with the row's identity, so that runs can be compared row by row."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..data.cleaning import strip_markup
from ..errors import DataError

_NOT_A_LETTER = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class RowPredictions:
    """A classifier's predictions for N labelled rows.

    Attributes:
        rows: (N,) int64, each row's identity: a hash of its text.
        labels, predicted: (N,) int32 class numbers; where a text may carry any number of labels int64, one number for
            each set of labels, so that a row is right if all its labels are.
        confidence: (N,) float32, the predicted class's probability, temperature applied; of a set of labels the
            probability that all decisions are right, if labels were independent.
    """

    rows: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """(N,) whether the prediction is the label."""
        right: np.ndarray = self.predicted == self.labels
        return right

    def to_arrays(self, name: str) -> dict[str, np.ndarray]:
        """As the artifact keeps them: `name.rows` and so on."""
        fields = {"rows": self.rows, "labels": self.labels, "predicted": self.predicted, "confidence": self.confidence}
        return {f"{name}.{key}": value for key, value in fields.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], name: str) -> RowPredictions | None:
        """The inverse of `to_arrays`; None if the artifact has nothing under that name.

        Raises:
            DataError: when a part is missing or the parts differ in length.
        """
        keys = ("rows", "labels", "predicted", "confidence")
        found = [arrays[f"{name}.{key}"] for key in keys if f"{name}.{key}" in arrays]
        if not found:
            return None
        if len(found) < len(keys) or len({one.shape for one in found}) > 1 or found[0].ndim != 1:
            raise DataError("the saved predictions are damaged", where=name, remedy="train again")
        return cls(*found)


def row_predictions(
    texts: Sequence[str], labels: np.ndarray, probabilities: np.ndarray, thresholds: np.ndarray | None = None
) -> RowPredictions:
    """The predictions of N texts, in the form that is saved.

    Args:
        labels: (N,) class numbers, or (N, L) of 0 and 1; probabilities: (N, L).
        thresholds: (L,) the probability from which each label is given; needed for labels (N, L).
    """
    if labels.ndim == 1:
        return RowPredictions(
            rows=identities(texts),
            labels=labels.astype(np.int32),
            predicted=probabilities.argmax(axis=1).astype(np.int32),
            confidence=probabilities.max(axis=1).astype(np.float32),
        )
    assert thresholds is not None
    predicted = probabilities >= thresholds  # (N, L)
    likelihoods = np.where(predicted, probabilities, 1 - probabilities)
    return RowPredictions(
        rows=identities(texts),
        labels=_set_numbers(labels),
        predicted=_set_numbers(predicted),
        confidence=likelihoods.prod(axis=1).astype(np.float32),
    )


def _set_numbers(matrix: np.ndarray) -> np.ndarray:
    """(N,) int64: one number for each set of labels, the same in every run with these labels in this order."""
    packed = np.packbits(np.asarray(matrix).astype(bool), axis=1)
    digests = (hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in packed)
    return np.array([int.from_bytes(digest, "big", signed=True) for digest in digests], dtype=np.int64)


def identities(texts: Sequence[str]) -> np.ndarray:
    """(N,) int64: the same for texts with the same letters and digits, however they were cleaned."""
    return np.array([_identity(text) for text in texts], dtype=np.int64)


def _identity(text: str) -> int:
    # Markup aside, since one run may strip what another keeps; twice, so that what is stripped already stays as it is.
    plain = strip_markup(strip_markup(text)).casefold()
    bare = _NOT_A_LETTER.sub("", plain) or text
    digest = hashlib.blake2b(bare.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def fingerprint(rows: np.ndarray) -> str:
    """One SHA-256 for a set of rows, whatever their order."""
    return hashlib.sha256(np.sort(rows).astype(">i8").tobytes()).hexdigest()


def aligned(first: RowPredictions, second: RowPredictions) -> np.ndarray | None:
    """Indices (N,) that put `second` in the order of `first`; None when they do not hold the same rows.

    Rows of the same text and label may stand for each other.
    """
    if len(first.rows) != len(second.rows):
        return None
    one, other = (np.lexsort((each.labels, each.rows)) for each in (first, second))
    if not (first.rows[one] == second.rows[other]).all():
        return None
    order = np.empty(len(one), dtype=np.int64)
    order[one] = other
    return order
