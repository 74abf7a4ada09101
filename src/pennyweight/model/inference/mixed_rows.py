"""One batch of texts for classifiers that share a backbone: which rows are computed with whose adapter, layer by layer.

A text that several classifiers read is computed once up to the lowest layer that one of them adapts. There its rows are
copied: the classifier whose adapter begins highest goes on with the rows as they are, each other one gets a copy where
its own adapter begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from ...data.batching import Encoded, Integers
from .adapter_updates import Segment
from .member import Member
from .token_rows import TokenRows, token_rows


@dataclass(frozen=True)
class Copy:
    """A text as one classifier computes it.

    Attributes:
        text: its number among the batch's token sequences.
        source: the number of the copy whose rows it takes over, its own where it is there from the start.
        begins: the layer before which it is made.
    """

    text: int
    member: Member
    source: int
    begins: int


@dataclass(frozen=True)
class Stage:
    """The rows that some layers compute.

    Attributes:
        layer: the first of them.
        batch: the rows.
        order: which copy each of its texts is, (B,).
        rows: (N,) where each row was before the stage began; None for the first stage.
        segments: the adapters of the rows; `of_texts`: of the texts, where each is one row.
    """

    layer: int
    batch: TokenRows
    order: Integers
    rows: Tensor | None
    segments: tuple[Segment, ...]
    of_texts: tuple[Segment, ...]


@dataclass(frozen=True)
class MixedBatch:
    """A batch in stages, and where its answers come from.

    Attributes:
        stages: lowest first, at least one.
        answers: of each member, the copies that its head reads, and the places of their answers.
    """

    stages: tuple[Stage, ...]
    answers: tuple[tuple[Member, Integers, list[tuple[int, int]]], ...]


def mixed_batch(
    tokens: Encoded, texts: Integers, readers: Sequence[Sequence[tuple[int, Member]]], depth: int, pad_id: int
) -> MixedBatch:
    """Plan a batch.

    Args:
        texts: (B,) numbers of token sequences, longest first.
        readers: of each of them the classifiers that read it, with their places among its answers.
        depth: the encoder's number of layers.
    """
    copies: list[Copy] = []
    reads: list[tuple[Member, int, tuple[int, int]]] = []
    for text, own in zip(texts.tolist(), readers, strict=True):
        main = len(copies)
        for number, (place, member) in enumerate(sorted(own, key=lambda each: -each[1].first_layer)):
            begins = member.first_layer if number else 0
            # What nothing changes is the same for all: their heads read the same rows.
            copy = main if number and begins >= depth else len(copies)
            if copy == len(copies):
                copies.append(Copy(text, member, main if begins else copy, begins))
            reads.append((member, copy, (text, place)))
    stages: list[Stage] = []
    for layer in sorted({copy.begins for copy in copies}):
        stages.append(_stage(tokens, copies, layer, pad_id, stages[-1] if stages else None))
    reads.sort(key=lambda read: id(read[0]))
    answers = []
    for _, each in groupby(reads, key=lambda read: id(read[0])):
        own_reads = list(each)
        places = np.array([read[1] for read in own_reads], dtype=np.int64)
        answers.append((own_reads[0][0], places, [read[2] for read in own_reads]))
    return MixedBatch(tuple(stages), tuple(answers))


def _stage(tokens: Encoded, copies: Sequence[Copy], layer: int, pad_id: int, before: Stage | None) -> Stage:
    """The rows of all copies that are there at a layer."""
    lengths = tokens.lengths
    alive = [number for number, copy in enumerate(copies) if copy.begins <= layer]
    # Texts of one length and adapter lie side by side, so that one product serves them.
    alive.sort(key=lambda number: (-int(lengths[copies[number].text]), id(copies[number].member)))
    order = np.array(alive, dtype=np.int64)
    # A classifier whose numbers overflow must not touch its neighbours' texts.
    texts = np.array([copies[number].text for number in alive], dtype=np.int64)
    batch = token_rows(tokens, texts, pad_id, apart=True)
    spans = _spans(batch)
    moved = None if before is None else _moved(copies, order, batch, before)
    segments, of_texts = [], []
    # Rows that do not lie side by side are several segments: gathering them costs more than further small products.
    for _, places in groupby(range(len(alive)), key=lambda place: id(copies[alive[place]].member)):
        first, *_, last = [*places] * 2
        adapter = copies[alive[first]].member.adapter
        if adapter.updates or adapter.biases:
            rows = slice(spans[first][0], spans[last][1])
            segments.append(Segment(rows, adapter.updates, adapter.biases))
            of_texts.append(Segment(slice(first, last + 1), adapter.updates, adapter.biases))
    return Stage(layer, batch, order, moved, tuple(segments), tuple(of_texts))


def _spans(batch: TokenRows) -> list[tuple[int, int]]:
    """The first row of each text, and that behind its last, padding included."""
    return [
        (group.start + text * group.length, group.start + (text + 1) * group.length)
        for group in batch.groups
        for text in range(group.texts)
    ]


def _moved(copies: Sequence[Copy], order: Integers, batch: TokenRows, before: Stage) -> Tensor:
    """(N,) the row before the stage that each of its rows continues."""
    spans = dict(zip(before.order.tolist(), _spans(before.batch), strict=True))
    rows = np.zeros(len(batch.ids), dtype=np.int64)
    for number, (start, end) in zip(order.tolist(), _spans(batch), strict=True):
        first, behind = spans[number if number in spans else copies[number].source]
        # Padding may be longer now: it goes on from any row, since nobody reads it.
        rows[start:end] = np.minimum(first + np.arange(end - start), behind - 1)
    return torch.from_numpy(rows)
