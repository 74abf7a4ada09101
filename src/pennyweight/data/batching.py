"""Token ids packed flat, and batches planned so that an epoch sees few shapes and little padding.

Every new shape costs a CPU backend new kernels, so batches have one number of rows (all but one of them) and padded
lengths that are multiples of `bucket`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """Where each of N texts' W windows are, of texts too long for one sequence; every text has at least one.

    Attributes:
        offsets: (W + 1,) int64; window j is ids[offsets[j]:offsets[j + 1]].
        texts: (N + 1,) int64; text i has the windows texts[i] to texts[i + 1].
    """

    offsets: Integers
    texts: Integers

    @classmethod
    def of_lengths(cls, texts: Sequence[Sequence[int]]) -> Windows:
        """From the tokens of each window, by text."""
        counts = [len(lengths) for lengths in texts]
        return cls(_starts(list(chain.from_iterable(texts))), _starts(counts))

    @property
    def counts(self) -> Integers:
        """(N,) windows of each text."""
        return np.diff(self.texts)

    def lengths_of(self, text: int) -> list[int]:
        """The tokens of each window of a text."""
        found: list[int] = np.diff(self.offsets[self.texts[text] : self.texts[text + 1] + 1]).tolist()
        return found

    def rows_of(self, indices: npt.NDArray[np.integer]) -> Integers:
        """The numbers of the windows of some texts, text by text."""
        return np.concatenate([np.arange(self.texts[index], self.texts[index + 1]) for index in indices])

    def mean(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(N, ...) means over each text's windows of values (W, ...)."""
        if not len(values):
            return values
        sums: npt.NDArray[np.float32] = np.add.reduceat(values, self.texts[:-1], axis=0)
        return sums / self.counts.astype(np.float32).reshape(-1, *(1,) * (values.ndim - 1))


@dataclass(frozen=True)
class Encoded:
    """N token sequences end to end.

    Attributes:
        ids: (tokens,) int32.
        offsets: (N + 1,) int64; sequence i is ids[offsets[i]:offsets[i + 1]].
        type_ids: (tokens,) int32 segment numbers, where the tokenizer gives any.
        truncated: how many sequences lost tokens to the tokenizer's `max_length`.
        lost: (N,) tokens that were cut from each; None if none was, or the texts are pairs.
        windows: where a text may be longer than the model reads at once: then `offsets` bound whole texts, whose
            windows, which overlap, lie end to end.
    """

    ids: npt.NDArray[np.int32]
    offsets: Integers
    type_ids: npt.NDArray[np.int32] | None = None
    truncated: int = 0
    lost: Integers | None = None
    windows: Windows | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Integers:
        """(N,) tokens a sequence."""
        return np.diff(self.offsets)

    @property
    def sequences(self) -> Encoded:
        """The sequences that the model reads; each window is one."""
        if self.windows is None:
            return self
        return Encoded(self.ids, self.windows.offsets, self.type_ids)

    def row(self, index: int) -> npt.NDArray[np.int32]:
        """The ids of one sequence."""
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        return self.ids[self.offsets[index] : self.offsets[index + 1]]


def select(encoded: Encoded, indices: npt.NDArray[np.integer]) -> Encoded:
    """The sequences at `indices`, in that order; how many of them were truncated is unknown."""
    spans = [slice(encoded.offsets[index], encoded.offsets[index + 1]) for index in indices]
    types = None if encoded.type_ids is None else [encoded.type_ids[span].tolist() for span in spans]
    found = pack([encoded.ids[span].tolist() for span in spans], type_ids=types)
    if encoded.windows is None:
        return found
    return replace(found, windows=Windows.of_lengths([encoded.windows.lengths_of(int(index)) for index in indices]))


def join(first: Encoded, second: Encoded) -> Encoded:
    """The sequences of both, one behind the other; both with windows or neither."""
    types = None
    if first.type_ids is not None and second.type_ids is not None:
        types = np.concatenate([first.type_ids, second.type_ids])
    windows = None
    if first.windows is not None and second.windows is not None:
        windows = Windows(
            _behind(first.windows.offsets, second.windows.offsets), _behind(first.windows.texts, second.windows.texts)
        )
    return Encoded(
        np.concatenate([first.ids, second.ids]),
        _behind(first.offsets, second.offsets),
        types,
        first.truncated + second.truncated,
        windows=windows,
    )


def count_token(encoded: Encoded, token_id: int | None) -> Integers:
    """(N,) how often a token occurs in each sequence; all 0 where there is no such token."""
    if token_id is None:
        return np.zeros(len(encoded), dtype=np.int64)
    seen = np.concatenate([[0], np.cumsum(encoded.ids == token_id, dtype=np.int64)])
    counts: Integers = seen[encoded.offsets[1:]] - seen[encoded.offsets[:-1]]
    return counts


def pack(
    rows: Sequence[Sequence[int]], *, type_ids: Sequence[Sequence[int]] | None = None, truncated: int = 0
) -> Encoded:
    """Lay N lists of token ids end to end (`type_ids`: N lists of the same lengths)."""
    offsets = _starts([len(row) for row in rows])
    tokens = int(offsets[-1])
    return Encoded(_flat(rows, tokens), offsets, None if type_ids is None else _flat(type_ids, tokens), truncated)


def plan_batches(
    lengths: npt.NDArray[np.integer],
    *,
    batch_size: int,
    bucket: int,
    seed: int | None,
    epoch: int = 0,
    group: bool = True,
) -> list[Integers]:
    """Put N sequences into batches, every index in exactly one, all batches but one of `batch_size` rows.

    Args:
        lengths: (N,) tokens a sequence.
        batch_size: rows per batch.
        bucket: padded lengths are multiples of this many tokens.
        seed: None for evaluation: longest first (memory runs out at once or never), nothing shuffled.
        epoch: shuffles differ by (seed, epoch), and only by them.
        group: batch sequences of like padded length, shuffled within a length, and shuffle the batches. A batch on
            the border of two lengths takes the longer. False: a plain shuffle.

    Returns:
        Arrays of row numbers; the plan is empty when N is 0.
    """
    if batch_size < 1 or bucket < 1:
        raise ValueError(f"batch_size and bucket start at 1, got {batch_size} and {bucket}")
    padded = _round_up(np.asarray(lengths, dtype=np.int64), bucket)
    if seed is None:
        return _cut(np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable"), batch_size)
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(padded))
    if not group:
        return _cut(order, batch_size)
    # A stable sort of a shuffle: by length, and at random within one.
    batches = _cut(order[np.argsort(padded[order], kind="stable")], batch_size)
    return [batches[index] for index in random.permutation(len(batches))]


def collate(
    encoded: Encoded, indices: npt.NDArray[np.integer], *, pad_id: int, bucket: int, max_length: int
) -> tuple[Integers, Integers]:
    """Pad the sequences at `indices` to one length T: their longest, rounded up to `bucket`, at most `max_length`.

    Returns:
        ids (B, T) int64, filled with `pad_id`; mask (B, T) int64, 1 where there is a token.

    Raises:
        ValueError: a sequence is longer than `max_length`; the tokenizer has to truncate, since it knows which tokens
            must stay.
    """
    indices = np.asarray(indices, dtype=np.int64)
    starts, lengths = encoded.offsets[indices], encoded.lengths[indices]
    longest = int(lengths.max(initial=0))
    if longest > max_length:
        raise ValueError(f"a sequence of {longest} tokens is longer than max_length {max_length}")
    width = min(int(_round_up(np.array([longest]), bucket)[0]), max_length)
    columns = np.arange(width)  # (T,)
    mask = columns < lengths[:, None]  # (B, T)
    ids = np.full((len(indices), width), pad_id, dtype=np.int64)
    ids[mask] = encoded.ids[(starts[:, None] + columns)[mask]]
    return ids, mask.astype(np.int64)


def collate_types(encoded: Encoded, indices: npt.NDArray[np.integer], mask: npt.NDArray[np.integer]) -> Integers | None:
    """The segment numbers (B, T) that belong to `collate`'s mask (B, T), 0 at padding; None if there are none."""
    if encoded.type_ids is None:
        return None
    places = (encoded.offsets[np.asarray(indices, dtype=np.int64)][:, None] + np.arange(mask.shape[1]))[mask == 1]
    types = np.zeros(mask.shape, dtype=np.int64)
    types[mask == 1] = encoded.type_ids[places]
    return types


def _round_up(lengths: Integers, bucket: int) -> Integers:
    """The next multiples of `bucket`, at least one `bucket`: an empty sequence still takes a place."""
    return np.maximum(-(-lengths // bucket), 1) * bucket


def _starts(lengths: Sequence[int]) -> Integers:
    """(N + 1,) where N pieces of these lengths begin, and where the last ends."""
    found = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=found[1:])
    return found


def _behind(first: Integers, second: Integers) -> Integers:
    return np.concatenate([first, first[-1] + second[1:]])


def _cut(order: Integers, size: int) -> list[Integers]:
    return [order[start : start + size] for start in range(0, len(order), size)]


def _flat(rows: Sequence[Sequence[int]], tokens: int) -> npt.NDArray[np.int32]:
    return np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=tokens)
