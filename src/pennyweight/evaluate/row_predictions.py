"""Rows recognised again: what a classifier answered to each, kept so that runs can be compared text by text."""

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
class Answers:
    """What a classifier answered to N labelled rows.

    Attributes:
        rows: (N,) int64, each row's identity: a hash of its text.
        labels, predicted: (N,) int32 class numbers.
        confidence: (N,) float32, the predicted class's probability, temperature applied.
    """

    rows: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """(N,) whether the answer is the label."""
        right: np.ndarray = self.predicted == self.labels
        return right

    def to_arrays(self, name: str) -> dict[str, np.ndarray]:
        """As the artifact keeps them: `name.rows` and so on."""
        fields = {"rows": self.rows, "labels": self.labels, "predicted": self.predicted, "confidence": self.confidence}
        return {f"{name}.{key}": value for key, value in fields.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], name: str) -> Answers | None:
        """What `to_arrays` gave; None where the artifact kept nothing of that name.

        Raises:
            DataError: when a part is missing or the parts differ in length.
        """
        keys = ("rows", "labels", "predicted", "confidence")
        found = [arrays[f"{name}.{key}"] for key in keys if f"{name}.{key}" in arrays]
        if not found:
            return None
        if len(found) < len(keys) or len({one.shape for one in found}) > 1 or found[0].ndim != 1:
            raise DataError("the kept answers are damaged", where=name, remedy="train again")
        return cls(*found)


def answers(texts: Sequence[str], labels: np.ndarray, probabilities: np.ndarray) -> Answers:
    """What there is to keep of N texts, their labels (N,) and probabilities (N, L)."""
    return Answers(
        rows=identities(texts),
        labels=labels.astype(np.int32),
        predicted=probabilities.argmax(axis=1).astype(np.int32),
        confidence=probabilities.max(axis=1).astype(np.float32),
    )


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


def aligned(first: Answers, second: Answers) -> np.ndarray | None:
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


def sample(n: int, most: int | None, seed: int) -> np.ndarray:
    """At most `most` (None: all) of `n` row numbers, in order."""
    if most is None or n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))
