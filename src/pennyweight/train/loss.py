"""The training loss: cross-entropy of one label per text, or binary cross-entropy of each label."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

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
