"""Collects requests from an event loop and computes them together in threads."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...data.batching import Encoded
from ...errors import PennyweightError
from ..classifiers.logits_engine import LogitsEngine, LoneEngine
from ..classifiers.served_classifier import ServedClassifier
from ..server_settings import ServerSettings
from ..serving_errors import DeadlineExceeded, QueueFull, ServerStopping, TooMuchWork
from .rounds import QueuedTexts, Share, compute_round, plan_round, round_input
from .throughput import Throughput

ROUND = 2048  # tokens, as many as the inference engine computes best at once
SMALLEST_PART = 256  # tokens; less is not worth a lane of its own

# What a request is answered with.
Outcome = list[np.ndarray] | PennyweightError


@dataclass(frozen=True)
class RoundFigures:
    """The figures of one batch of one lane.

    Attributes:
        requests: requests that it had texts of.
        texts: texts of all requests.
        sequences: different token sequences among them.
        tokens: tokens of the texts, counted once for each classifier that read them.
        classifiers: different ones.
        seconds: from its start to its answers.
        waited: seconds that its oldest request had waited by its start.
    """

    requests: int
    texts: int
    sequences: int
    tokens: int
    classifiers: int
    seconds: float
    waited: float


@dataclass(eq=False)
class _Waiter:
    """A request in the queue, and who waits for it."""

    queued: QueuedTexts
    deadline: float
    future: asyncio.Future[list[np.ndarray]]
    loop: asyncio.AbstractEventLoop


class Batcher:
    """Computes what is submitted, many requests at a time, oldest first and fairly; see `plan_round`.

    Rounds are computed in lanes: threads side by side, with an equal part of the computing threads inside each. One
    round with all threads inside takes longer a text, since they wait for each other at the end of every product, and
    whoever arrives meanwhile waits for all of it.

    While the lanes compute, arrivals gather; the next round takes what is there, up to `max_round_tokens`, or an equal
    part of it where several lanes are idle. An idle lane waits at most `max_wait_ms` after the first arrival. A
    request whose deadline has passed or whose caller is gone (its task was cancelled) is dropped before it is computed.
    An error fails the request that it is of, alone.

    Times are those of `time.monotonic`.

    Args:
        engine: computes; `logits` is called in all lanes at once.
        settings: the limits.
        on_round: called in a lane after each of its rounds; it must not raise.
    """

    def __init__(
        self,
        engine: LogitsEngine,
        settings: ServerSettings,
        on_round: Callable[[RoundFigures], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._on_round = on_round
        self._clock = clock
        threads = torch.get_num_threads()
        one = isinstance(engine, LoneEngine) and engine.one_at_a_time
        self._lanes = 1 if one else settings.lanes or threads
        self._lane_threads = max(1, threads // self._lanes)
        self._idle = 0  # lanes that wait for texts
        self._work = settings.max_round_tokens or ROUND * self._lane_threads
        self._throughput = Throughput(self._work)
        self._waiters: dict[QueuedTexts, _Waiter] = {}  # in order of arrival
        self._texts = 0
        self._tokens = 0
        self._computing = 0
        self._stopping = False
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []

    # --- figures

    @property
    def queued_texts(self) -> int:
        """Texts that wait, each once."""
        return self._texts

    @property
    def queued_tokens(self) -> int:
        """Tokens that wait, counted once for each classifier that reads them; those in computation are not in it."""
        return self._tokens

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens computed a second, counted as in `queued_tokens`; None before the first round."""
        return self._throughput.tokens_per_second

    @property
    def round_tokens(self) -> int:
        """The most tokens of a round, counted as in `queued_tokens`; more only where one text has more."""
        return self._work

    def wait_for(self, tokens: int) -> float:
        """Seconds until so many more tokens are computed, by what waits and by what was measured; 0 at first."""
        rate = self._throughput.tokens_per_second
        return 0.0 if rate is None else (self._tokens + self._computing + tokens) / rate

    # --- beginning and end

    def start(self) -> None:
        """Start the thread."""
        for lane in range(self._lanes):
            self._threads.append(threading.Thread(target=self._run, name=f"pennyweight-batcher-{lane}", daemon=True))
            self._threads[-1].start()

    def warm_up(self, classifier: ServedClassifier) -> None:
        """Compute a few rounds, so that the first request does not wait for kernels and the queue's speed is known.

        Call it before `start`, with any classifier.
        """
        text: Any = "The committee approved the plan for a new bridge after two years of debate over its cost."
        one = classifier.tokens([(text, text) if classifier.pair else text])
        for texts in (1, *[max(1, self._work // len(one.ids))] * 2):
            tokens = Encoded(
                np.tile(one.ids, texts),
                np.arange(texts + 1, dtype=np.int64) * len(one.ids),
                None if one.type_ids is None else np.tile(one.type_ids, texts),
            )
            began = self._clock()
            self._engine.logits(tokens, [[classifier.member]] * texts)
            seconds = self._clock() - began
        self._throughput.add(len(tokens.ids), seconds)

    async def drain(self) -> None:
        """Accept nothing new, and return when all that was accepted is answered."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    # --- requests

    async def submit(
        self, classifiers: Sequence[ServedClassifier], tokens: Encoded, deadline: float
    ) -> list[np.ndarray]:
        """Compute N token sequences for K classifiers: K arrays (N, L) of fp32 logits.

        Args:
            classifiers: all read these tokens, see `ServedClassifier.reads_as`.
            deadline: on `time.monotonic`'s clock.

        Raises:
            QueueFull: more waits than is computed in time.
            TooMuchWork: this request alone would take longer than a request may.
            DeadlineExceeded: the deadline has passed.
            ServerStopping: the server is stopping.
            UnusableClassifier: one of them gave no numbers.
            ResourceError: memory ran out.
        """
        loop = asyncio.get_running_loop()
        waiters = [
            _Waiter(QueuedTexts(group, tokens, self._clock()), deadline, loop.create_future(), loop)
            for group in self._groups(tuple(classifiers), tokens)
        ]
        self._accept(waiters)
        timers = [loop.call_later(max(0.0, deadline - self._clock()), self._expire, one) for one in waiters]
        try:
            return [rows for one in waiters for rows in await one.future]
        finally:
            for timer in timers:
                timer.cancel()
            for one in waiters:
                self._forget(one)

    def _groups(self, classifiers: tuple[ServedClassifier, ...], tokens: Encoded) -> list[tuple[ServedClassifier, ...]]:
        """Classifiers so few at a time that one text for all of them is not more than a round."""
        size = max(1, self._work // max(1, int(tokens.lengths.max(initial=0))))
        return [classifiers[start : start + size] for start in range(0, len(classifiers), size)]

    def _accept(self, waiters: Sequence[_Waiter]) -> None:
        texts = sum(len(one.queued.tokens) for one in waiters)
        work = sum(one.queued.work(0, len(one.queued.tokens)) for one in waiters)
        with self._changed:
            self._refuse(texts, work)
            was_full, was_empty = self._tokens >= self._work, not self._texts
            for one in waiters:
                if len(one.queued.tokens):
                    self._waiters[one.queued] = one
                else:
                    one.future.set_result(one.queued.found)
            self._texts += texts
            self._tokens += work
            if was_empty or (self._tokens >= self._work and not was_full):
                self._changed.notify()

    def _refuse(self, texts: int, work: int) -> None:
        """Raise where a request of so many texts cannot be accepted."""
        limits, rate = self._settings, self._throughput.tokens_per_second
        if self._stopping:
            raise ServerStopping
        alone = 0.0 if rate is None else work / rate
        if alone > limits.deadline_seconds or texts > limits.max_queued_texts:
            raise TooMuchWork(
                f"the texts of this request would take about {alone:.0f} s",
                expected=f"at most {limits.deadline_seconds:.3g} s",
                remedy="send fewer or shorter texts per request, or to fewer classifiers",
            )
        wait = self.wait_for(work)
        # A request that finds nothing waiting may take as long as a request may.
        if self._waiters and wait > limits.max_queue_seconds:
            raise QueueFull.too_long(limits.max_queue_seconds, wait - limits.max_queue_seconds)
        if self._texts + texts > limits.max_queued_texts:
            raise QueueFull(f"more than {limits.max_queued_texts:,} texts are waiting", max(1.0, math.ceil(wait)))

    def _expire(self, waiter: _Waiter) -> None:
        # Where all is computed, the answer is on its way: an event loop that was busy must not refuse it.
        if waiter.queued.left and not waiter.future.done():
            waiter.future.set_exception(DeadlineExceeded(self._clock() - waiter.queued.arrived))

    def _forget(self, waiter: _Waiter) -> None:
        """Compute nothing more of a request that is answered, refused or given up."""
        with self._changed:
            self._remove(waiter.queued)
        if not waiter.future.cancel() and not waiter.future.cancelled():
            waiter.future.exception()  # looked at, or asyncio complains of it

    # --- the thread

    def _run(self) -> None:
        """One lane."""
        ended: float | None = None
        torch.set_num_threads(self._lane_threads)  # of this thread
        try:
            while True:
                shares, rested = self._next_round()
                if not shares:
                    break
                began = self._clock()
                figures = self._compute(shares, began)
                now = self._clock()
                seconds = now - (began if rested or ended is None else ended)
                self._throughput.add(figures.tokens * self._lanes, seconds)
                ended = now
                if self._on_round is not None:
                    self._on_round(figures)
                # What the lane refers to while it waits counts as in use and could not be unloaded.
                del shares
        except BaseException:
            with self._changed:
                self._stopping = True
                left = [(one, ServerStopping()) for one in self._waiters.values()]
            self._deliver(left)
            raise

    def _next_round(self) -> tuple[list[Share], bool]:
        """The texts of the next round, taken from the queue, and whether the lane has waited for any.

        None, once the server is stopping and all texts are taken.
        """
        rested = False
        with self._changed:
            while True:
                now = self._clock()
                self._drop_late(now)
                waiting = [queued for queued in self._waiters if queued.waiting]
                rest = None
                if waiting:
                    rest = waiting[0].arrived + self._settings.max_wait_ms / 1000 - now
                    if rest <= 0 or self._tokens >= self._work or self._stopping:
                        return self._take(waiting, now), rested
                elif self._stopping:
                    return [], rested
                rested = True
                self._idle += 1
                self._changed.wait(rest)
                self._idle -= 1

    def _take(self, waiting: Sequence[QueuedTexts], now: float) -> list[Share]:
        """Take a round's texts out of the queue. The lock is held."""
        part = -(-self._tokens // (1 + self._idle))
        work = min(self._work, max(part, SMALLEST_PART))
        shares = plan_round(waiting, work, now - self._settings.max_queue_seconds / 2)
        for share in shares:
            share.queued.next = share.stop
            self._texts -= share.stop - share.start
            self._tokens -= share.work
            self._computing += share.work
        if self._texts and self._idle:
            self._changed.notify()
        return shares

    def _drop_late(self, now: float) -> None:
        """Refuse what nobody needs any more; an event loop that is busy may not have done so yet."""
        late = [one for one in self._waiters.values() if one.deadline <= now]
        for one in late:
            self._remove(one.queued)
        self._deliver([(one, DeadlineExceeded(now - one.queued.arrived)) for one in late])

    def _remove(self, queued: QueuedTexts) -> _Waiter | None:
        """Take a request out of the queue; None if it was not in it. The lock is held."""
        found = self._waiters.pop(queued, None)
        if found is not None:
            self._texts -= queued.waiting
            self._tokens -= queued.work(queued.next, len(queued.tokens))
        return found

    def _compute(self, shares: Sequence[Share], began: float) -> RoundFigures:
        given = round_input(shares)
        failed = compute_round(self._engine, shares, given)
        with self._changed:
            self._computing -= sum(share.work for share in shares)
            answered: list[tuple[_Waiter, Outcome]] = []
            for share in shares:
                queued = share.queued
                queued.left -= share.stop - share.start
                if queued in failed or not queued.left:
                    waiter = self._remove(queued)
                    if waiter is not None:
                        answered.append((waiter, failed.get(queued, queued.found)))
        self._deliver(answered)
        return RoundFigures(
            len(shares),
            sum(share.stop - share.start for share in shares),
            len(given.tokens),
            sum(share.work for share in shares),
            len({id(one.member) for share in shares for one in share.queued.classifiers}),
            self._clock() - began,
            began - min(share.queued.arrived for share in shares),
        )

    def _deliver(self, outcomes: Sequence[tuple[_Waiter, Outcome]]) -> None:
        """Give requests their answers, in one call an event loop."""
        loops: dict[asyncio.AbstractEventLoop, list[tuple[_Waiter, Outcome]]] = {}
        for waiter, outcome in outcomes:
            loops.setdefault(waiter.loop, []).append((waiter, outcome))
        for loop, own in loops.items():
            with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
                loop.call_soon_threadsafe(_settle, own)


def _settle(outcomes: Sequence[tuple[_Waiter, Outcome]]) -> None:
    for waiter, outcome in outcomes:
        if waiter.future.done():
            continue
        if isinstance(outcome, PennyweightError):
            waiter.future.set_exception(outcome)
        else:
            waiter.future.set_result(outcome)
