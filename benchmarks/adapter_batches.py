"""What every contender with many adapters does alike: calls of so many texts, and the adapter that reads each text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np


def choose_readers(texts: int, adapters: int, how: str, seed: int = 0) -> list[int]:
    """The adapter of each text, drawn at random.

    Args:
        how: `uniform`, or `zipf`: adapter k with a weight of 1 / (k + 1).
    """
    weights = 1 / np.arange(1, adapters + 1) if how == "zipf" else np.ones(adapters)
    random = np.random.default_rng([seed, adapters])
    chosen: list[int] = random.choice(adapters, size=texts, p=weights / weights.sum()).tolist()
    return chosen


def calls(texts: Sequence[str], readers: Sequence[int], size: int) -> Iterator[tuple[list[str], list[int]]]:
    """Texts and their adapters, `size` at a time: as many as a server finds waiting."""
    for at in range(0, len(texts), size):
        yield list(texts[at : at + size]), list(readers[at : at + size])


def by_reader(readers: Sequence[int]) -> dict[int, list[int]]:
    """Adapter to the places of its texts, in the order in which adapters come first."""
    groups: dict[int, list[int]] = {}
    for place, reader in enumerate(readers):
        groups.setdefault(reader, []).append(place)
    return groups
