"""Corrupted copies of training texts, tokenized once, and the draw of which copy an epoch reads a text as."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..data.batching import Encoded
from ..data.corruption import augmented


@dataclass(frozen=True)
class Augmented:
    """N training texts and M corrupted copies of some of them, as one set of N + M rows.

    Attributes:
        tokens: the N texts as they are, then the copies.
        owners: (N + M,) which text each row stands for.
        epochs: one array (N,) an epoch: the row that each text is read as.
    """

    tokens: Encoded
    owners: np.ndarray
    epochs: tuple[np.ndarray, ...]

    def __str__(self) -> str:
        texts = len(self.epochs[0])
        return f"augmentation: {len(self.owners) - texts:,} corrupted copies of {texts:,} texts"


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
        share: of the texts that an epoch reads corrupted, 0 to 1.
        copies: how many different corrupted copies a text has at most.

    Returns:
        None where nothing is drawn.
    """
    count = len(texts)
    drawn: list[np.ndarray] = []  # (N,) an epoch: 0 as it is, else the copy's number
    for epoch in range(epochs):
        random = np.random.default_rng([seed, epoch, 0xA09])
        drawn.append((random.random(count) < share) * random.integers(1, copies + 1, count))
    wanted = np.unique(np.concatenate([(number - 1) * count + np.arange(count) for number in drawn]))
    wanted = wanted[wanted >= 0]
    if not len(wanted):
        return None
    places = np.full(copies * count, -1, dtype=np.int64)
    places[wanted] = count + np.arange(len(wanted))
    made = encode([augmented(texts[key % count], seed, key // count) for key in wanted.tolist()])
    rows = tuple(
        np.where(number == 0, np.arange(count), places[np.maximum(number - 1, 0) * count + np.arange(count)])
        for number in drawn
    )
    return Augmented(joined(tokens, made), np.concatenate([np.arange(count), wanted % count]), rows)


def joined(first: Encoded, second: Encoded) -> Encoded:
    """The rows of two sets in one."""
    types = None
    if first.type_ids is not None and second.type_ids is not None:
        types = np.concatenate([first.type_ids, second.type_ids])
    return Encoded(
        np.concatenate([first.ids, second.ids]),
        np.concatenate([first.offsets, first.offsets[-1] + second.offsets[1:]]),
        types,
        first.truncated + second.truncated,
    )
