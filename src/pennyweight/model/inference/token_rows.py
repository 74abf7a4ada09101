"""A batch of texts as one block of token rows: what the inference encoders read.

Texts come sorted by length. Those of one length lie side by side, so that attention reads them as a view, without a
gather, a mask or padding. Short runs of nearly the same length share a group and are padded to its longest text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ...data.batching import Encoded, Integers

# Texts predicted as one unit: batches never cross its border, so that a file's answers do not depend on how many blocks
# are computed at once, by whom, or from where a run was resumed.
BLOCK = 8192
# Tokens a batch. Hidden states of more leave the caches between two products, fewer leave the products too small.
TOKENS = 2048
# A run of fewer texts of one length is padded together with its neighbours, if these have most of its tokens.
FEWEST, MOST_PADDING = 4, 0.15


@dataclass(frozen=True)
class Group:
    """Texts that lie side by side and are padded to one length.

    Attributes:
        start: the first of its `texts * length` rows.
        mask: (texts, 1, 1, length), True where there is a token; None if all are.
        apart: whether no text's attention may read its neighbours' rows, not even masked: 0 times a number that is not
            finite is none.
    """

    start: int
    texts: int
    length: int
    mask: Tensor | None
    apart: bool = False

    @property
    def rows(self) -> slice:
        """Its rows of the batch."""
        return slice(self.start, self.start + self.texts * self.length)


@dataclass(frozen=True)
class TokenRows:
    """B texts as N rows, one a token.

    Attributes:
        ids: (N,) token ids; the padding id at padding.
        types: (N,) segments of pairs of texts, or None.
        places: (N,) the place of each token in its text, from 0.
        firsts: (B,) the row of each text's first token.
        lengths: (B,) tokens of each text.
        groups: in the order of the rows. Behind theirs lie rows of padding that nobody reads: every new number of rows
            costs new kernels, so there are few.
    """

    ids: Tensor
    types: Tensor | None
    places: Tensor
    firsts: Tensor
    lengths: Tensor
    groups: tuple[Group, ...]


def plan_token_batches(
    lengths: Integers, workers: int = 1, most_tokens: int = TOKENS, copies: Integers | None = None
) -> Iterator[Integers]:
    """Row numbers of each batch: within blocks of `BLOCK` texts, longest first, as many texts as fit `most_tokens`.

    Args:
        lengths: (N,) tokens of each text.
        workers: a block of few tokens is cut into so many batches, where there are as many texts.
        copies: (N,) how often each text is computed; once where None.
    """
    costs = lengths if copies is None else lengths * copies
    for start in range(0, len(lengths), BLOCK):
        order = start + np.argsort(-lengths[start : start + BLOCK], kind="stable")
        limit = min(most_tokens, -(-int(costs[order].sum()) // workers))
        begin, tokens = 0, 0
        for end, cost in enumerate(costs[order].tolist()):
            if end > begin and tokens + cost > limit:
                yield order[begin:end]
                begin, tokens = end, 0
            tokens += cost
        if len(order):
            yield order[begin:]


def token_rows(encoded: Encoded, indices: Integers, pad_id: int, *, apart: bool = False) -> TokenRows:
    """The texts at `indices`, sorted by length, as rows; `apart` as for `Group`."""
    lengths = encoded.lengths[indices]
    borders = [0, *_borders(lengths.tolist()), len(indices)]
    groups, firsts, ids, types, places, start = [], [], [], [], [], 0
    for begin, end in pairwise(borders):
        own, width = lengths[begin:end], max(1, int(lengths[begin]))
        columns = np.arange(width)
        real = columns < own[:, None]  # (texts, width)
        source = encoded.offsets[indices[begin:end]][:, None] + columns
        padded = not real.all()
        ids.append(_read(encoded.ids, source, real, padded, pad_id))
        if encoded.type_ids is not None:
            types.append(_read(encoded.type_ids, source, real, padded, 0))
        places.append(np.broadcast_to(columns, real.shape).ravel())
        firsts.append(start + width * np.arange(end - begin))
        # A text without tokens attends to one of padding: to nothing at all would be no number.
        mask = torch.from_numpy(columns < np.maximum(own, 1)[:, None])[:, None, None] if padded else None
        groups.append(Group(start, end - begin, width, mask, apart))
        start += real.size
    unread = np.zeros(_rounded(start) - start, dtype=np.int64)
    return TokenRows(
        _tensor([*ids, unread + pad_id]),
        _tensor([*types, unread]) if types else None,
        _tensor([*places, unread]),
        _tensor(firsts),
        torch.from_numpy(lengths),
        tuple(groups),
    )


def _read(values: np.ndarray, source: np.ndarray, real: np.ndarray, padded: bool, filling: int) -> np.ndarray:
    """`values` at `source`, flat, and `filling` where nothing is real."""
    if not padded:
        whole: np.ndarray = values[source.ravel()]
        return whole
    found = np.full(real.size, filling, dtype=values.dtype)
    found[real.ravel()] = values[source[real]]
    return found


def _borders(lengths: list[int]) -> Iterator[int]:
    """Where a new group begins, in lengths that fall."""
    begin = 0
    while begin < len(lengths):
        end = begin
        while end < len(lengths) and lengths[end] == lengths[begin]:
            end += 1
        if end - begin < FEWEST:
            least = lengths[begin] * (1 - MOST_PADDING)
            while end < len(lengths) and lengths[end] >= least and not _starts_run(lengths, end):
                end += 1
        if end < len(lengths):
            yield end
        begin = end


def _starts_run(lengths: list[int], at: int) -> bool:
    """Whether `FEWEST` texts of one length begin here."""
    return lengths[at] != lengths[at - 1] and lengths[at : at + FEWEST] == [lengths[at]] * FEWEST


def _rounded(rows: int) -> int:
    """Up to a multiple of 16, or of a 32nd of the size where that is more: few shapes, little waste."""
    step = max(16, 1 << max(0, rows.bit_length() - 5))
    return -(-rows // step) * step


def _tensor(parts: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.int64, copy=False))
