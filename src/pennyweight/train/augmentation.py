"""Augmentation: corrupted copies of training texts, tokenized once, and which copy of a text each epoch reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..data.batching import Encoded, join
from ..data.corruption import augmented


@dataclass(frozen=True)
class Augmented:
    """N training texts and M corrupted copies of some of them, as one set of N + M rows.

    Attributes:
        tokens: the N texts as they are, then the copies.
        texts: (N + M,) the text that each row is, or is a copy of.
        epochs: one array (N,) an epoch: the row that each text is read as.
    """

    tokens: Encoded
    texts: np.ndarray
    epochs: tuple[np.ndarray, ...]

    def __str__(self) -> str:
        count = len(self.epochs[0])
        return f"augmentation: {len(self.texts) - count:,} corrupted copies of {count:,} texts"


def augment(
    texts: Sequence[str],
    tokens: Encoded,
    encode: Callable[[list[str]], Encoded],
    *,
    share: float,
    copies: int,
    epochs: int,
    seed: int,
) -> Augmented | None:
    """Draw for each epoch which texts are corrupted and how; every copy that is drawn is made and tokenized once.

    The draw depends on (seed, epoch) and a copy on (text, seed, number) alone, so that a run that is resumed reads the
    same. Copies are rows like any other: what frozen layers compute of them is kept, and lengths are grouped.

    Args:
        texts: N training texts; `tokens`: their ids.
        encode: from texts to ids.
        share: share of the texts that an epoch reads corrupted, 0 to 1.
        copies: how many different corrupted copies a text has at most.

    Returns:
        None if nothing is drawn.
    """
    count = len(texts)
    numbers: list[np.ndarray] = []  # (N,) an epoch: 0 for the text as it is, otherwise the number of its copy
    for epoch in range(epochs):
        random = np.random.default_rng([seed, epoch, 0xA09])
        numbers.append((random.random(count) < share) * random.integers(1, copies + 1, count))
    # Copy `number` of text `text` is the one with key (number - 1) * N + text.
    keys = np.unique(np.concatenate([(number - 1) * count + np.arange(count) for number in numbers]))
    keys = keys[keys >= 0]
    if not len(keys):
        return None
    row_of = np.full(copies * count, -1, dtype=np.int64)
    row_of[keys] = count + np.arange(len(keys))
    corrupted = encode([augmented(texts[key % count], seed, key // count) for key in keys.tolist()])
    epoch_rows = tuple(
        np.where(number == 0, np.arange(count), row_of[np.maximum(number - 1, 0) * count + np.arange(count)])
        for number in numbers
    )
    return Augmented(join(tokens, corrupted), np.concatenate([np.arange(count), keys % count]), epoch_rows)
