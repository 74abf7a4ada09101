"""Choosing the next batch: texts of many requests, fairly, and each token sequence once."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...data.batching import Encoded, Windows
from ...errors import PennyweightError, ResourceError
from ..classifiers.logits_engine import LogitsEngine
from ..classifiers.served_classifier import ServedClassifier
from ..serving_errors import UnusableClassifier

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class QueuedTexts:
    """The texts of one request, and what is found for them.

    Attributes:
        classifiers: K of them; each reads all N texts.
        arrived: when, on the clock of the batcher.
        next: the first text that no round has taken yet.
        left: texts that are not computed yet.
        found: of each classifier the logits (N, L), filled round by round.
    """

    classifiers: tuple[ServedClassifier, ...]
    tokens: Encoded
    arrived: float
    next: int = 0
    left: int = field(init=False)
    found: list[np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        self.left = len(self.tokens)
        self.found = [np.empty((self.left, len(one.labels)), dtype=np.float32) for one in self.classifiers]

    @property
    def waiting(self) -> int:
        """Texts that no round has taken yet."""
        return len(self.tokens) - self.next

    def work(self, start: int, stop: int) -> int:
        """The tokens of some texts, counted once for each classifier that reads them."""
        offsets = self.tokens.offsets
        return int(offsets[stop] - offsets[start]) * len(self.classifiers)

    def most(self, start: int, work: int) -> int:
        """How far texts from `start` on go with this much work."""
        offsets = self.tokens.offsets
        reach = offsets[start] + work // len(self.classifiers)
        return int(np.searchsorted(offsets, reach, side="right")) - 1


@dataclass(frozen=True)
class Share:
    """The texts of one request that one round computes: `start` to `stop`."""

    queued: QueuedTexts
    start: int
    stop: int

    @property
    def work(self) -> int:
        """In tokens, see `QueuedTexts.work`."""
        return self.queued.work(self.start, self.stop)


def plan_round(waiting: Sequence[QueuedTexts], work: int, patient_until: float) -> list[Share]:
    """Choose the texts of a round; the oldest of each request first.

    Requests that have waited long come first, oldest first, with all their texts. Of the rest, each gets an equal
    share, so that a large request does not hold up small ones; what is left over goes to the oldest.

    Args:
        waiting: requests with texts that wait, oldest first.
        work: the most tokens, counted once for each classifier that reads them; more only where one text has more.
        patient_until: requests that arrived before have waited long.
    """
    stops: dict[QueuedTexts, int] = {}
    left = work

    def take(queued: QueuedTexts, most: int) -> None:
        nonlocal left
        start = stops.get(queued, queued.next)
        if left <= 0 or start == len(queued.tokens):
            return
        stop = queued.most(start, min(left, most))
        if stop == start:
            # A text may be larger than its request's share, and the first one larger than a round.
            if queued in stops or (stops and queued.work(start, start + 1) > left):
                return
            stop = start + 1
        left -= queued.work(start, stop)
        stops[queued] = stop

    young = [queued for queued in waiting if queued.arrived >= patient_until]
    for queued in waiting[: len(waiting) - len(young)]:
        take(queued, left)
    for most in (left // max(1, len(young)), work):
        for queued in young:
            if left <= 0:
                break
            take(queued, most)
    return [Share(queued, queued.next, stop) for queued, stop in stops.items()]


@dataclass(frozen=True)
class RoundInput:
    """The engine's input, and where its answers belong.

    Attributes:
        tokens: the different token sequences of the round.
        readers: of each sequence the members that read it, none twice.
        places: of each share, text and classifier in turn the sequence and the reader.
    """

    tokens: Encoded
    readers: list[list[Any]]
    places: list[list[list[tuple[int, int]]]]


def round_input(shares: Iterable[Share]) -> RoundInput:
    """Put the texts of a round together: equal ones (ids, segments and windows) become one with several readers."""
    numbers: dict[tuple[bytes, bytes, tuple[int, ...]], int] = {}
    ids: list[np.ndarray] = []
    windows: list[tuple[int, ...]] = []
    types: list[np.ndarray | None] = []
    readers: list[list[Any]] = []
    known: list[dict[int, int]] = []
    places = []
    for share in shares:
        tokens = share.queued.tokens
        of_share = []
        for text in range(share.start, share.stop):
            span = slice(int(tokens.offsets[text]), int(tokens.offsets[text + 1]))
            own = None if tokens.type_ids is None else tokens.type_ids[span]
            lengths = (span.stop - span.start,) if tokens.windows is None else tuple(tokens.windows.lengths_of(text))
            key = (tokens.ids[span].tobytes(), b"" if own is None or not own.any() else own.tobytes(), lengths)
            number = numbers.setdefault(key, len(readers))
            if number == len(readers):
                ids.append(tokens.ids[span])
                types.append(own)
                windows.append(lengths)
                readers.append([])
                known.append({})
            row = []
            for one in share.queued.classifiers:
                place = known[number].setdefault(id(one.member), len(readers[number]))
                if place == len(readers[number]):
                    readers[number].append(one.member)
                row.append((number, place))
            of_share.append(row)
        places.append(of_share)
    tokens = _packed(ids, types)
    if any(len(lengths) > 1 for lengths in windows):
        tokens = replace(tokens, windows=Windows.of_lengths(windows))
    return RoundInput(tokens, readers, places)


def _packed(ids: Sequence[np.ndarray], types: Sequence[np.ndarray | None]) -> Encoded:
    offsets = np.zeros(len(ids) + 1, dtype=np.int64)
    np.cumsum([len(one) for one in ids], out=offsets[1:])
    segments = None
    if any(one is not None for one in types):
        segments = np.concatenate(
            [np.zeros(len(row), dtype=np.int32) if one is None else one for row, one in zip(ids, types, strict=True)]
        )
    return Encoded(np.concatenate(ids), offsets, segments)


def compute_round(
    engine: LogitsEngine, shares: Sequence[Share], given: RoundInput
) -> dict[QueuedTexts, PennyweightError]:
    """Compute a round and write its answers into the requests' `found`.

    Where the engine fails, every request and classifier is computed alone, so that only those fail which must.

    Args:
        given: `round_input` of the shares.

    Returns:
        The requests that failed, with their errors.
    """
    failed: dict[QueuedTexts, PennyweightError] = {}
    try:
        answers = engine.logits(given.tokens, given.readers)
    except Exception as error:
        if len(shares) == 1 and len(shares[0].queued.classifiers) == 1:
            return {shares[0].queued: refusal(shares[0].queued.classifiers[0], error)}
        for share in shares:
            for alone in _parts(share):
                if found := compute_round(engine, [alone], round_input([alone])):
                    failed[share.queued] = found[alone.queued]
                    break
        return failed
    for share, places in zip(shares, given.places, strict=True):
        try:
            _store(share, places, answers)
        except PennyweightError as error:
            failed[share.queued] = error
    return failed


def _parts(share: Share) -> Iterator[Share]:
    """The share for each of its classifiers alone; what is found is written where the share's own is."""
    whole = share.queued
    for one, rows in zip(whole.classifiers, whole.found, strict=True):
        part = QueuedTexts((one,), whole.tokens, whole.arrived)
        part.found = [rows]
        yield Share(part, share.start, share.stop)


def refusal(classifier: ServedClassifier, error: Exception) -> PennyweightError:
    """The error for a request whose classifier cannot be computed."""
    if isinstance(error, MemoryError | ResourceError) or "memory" in str(error).lower():
        return ResourceError("not enough memory to compute this request", remedy="send fewer texts, or try again later")
    _log.error("classifier %r cannot be computed", classifier.name, exc_info=error)
    return UnusableClassifier(classifier.name, f"{type(error).__name__}: {str(error)[:200]}")


def _store(share: Share, places: list[list[tuple[int, int]]], answers: Sequence[Sequence[np.ndarray]]) -> None:
    """Write the engine's answers for a share where they belong.

    Raises:
        UnusableClassifier: logits that are not finite numbers, or not one for each label.
    """
    for number, one in enumerate(share.queued.classifiers):
        rows = [answers[sequence][reader] for sequence, reader in (row[number] for row in places)]
        into = share.queued.found[number][share.start : share.stop]
        if any(row.shape != into.shape[1:] for row in rows):
            raise UnusableClassifier(one.name, f"{rows[0].shape} logits for {into.shape[1]} labels")
        np.stack(rows, out=into)
        if not np.isfinite(into).all():
            raise UnusableClassifier(one.name, "its logits are not finite numbers")
