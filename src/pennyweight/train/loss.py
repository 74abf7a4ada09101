"""The training loss: cross-entropy of one label per text, or binary cross-entropy of each label; and R-Drop's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, log_softmax

from ..model.device import to_device

# Logits (B, L) and the batch's row numbers (B,) in; the loss summed over the batch's texts out, in nats.
Loss = Callable[[Tensor, np.ndarray], Tensor]


def make(
    labels: np.ndarray, device: torch.device, label_smoothing: float = 0.0, weights: np.ndarray | None = None
) -> Loss:
    """The loss of a training set.

    With any number of labels per text it is the mean over the labels, so that its size does not depend on their number.

    Args:
        labels: (N,) class numbers, or (N, L) of 0 and 1.
        label_smoothing: the share of the target that is spread over all classes, or halfway between yes and no.
        weights: (L,) as `class_balance.class_weights` gives them.
    """
    scale = None if weights is None else torch.from_numpy(weights).to(device, torch.float32)
    if labels.ndim == 1:
        targets = torch.from_numpy(labels).to(device)

        def single(logits: Tensor, indices: np.ndarray) -> Tensor:
            return cross_entropy(
                logits,
                targets[to_device(indices, device)],
                weight=scale,
                label_smoothing=label_smoothing,
                reduction="sum",
            )

        return single
    binary = torch.from_numpy(labels).to(device, torch.float32)  # (N, L)
    binary = binary * (1 - label_smoothing) + label_smoothing / 2

    def multi_label(logits: Tensor, indices: np.ndarray) -> Tensor:
        chosen = binary[to_device(indices, device)]  # (B, L)
        return binary_cross_entropy_with_logits(logits, chosen, pos_weight=scale, reduction="sum") / chosen.shape[1]

    return multi_label


def divergence(one: Tensor, other: Tensor, *, multi: bool) -> Tensor:
    """The symmetric Kullback-Leibler divergence of two outputs for the same texts, summed over the texts, in nats.

    Half of KL(p, q) + KL(q, p), with which R-Drop compares two passes that differ in their dropout (Liang et al. 2021,
    "R-Drop: Regularized Dropout for Neural Networks", https://arxiv.org/abs/2106.14448, equation 2). Multi-label, it is
    the mean over the labels, each of them yes or no, as in the loss.

    Args:
        one, other: logits (B, L).
    """
    one, other = one.float(), other.float()
    if not multi:
        # KL(p, q) + KL(q, p) is the sum of (p - q) (log p - log q).
        return (one.softmax(1) - other.softmax(1)).mul(log_softmax(one, 1) - log_softmax(other, 1)).sum() / 2
    # The same sum over yes and no: a logit is log p - log(1 - p).
    return (one.sigmoid() - other.sigmoid()).mul(one - other).sum() / (2 * one.shape[1])
