"""Labelled rows as evaluation takes them: plain arrays and lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..data.batching import Encoded
from ..data.table import Table


@dataclass(frozen=True)
class LabelledRows:
    """N labelled texts, to train a baseline on or to measure a classifier on.

    Attributes:
        labels: (N,) class numbers, or (N, L) of 0 and 1 where a text may carry any number of labels.
        lengths: (N,) tokens of each text.
        source: where the rows were read from.
        columns: further columns of the source, N values each.
        truncated: number of texts that were cut to the maximum length.
        unknown: further rows whose labels are not among the classes; they count as wrong.
    """

    texts: Sequence[str]
    labels: np.ndarray
    lengths: np.ndarray
    source: str
    columns: Mapping[str, Sequence[object]] = field(default_factory=dict)
    truncated: int = 0
    unknown: int = 0

    @classmethod
    def of_table(cls, table: Table, tokens: Encoded, labels: np.ndarray, unknown: int = 0) -> LabelledRows:
        """The rows of a table with their token ids and labels."""
        return cls(table.texts, labels, tokens.lengths, table.source, table.extras, tokens.truncated, unknown)
