"""The contrastive phase for few labels: texts of one class are drawn together, and texts of two apart.

A handful of texts makes hundreds of pairs, which say more about the classes than a fresh head's cross-entropy does.
Source of the idea: Tunstall et al., "Efficient Few-Shot Learning Without Prompts" (SetFit), 2022,
https://arxiv.org/abs/2209.11055; here through the adapter alone, within the budget, and with the cosine loss over all
pairs of a batch, so that a text is encoded once for all of its pairs.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..model.classifier import SequenceClassifier
from ..model.inference import Feed, TokenFeed, evaluating
from ..model.trainable import trainable
from .prefix_cache import LAYER, PrefixSpec, prepare

BATCH = 32  # texts per step
MOST_CLASSES = 8  # in a batch: with one text of each class there would be no pair of one class
PADDED = 8  # texts that are padded to one length
LEARNING_RATE = 5e-4


def upper_half(model: SequenceClassifier, tokens: TokenFeed) -> Feed:
    """Batches that begin at the upper half of the adapted layers, what is below computed once and kept in memory.

    A phase that reads them moves the adapters of that half alone: as good on few texts, in half the time (docs/log.md).

    Args:
        model: model whose adapter does not do anything yet.
        tokens: the texts.

    Returns:
        `tokens` themselves, where nothing lies below that half, or the memory is too small.
    """
    found = [LAYER.search(name) for name in trainable(model.module)]
    layers = sorted({int(match[1]) for match in found if match is not None})
    first = layers[len(layers) // 2] if layers else 0
    return prepare(model.encoder, tokens, PrefixSpec(first, model.pooling, model.encoder.dtype, "")) or tokens


def train_contrastive(
    model: SequenceClassifier,
    source: Feed,
    labels: np.ndarray,
    lengths: np.ndarray,
    rows: np.ndarray,
    *,
    steps: int,
    seed: int,
) -> int:
    """Train the adapter alone, by AdamW with a linearly falling rate; without dropout, since so few steps need none.

    Args:
        model: with an adapter; its pooling says what vectors are compared.
        source: batches by row number; adapters of layers below those that it begins at are left as they are.
        labels: (N,) class numbers; lengths: (N,) tokens of each text.
        rows: row numbers of the texts to train on.

    Returns:
        The number of texts seen, repeats included.
    """
    parameters = trainable(model.module)  # not the head
    optimizer = torch.optim.AdamW(list(parameters.values()), lr=LEARNING_RATE, weight_decay=0.0)
    random = np.random.default_rng([seed, len(rows)])
    texts = 0
    with evaluating(model):
        for step in range(steps):
            chosen = draw_batch(labels, rows, random)
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * (1 - step / steps)
            # Texts of like length are padded together; the pairs are of all of them.
            parts = np.array_split(chosen[np.argsort(lengths[chosen], kind="stable")], -(-len(chosen) // PADDED))
            vectors = torch.cat([model.pooled(**source(part)).float() for part in parts])  # type: ignore[arg-type]
            chosen = np.concatenate(parts)
            loss = cosine_loss(vectors, torch.from_numpy(labels[chosen]).to(vectors.device))
            loss.backward()
            nn.utils.clip_grad_norm_(list(parameters.values()), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            texts += len(chosen)
    return texts


def cosine_loss(vectors: Tensor, labels: Tensor) -> Tensor:
    """The mean over all pairs of B texts of (1 - s)² where they are of one class and s² where not; s is their cosine.

    Args:
        vectors: (B, H); labels: (B,) class numbers.
    """
    unit = normalize(vectors, dim=1)
    same = (labels[:, None] == labels[None, :]).to(unit)
    pairs = torch.triu(torch.ones_like(same), diagonal=1).bool()
    return (same - unit @ unit.T)[pairs].square().mean()


def draw_batch(labels: np.ndarray, rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Up to 32 of `rows`: as many of each of at most eight classes as there are, the rest whichever come.

    Rows and classes are drawn without replacement, so that of 32 texts or fewer in eight classes all are taken.
    """
    shuffled = random.permutation(rows)
    classes = random.permutation(np.unique(labels[rows]))[:MOST_CLASSES]
    shuffled = shuffled[np.isin(labels[shuffled], classes)]
    place = np.empty(len(shuffled), dtype=np.int64)  # of each row among those of its class
    for one in classes:
        of_class = labels[shuffled] == one
        place[of_class] = np.arange(of_class.sum())
    found: np.ndarray = shuffled[np.argsort(place, kind="stable")][:BATCH]
    return found
