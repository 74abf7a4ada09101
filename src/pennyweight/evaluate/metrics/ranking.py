"""Ranking metrics: how well probabilities rank a label's texts above all others, without a threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Ranking:
    """Areas under the ROC curve and average precisions, each in [0, 1].

    Attributes:
        roc_auc, average_precision: (L,) by label; None of one that all rows carry or none.
    """

    roc_auc: tuple[float | None, ...]
    average_precision: tuple[float | None, ...]

    @property
    def macro_roc_auc(self) -> float | None:
        """The mean over the labels that have one; of two classes both have the same."""
        return _mean(self.roc_auc)

    @property
    def macro_average_precision(self) -> float | None:
        """The mean over the labels that have one."""
        return _mean(self.average_precision)

    def to_json(self) -> dict[str, Any]:
        """Plain values, as in metrics.json; `from_json` gives the same back."""
        return {
            "roc_auc": self.macro_roc_auc,
            "average_precision": self.macro_average_precision,
            "roc_auc_by_label": list(self.roc_auc),
            "average_precision_by_label": list(self.average_precision),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Ranking:
        """The inverse of `to_json`; KeyError, TypeError or ValueError for anything else."""
        kept = (value["roc_auc_by_label"], value["average_precision_by_label"])
        return cls(*(tuple(None if one is None else float(one) for one in each) for each in kept))


def ranking(labels: np.ndarray, probabilities: np.ndarray) -> Ranking | None:
    """Areas and average precisions of two classes, or of any number of labels per text; None for more classes.

    Args:
        labels: (N,) class numbers, or (N, L) of 0 and 1.
        probabilities: (N, L).

    Source: Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 2006; scikit-learn's `roc_auc_score`
    and `average_precision_score`.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    count = probabilities.shape[1]
    if labels.ndim == 1 and count != 2:
        return None
    members = np.eye(count, dtype=np.int64)[labels] if labels.ndim == 1 else labels  # (N, L)
    carried = members.sum(axis=0)
    areas: list[float | None] = [None] * count
    precisions: list[float | None] = [None] * count
    for one in np.flatnonzero((carried > 0) & (carried < len(members))).tolist():
        areas[one] = float(roc_auc_score(members[:, one], probabilities[:, one]))
        precisions[one] = float(average_precision_score(members[:, one], probabilities[:, one]))
    return Ranking(tuple(areas), tuple(precisions))


def _mean(values: tuple[float | None, ...]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
