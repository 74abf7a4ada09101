"""LP-FT: the head is fitted on the frozen backbone's features before anything in the backbone is trained.

With a random head the first steps distort the features to suit it; with a fitted one less so, and texts unlike the
training texts keep more of what pretraining gave them. Source: Kumar et al., "Fine-Tuning can Distort
Pretrained Features and Underperform Out-of-Distribution", ICLR 2022, https://arxiv.org/abs/2202.10054.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..data.batching import select
from ..data.sampling import sample_rows
from ..model.classifier import Pooled, SequenceClassifier
from ..model.inference import TokenFeed, evaluating, logits
from .frozen_features import FrozenBackbone
from .prefix_cache import first_trained_layer
from .training_rows import TrainingRows

ROUNDS = 200
MOST_ROWS = 50_000  # a random part of more rows gives the same head, without all their features in memory


def fit_head(model: SequenceClassifier, rows: TrainingRows, frozen: FrozenBackbone, *, batch_size: int) -> float:
    """Fit the head of a model that was just built: logistic regression where it is linear, by L-BFGS in any case.

    The penalty is scikit-learn's at C = 1: half the output layer's sum of squares against the summed cross-entropy.
    Inner layers carry none: a product of two small matrices would rather be zero.

    Args:
        rows: of more than `MOST_ROWS` a random part is used.
        frozen: the model's backbone.
        batch_size: texts that the model computes features of at a time, where it has to.

    Returns:
        The mean cross-entropy that was reached, in nats per text.
    """
    chosen = sample_rows(len(rows.labels), MOST_ROWS)
    head, device = model.head, next(model.head.parameters()).device
    loss_of = rows.loss(device)
    optimizer = torch.optim.LBFGS(
        list(head.parameters()), lr=1.0, max_iter=ROUNDS, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )
    with evaluating(model):  # without dropout the sum is a function, which a line search needs
        features = torch.from_numpy(_features(model, rows, chosen, frozen, batch_size)).to(device)

        def loss() -> Tensor:
            optimizer.zero_grad()
            penalised = (loss_of(head(features), chosen) + head.out.weight.square().sum() / 2) / len(chosen)
            penalised.backward()
            return penalised

        optimizer.step(loss)
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            return float(loss_of(head(features), chosen)) / len(chosen)


def fit_new_labels(
    model: SequenceClassifier, rows: TrainingRows, new: np.ndarray, frozen: FrozenBackbone, *, batch_size: int
) -> float:
    """Fit the output layer's rows of some labels, all other weights staying as they are; as `fit_head` otherwise.

    Args:
        new: numbers of the labels.
    """
    chosen = sample_rows(len(rows.labels), MOST_ROWS)
    out, device = model.head.out, next(model.head.parameters()).device
    loss_of, places = rows.loss(device), torch.from_numpy(new).to(device)
    with evaluating(model):
        read: list[Tensor] = []
        hook = out.register_forward_pre_hook(lambda module, given: read.append(given[0]))
        with torch.no_grad():
            others = model.head(torch.from_numpy(_computed(model, rows, chosen, frozen, batch_size)).to(device))
        hook.remove()
        weight = torch.zeros(len(new), out.in_features, device=device, requires_grad=True)
        bias = torch.zeros(len(new), device=device, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [weight, bias], lr=1.0, max_iter=ROUNDS, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
        )

        def mean_loss() -> Tensor:
            logits = others.index_copy(1, places, read[0] @ weight.t() + bias)
            return loss_of(logits, chosen) / len(chosen)

        def penalised() -> Tensor:
            optimizer.zero_grad()
            found = mean_loss() + weight.square().sum() / (2 * len(chosen))
            found.backward()
            return found

        optimizer.step(penalised)
        with torch.no_grad():
            out.weight[places], out.bias[places] = weight, bias
            return float(mean_loss())


def _features(
    model: SequenceClassifier, rows: TrainingRows, chosen: np.ndarray, frozen: FrozenBackbone, batch_size: int
) -> np.ndarray:
    """(N, H), what the head reads of N rows: an adapter that was just injected adds nothing yet.

    By the inference engine, which is faster, where every layer is trained; else there may be a prefix, in which most
    layers are computed already, and whether there is one must not move the last bits.
    """
    every_layer = first_trained_layer(model.module, model.encoder.num_layers) == 0
    if every_layer and isinstance(rows.source, TokenFeed):
        tokens = rows.source.encoded
        tokens = tokens if len(chosen) == len(tokens) else select(tokens, chosen)
        if frozen.engine(tokens) is not None:
            found = frozen.pooled(tokens, model.pooling, frozen.group, fitted=True)
            frozen.release()  # until the baseline: training has no use for a second copy of the weights
            return found
    return _computed(model, rows, chosen, frozen, batch_size)


def _computed(
    model: SequenceClassifier, rows: TrainingRows, chosen: np.ndarray, frozen: FrozenBackbone, batch_size: int
) -> np.ndarray:
    """(N, H), what the head reads of N rows, by the model with its adapter."""
    lengths = rows.lengths[chosen]

    def compute(own: np.ndarray) -> np.ndarray:
        def source(indices: np.ndarray) -> dict[str, Tensor | int]:
            return rows.source(chosen[own[indices]])

        return logits(Pooled(model), source, lengths[own], batch_size=batch_size, bucket=rows.bucket)

    return frozen.group.by_rows(lengths, compute)
