"""Near-duplicates: MinHash finds candidates, the true Jaccard similarity of their shingles decides.

Short texts are near-duplicates only where nothing but spelling differs.

Source: Broder, "On the resemblance and containment of documents", 1997; banding: Leskovec, Rajaraman and Ullman,
"Mining of Massive Datasets", 3.4.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .disk_store import BandStore, TextStore
from .text_checks import FEWEST_SHINGLES, SHORT, jaccard, plain, same_but_for_spelling, shingles

#: Texts that share this much of all their shingles are near-duplicates.
THRESHOLD = 0.5
# Two texts meet in one of 42 bands of 3 hashes with a probability of 99.6% at a similarity of 0.5, and 28% at 0.2.
BANDS, HASHES = 42, 3
SEED = 1
# In each band, a text is compared with the first text and this many before it, which is enough for 42 bands.
_LOOK_BACK = 3
_REMEMBERED = 2_000_000
_AT_ONCE = 65_536


@dataclass(frozen=True)
class NearDuplicates:
    """For each of N rows its near-duplicate.

    Attributes:
        own: (N,) an earlier row of the same part, -1 where there is none; own_similarity: (N,) in [0, 1].
        train: (N,) for rows of the second part a row of the first, otherwise -1; train_similarity: (N,).
    """

    own: np.ndarray
    own_similarity: np.ndarray
    train: np.ndarray
    train_similarity: np.ndarray


def band_keys(sets: list[set[str]]) -> np.ndarray:
    """(n, BANDS) uint32 band keys of n sets of shingles."""
    import rensa

    digests = rensa.RMinHash.digests_from_token_sets(sets, BANDS * HASHES, SEED)
    hashes = np.array(digests, dtype=np.uint64).reshape(len(sets), BANDS, HASHES)
    # One multiply-and-mix round a hash, folded to 32 bits: two keys that meet by chance cost one comparison.
    mixed = np.zeros((len(sets), BANDS), dtype=np.uint64)
    for place in range(HASHES):
        mixed = (mixed ^ hashes[:, :, place]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return (mixed >> np.uint64(32)).astype(np.uint32)


def find_near_duplicates(bands: BandStore, texts: TextStore, eligible: np.ndarray, boundary: int) -> NearDuplicates:
    """Near-duplicates among N rows.

    Args:
        eligible: (N,) bool: rows with at least `FEWEST_SHINGLES` shingles that repeat no earlier row of their part.
        boundary: rows from here on are of the second part.
    """
    size = len(eligible)
    found = NearDuplicates(np.full(size, -1), np.zeros(size), np.full(size, -1), np.zeros(size))
    rows = np.flatnonzero(eligible)

    @functools.lru_cache(maxsize=8192)
    def shingled(row: int) -> tuple[list[str], frozenset[str]]:
        words = plain(texts[row]).words
        return words, frozenset(shingles(words))

    def similarity_of(one: int, other: int) -> float:
        (words, pairs), (other_words, other_pairs) = shingled(one), shingled(other)
        if min(len(words), len(other_words)) < SHORT and not same_but_for_spelling(words, other_words):
            return 0.0
        return jaccard(pairs, other_pairs)

    failed: set[int] = set()
    for number in range(len(bands)):
        band = bands.band(number)[rows]
        for ones, others in _candidates(band, rows, boundary):
            across = (ones >= boundary) & (others < boundary)
            for partner, similarity, relation in (
                (found.own, found.own_similarity, ~across),
                (found.train, found.train_similarity, across),
            ):
                open_ = relation & (partner[ones] < 0)
                for one, other in zip(ones[open_].tolist(), others[open_].tolist(), strict=True):
                    pair = one * size + other
                    if partner[one] >= 0 or pair in failed:
                        continue
                    alike = similarity_of(one, other)
                    if alike >= THRESHOLD:
                        partner[one], similarity[one] = other, alike
                    else:
                        if len(failed) >= _REMEMBERED:
                            failed.clear()
                        failed.add(pair)
    return found


def _candidates(band: np.ndarray, rows: np.ndarray, boundary: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs (later rows, earlier rows) with the same key in one band, a bounded number a row."""
    order = np.argsort(band, kind="stable")  # rows ascend, so they do within a key
    ordered, band = rows[order], band[order]
    count = len(order)
    places = np.arange(count)
    fresh = np.ones(count, dtype=bool)
    fresh[1:] = band[1:] != band[:-1]
    first = np.maximum.accumulate(np.where(fresh, places, 0))  # (count,) where the row's key begins
    second = ordered >= boundary
    # The last row of the first part with the same key, for rows of the second; and where the second part begins.
    last = np.maximum.accumulate(np.where(~second, places, -1))
    entry = np.where(second, np.maximum(first, last + 1), first)
    steps = range(_LOOK_BACK)
    for earlier, least in (
        (entry, entry),
        *((places - 1 - back, entry) for back in steps),
        *((np.where(second, last - back, -1), first) for back in steps),
        (np.where(second, first, -1), first),
    ):
        good = (earlier >= least) & (earlier < places) & (earlier >= 0)
        ones, others = ordered[good], ordered[earlier[good]]
        for start in range(0, len(ones), _AT_ONCE):
            yield ones[start : start + _AT_ONCE], others[start : start + _AT_ONCE]


__all__ = ["BANDS", "FEWEST_SHINGLES", "THRESHOLD", "NearDuplicates", "band_keys", "find_near_duplicates"]
