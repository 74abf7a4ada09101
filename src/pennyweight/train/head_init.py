"""LP-FT: the head is fitted on what the frozen backbone gives, before anything in the backbone moves.

With a random head the first steps pull the features about to suit it; from a fitted one they have less reason to, and
texts unlike the training texts keep more of what pretraining gave them. Source: Kumar et al., "Fine-Tuning can Distort
Pretrained Features and Underperform Out-of-Distribution", ICLR 2022, https://arxiv.org/abs/2202.10054.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..data.batching import Encoded
from ..model.classifier import Pooled, SequenceClassifier
from ..model.inference import Feed, evaluating, logits
from . import loss as losses

ROUNDS = 200
MOST_ROWS = 50_000  # a random part of more rows gives the same head, without all their features in memory


def probe(
    model: SequenceClassifier,
    feed: Feed,
    tokens: Encoded,
    labels: np.ndarray,
    *,
    batch_size: int,
    bucket: int,
    weights: np.ndarray | None = None,
) -> float:
    """Fit the head of a model that was just built: logistic regression where it is linear, by L-BFGS in any case.

    The penalty is scikit-learn's at C = 1: half the output layer's sum of squares against the summed cross-entropy.
    Inner layers carry none: a product of two small matrices would rather be zero.

    Args:
        feed: from row numbers to the model's keyword arguments.
        tokens: the N rows it feeds; of more than `MOST_ROWS` a random part is used.
        labels: (N,) class numbers, or (N, L) of 0 and 1.
        weights: (L,) of the classes.

    Returns:
        The mean cross-entropy that was reached, in nats a text.
    """
    rows = np.arange(len(labels))
    if len(rows) > MOST_ROWS:
        rows = np.sort(np.random.default_rng(0).choice(len(rows), MOST_ROWS, replace=False))

    def chosen(indices: np.ndarray) -> dict[str, Tensor | int]:
        return feed(rows[indices])

    head, device = model.head, next(model.head.parameters()).device
    loss_of = losses.make(labels, device, weights=weights)
    optimizer = torch.optim.LBFGS(
        list(head.parameters()), lr=1.0, max_iter=ROUNDS, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )
    with evaluating(model):  # without dropout the sum is a function, which a line search needs
        found = logits(Pooled(model), chosen, tokens.lengths[rows], batch_size=batch_size, bucket=bucket)
        features = torch.from_numpy(found).to(device)

        def loss() -> Tensor:
            optimizer.zero_grad()
            penalised = (loss_of(head(features), rows) + head.out.weight.square().sum() / 2) / len(rows)
            penalised.backward()
            return penalised

        optimizer.step(loss)
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            return float(loss_of(head(features), rows)) / len(rows)
