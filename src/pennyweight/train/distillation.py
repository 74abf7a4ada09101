"""Distillation: a training row has a teacher's probabilities as a target, with or without a label.

The loss of a row is (1 - w) times that of its label and w T² times the Kullback-Leibler divergence of the student's
probabilities from the teacher's, both at temperature T (Hinton, Vinyals and Dean 2015, "Distilling the knowledge in a
neural network", https://arxiv.org/abs/1503.02531, section 2: T² keeps the size of the gradients whatever T is). A row
without a label has the second term alone, with a weight of 1. Multi-label, the second term is the binary cross-entropy
of each label against the teacher's probability, averaged over the labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, kl_div, log_softmax

from ..evaluate.row_predictions import RowPredictions
from ..model.device import to_device
from .loss import Loss


@dataclass(frozen=True)
class SoftTargets:
    """A teacher's probabilities for N rows.

    Attributes:
        probabilities: (N, L) float32; each row sums to 1, except multi-label.
        labelled: (N,) whether a row has a label, too.
        multi: whether a text may have any number of labels.
        temperature: T; above 1, the classes that the teacher finds unlikely count more.
        weight: w, the teacher's share of the target of a row that has a label; otherwise the share is 1.
    """

    probabilities: np.ndarray
    labelled: np.ndarray
    multi: bool
    temperature: float
    weight: float

    def select(self, rows: np.ndarray) -> SoftTargets:
        """Those of some rows, in that order."""
        return replace(self, probabilities=self.probabilities[rows], labelled=self.labelled[rows])

    def shares(self, labels: np.ndarray) -> np.ndarray:
        """(L,) the classes' mean share of the targets, which a student's probabilities stand for.

        Args:
            labels: (M,) class numbers of the rows that have a label, in their order.
        """
        own = np.eye(self.probabilities.shape[1])[labels]  # (M, L)
        mixed = self.probabilities.astype(np.float64)
        mixed[self.labelled] = (1 - self.weight) * own + self.weight * mixed[self.labelled]
        found: np.ndarray = mixed.mean(axis=0)
        return found

    @property
    def labels(self) -> np.ndarray:
        """The teacher's predictions: (N,) class numbers, or (N, L) of 0 and 1 at a threshold of 0.5."""
        if self.multi:
            return (self.probabilities >= 0.5).astype(np.int64)
        found: np.ndarray = self.probabilities.argmax(axis=1)
        return found


@dataclass(frozen=True)
class Teaching:
    """All that a teacher says of a run's texts, computed once before the training.

    Attributes:
        texts: U unlabelled texts that are trained on in addition to the N training rows.
        targets: targets of the training rows, then of the unlabelled texts: N + U.
        validation: its predictions for the validation rows; None if there are none, or a table lacks some of them.
        fingerprint: fingerprint of the teacher and of the unlabelled texts; part of the run's.
        figures: as in metrics.json.
    """

    texts: list[str]
    targets: SoftTargets
    validation: RowPredictions | None
    fingerprint: str
    figures: Mapping[str, Any]

    def all_labels(self, labels: np.ndarray) -> np.ndarray:
        """Labels of all rows: the training rows' own, (N,) or (N, L), then the teacher's of the unlabelled texts.

        The latter choose nothing but how often a row is repeated where classes are to be of one size.
        """
        found: np.ndarray = np.concatenate([labels, self.targets.labels[len(labels) :].astype(labels.dtype)])
        return found


def with_teacher(of_labels: Loss, targets: SoftTargets, device: torch.device) -> Loss:
    """The loss of rows that have a teacher's probabilities in addition to their labels.

    Args:
        of_labels: the loss by the labels alone.
    """
    softened = torch.from_numpy(soften(targets)).to(device)  # (N, L)
    weights = torch.from_numpy(np.where(targets.labelled, targets.weight, 1.0).astype(np.float32)).to(device)
    temperature = targets.temperature

    def mixed(logits: Tensor, indices: np.ndarray) -> Tensor:
        rows = to_device(indices, device)
        if targets.multi:
            each = binary_cross_entropy_with_logits(logits / temperature, softened[rows], reduction="none").mean(dim=1)
        else:
            each = kl_div(log_softmax(logits / temperature, dim=1), softened[rows], reduction="none").sum(dim=1)
        found = temperature**2 * (weights[rows] * each).sum()
        labelled = targets.labelled[indices]
        if targets.weight < 1 and labelled.any():
            own = logits if labelled.all() else logits[to_device(np.flatnonzero(labelled), device)]
            found = found + (1 - targets.weight) * of_labels(own, indices[labelled])
        return found

    return mixed


def soften(targets: SoftTargets) -> np.ndarray:
    """(N, L) float32, the probabilities at the temperature: what the teacher's logits divided by it would give."""
    found, power = targets.probabilities.astype(np.float64), 1 / targets.temperature
    raised = found**power
    total = raised + (1 - found) ** power if targets.multi else raised.sum(axis=1, keepdims=True)
    softened: np.ndarray = (raised / total).astype(np.float32)
    return softened
