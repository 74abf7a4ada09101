"""Requests are computed together, each gets its own answer, and none is computed that nobody waits for."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import numpy as np
import pytest

from pennyweight.data.batching import Encoded, pack
from pennyweight.errors import ResourceError
from pennyweight.serve.batching.batcher import Batcher, RoundFigures
from pennyweight.serve.server_settings import ServerSettings
from pennyweight.serve.serving_errors import (
    DeadlineExceeded,
    QueueFull,
    ServerStopping,
    TooMuchWork,
    UnusableClassifier,
)

from ..fakes import FakeEngine, expected, fake_classifier, token_rows

LATER = 60.0  # seconds; no test waits for it
T = TypeVar("T")


class Batched:
    """A batcher around a fake engine, and what it says of its rounds."""

    def __init__(self, **limits: Any) -> None:
        self.engine = FakeEngine()
        self.figures: list[RoundFigures] = []
        settings = ServerSettings(**{"lanes": 1, "max_wait_ms": 0.0, "max_round_tokens": 100} | limits)
        self.batcher = Batcher(self.engine, settings, self.figures.append)

    def submit(self, classifiers: Any, tokens: Encoded, seconds: float = LATER) -> asyncio.Task[list[np.ndarray]]:
        several = classifiers if isinstance(classifiers, list) else [classifiers]
        return asyncio.create_task(self.batcher.submit(several, tokens, time.monotonic() + seconds))

    async def entered(self) -> None:
        """Wait for the engine to begin a round."""
        assert await asyncio.to_thread(self.engine.entered.acquire, timeout=LATER)

    async def held_up(self, classifier: Any) -> asyncio.Task[list[np.ndarray]]:
        """Begin a round that goes on until `engine.gate` is set; what is submitted meanwhile waits."""
        self.engine.gate.clear()
        first = self.submit(classifier, token_rows(1, first=99))
        await self.entered()
        return first

    async def queue(self, *tasks: asyncio.Task[Any]) -> None:
        """Let the tasks come to where they wait for their answers."""
        for _ in range(3):
            await asyncio.sleep(0)


@asynccontextmanager
async def running(**limits: Any) -> AsyncIterator[Batched]:
    """A started batcher, drained at the end."""
    batched = Batched(**limits)
    batched.batcher.start()
    try:
        yield batched
    finally:
        batched.engine.gate.set()
        await batched.batcher.drain()


def run(test: Callable[[], Awaitable[T]]) -> T:
    async def within() -> T:
        return await asyncio.wait_for(test(), LATER)

    return asyncio.run(within())


def test_each_request_gets_the_logits_of_its_own_texts() -> None:
    async def test() -> None:
        async with running() as batched:
            one, other = fake_classifier("one", 2), fake_classifier("other", 3, factor=10.0)
            tokens, more = token_rows(3, 5, 2), token_rows(4, first=9)
            (found,), (second, third) = await asyncio.gather(
                batched.submit(one, tokens), batched.submit([one, other], more)
            )
            np.testing.assert_array_equal(found, expected(one, tokens))
            np.testing.assert_array_equal(second, expected(one, more))
            np.testing.assert_array_equal(third, expected(other, more))
            assert found.dtype == np.float32

    run(test)


def test_what_arrives_during_a_round_is_computed_in_one_round_after_it() -> None:
    async def test() -> None:
        async with running() as batched:
            batched.engine.gate.clear()
            one = fake_classifier()
            tasks = [batched.submit(one, token_rows(2, first=1))]
            await batched.entered()
            tasks += [batched.submit(one, token_rows(2, first=first)) for first in (2, 3, 4)]
            await batched.queue()
            assert (batched.batcher.queued_texts, batched.batcher.queued_tokens) == (3, 6)
            batched.engine.gate.set()
            await asyncio.gather(*tasks)
            assert [len(sequences) for sequences in batched.engine.rounds] == [1, 3]
            assert (batched.batcher.queued_texts, batched.batcher.queued_tokens) == (0, 0)
        assert [(each.requests, each.texts, each.tokens) for each in batched.figures] == [(1, 1, 2), (3, 3, 6)]

    run(test)


def test_an_idle_engine_waits_for_company_of_the_first_request() -> None:
    async def test() -> None:
        # A full round ends the wait: the test does not take the minute.
        async with running(max_wait_ms=60_000, max_round_tokens=4) as batched:
            one = fake_classifier()
            await asyncio.gather(
                batched.submit(one, token_rows(2, first=1)), batched.submit(one, token_rows(2, first=2))
            )
            assert [len(sequences) for sequences in batched.engine.rounds] == [2]

    run(test)


def test_equal_texts_are_computed_once_for_all_who_read_them() -> None:
    async def test() -> None:
        async with running() as batched:
            one, other = fake_classifier("one"), fake_classifier("other", factor=3.0)
            first = await batched.held_up(one)
            tokens = pack([[7, 8], [9]])
            tasks = [batched.submit(one, tokens), batched.submit(other, tokens), batched.submit([one, other], tokens)]
            await batched.queue()
            batched.engine.gate.set()
            await first
            found = await asyncio.gather(*tasks)
            assert batched.engine.rounds[1] == [([7, 8], 2), ([9], 2)]
            np.testing.assert_array_equal(found[1][0], expected(other, tokens))
            np.testing.assert_array_equal(found[2], [expected(one, tokens), expected(other, tokens)])
        assert batched.figures[1].sequences == 2

    run(test)


def test_equal_ids_of_other_segments_are_other_texts() -> None:
    async def test() -> None:
        async with running() as batched:
            one = fake_classifier()
            first = await batched.held_up(one)
            tasks = [
                batched.submit(one, pack([[7, 8]])),
                batched.submit(one, pack([[7, 8]], type_ids=[[0, 0]])),
                batched.submit(one, pack([[7, 8]], type_ids=[[0, 1]])),
            ]
            await batched.queue()
            batched.engine.gate.set()
            await asyncio.gather(first, *tasks)
            assert batched.engine.rounds[1] == [([7, 8], 1), ([7, 8], 1)]

    run(test)


def test_a_large_request_is_cut_and_does_not_hold_up_small_ones() -> None:
    async def test() -> None:
        async with running(max_round_tokens=10) as batched:
            one = fake_classifier()
            first = await batched.held_up(one)
            large = batched.submit(one, token_rows(*[2] * 20))
            small = batched.submit(one, token_rows(2, first=50))
            await batched.queue()
            batched.engine.gate.set()
            (found,) = await large
            await asyncio.gather(first, small)
            np.testing.assert_array_equal(found, expected(one, token_rows(*[2] * 20)))
            assert ([50, 50], 1) in batched.engine.rounds[1]
            assert max(sum(len(ids) for ids, _ in each) for each in batched.engine.rounds) <= 10

    run(test)


def test_one_text_for_more_classifiers_than_a_round_takes_is_cut_too() -> None:
    async def test() -> None:
        async with running(max_round_tokens=10) as batched:
            several = [fake_classifier(str(number), factor=number) for number in range(7)]
            tokens = token_rows(4, 3)
            found = await batched.submit(several, tokens)
            np.testing.assert_array_equal(found, [expected(one, tokens) for one in several])
            assert max(sum(len(ids) * readers for ids, readers in each) for each in batched.engine.rounds) <= 10

    run(test)


def test_a_request_whose_caller_is_gone_is_not_computed() -> None:
    async def test() -> None:
        async with running() as batched:
            one = fake_classifier()
            first = await batched.held_up(one)
            gone, kept = batched.submit(one, token_rows(2, first=5)), batched.submit(one, token_rows(2, first=6))
            await batched.queue()
            gone.cancel()
            await batched.queue()
            assert batched.batcher.queued_texts == 1
            batched.engine.gate.set()
            await asyncio.gather(first, kept)
            assert batched.engine.rounds[1:] == [[([6, 6], 1)]]

    run(test)


def test_a_request_is_refused_when_its_time_is_over_and_not_computed() -> None:
    async def test() -> None:
        async with running() as batched:
            one = fake_classifier()
            first = await batched.held_up(one)
            late = batched.submit(one, token_rows(2, first=5), seconds=0.0)
            with pytest.raises(DeadlineExceeded, match="not answered within"):
                await late
            batched.engine.gate.set()
            await first
            await batched.submit(one, token_rows(2, first=6))
            assert [ids for each in batched.engine.rounds for ids, _ in each] == [[99], [6, 6]]

    run(test)


def test_the_engine_keeps_nothing_of_what_is_answered() -> None:
    """A classifier that a waiting lane refers to could not be unloaded."""

    async def test() -> None:
        async with running() as batched:
            classifier = fake_classifier()
            gone = weakref.ref(classifier)
            await batched.submit(classifier, token_rows(3))
            del classifier
            end = time.monotonic() + LATER
            while gone() is not None and time.monotonic() < end:
                await asyncio.sleep(0.001)
            assert gone() is None

    run(test)


@pytest.mark.parametrize(
    ("member", "error", "says"),
    [
        ({"broken": ValueError("no such layer")}, UnusableClassifier,
         "classifier 'bad' cannot be used: ValueError: no such layer; repair its folder and reload it"),
        ({"wrong": np.array([np.nan, 0.0], np.float32)}, UnusableClassifier,
         "classifier 'bad' cannot be used: its logits are not finite numbers; repair its folder and reload it"),
        ({"wrong": np.zeros(3, np.float32)}, UnusableClassifier,
         "classifier 'bad' cannot be used: (3,) logits for 2 labels; repair its folder and reload it"),
        ({"broken": MemoryError()}, ResourceError,
         "not enough memory to compute this request; send fewer texts, or try again later"),
    ],
)  # fmt: skip
def test_an_error_fails_the_request_that_it_is_of(
    member: dict[str, Any], error: type[Exception], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with running() as batched:
            batched.engine.gate.clear()
            good, bad = fake_classifier("good"), fake_classifier("bad", **member)
            tokens = token_rows(3, 2)
            first = batched.submit(good, token_rows(1, first=99))
            await batched.entered()
            tasks = [batched.submit(one, tokens) for one in (good, bad, [good, bad], good)]
            await batched.queue()
            batched.engine.gate.set()
            found = await asyncio.gather(first, *tasks, return_exceptions=True)
            for place in (1, 4):
                np.testing.assert_array_equal(found[place], [expected(good, tokens)])
            for place in (2, 3):
                assert isinstance(found[place], error)
                assert str(found[place]) == says
            assert len(await batched.submit(good, tokens)) == 1

    run(test)


def test_a_full_queue_refuses_with_the_time_after_which_to_try_again() -> None:
    async def test() -> None:
        async with running(max_queue_seconds=2.0, deadline_seconds=10.0) as batched:
            one = fake_classifier()
            batched.batcher._throughput.add(100, 10.0)  # 10 tokens per second
            batched.engine.gate.clear()
            first = batched.submit(one, token_rows(10, first=90))
            await batched.entered()
            second = batched.submit(one, token_rows(10, first=91))
            await batched.queue()
            with pytest.raises(
                QueueFull, match="more requests are waiting than can be computed in 2 s; try again in 1 s"
            ) as caught:
                await batched.submit(one, token_rows(5, first=92))
            assert caught.value.retry_after == 1.0
            with pytest.raises(TooMuchWork, match=r"would take about 20 s; expected at most 10 s; send fewer"):
                await batched.submit(one, token_rows(*[50] * 4))
            batched.engine.gate.set()
            await asyncio.gather(first, second)

    run(test)


def test_no_more_texts_wait_than_the_hard_limit() -> None:
    async def test() -> None:
        async with running(max_queued_texts=3) as batched:
            one = fake_classifier()
            batched.engine.gate.clear()
            first = batched.submit(one, token_rows(1, first=90))
            await batched.entered()
            second = batched.submit(one, token_rows(1, 1, first=91))
            await batched.queue()
            with pytest.raises(QueueFull, match="more than 3 texts are waiting; try again in 1 s"):
                await batched.submit(one, token_rows(1, 1, first=95))
            batched.engine.gate.set()
            await asyncio.gather(first, second)

    run(test)


def test_draining_answers_what_was_accepted_and_accepts_nothing_new() -> None:
    async def test() -> None:
        batched = Batched(max_round_tokens=4, max_wait_ms=60_000.0)
        batched.batcher.start()
        batched.engine.gate.clear()
        one = fake_classifier()
        tasks = [batched.submit(one, token_rows(2, first=first)) for first in range(1, 12)]
        await batched.entered()
        await batched.queue()
        drained = asyncio.create_task(batched.batcher.drain())
        await batched.queue()
        with pytest.raises(ServerStopping, match="the server is stopping"):
            await batched.submit(one, token_rows(2, first=50))
        assert not drained.done()
        batched.engine.gate.set()
        await drained
        found = await asyncio.gather(*tasks)
        np.testing.assert_array_equal(found[10][0], expected(one, token_rows(2, first=11)))

    run(test)


def test_lanes_compute_side_by_side() -> None:
    async def test() -> None:
        async with running(lanes=2) as batched:
            batched.engine.gate.clear()
            one = fake_classifier()
            first = batched.submit(one, token_rows(2, first=1))
            await batched.entered()
            second = batched.submit(one, token_rows(2, first=2))
            await batched.entered()  # while the first is computed
            assert not first.done()
            batched.engine.gate.set()
            await asyncio.gather(first, second)

    run(test)


def test_idle_lanes_share_one_large_request() -> None:
    async def test() -> None:
        async with running(lanes=2, max_round_tokens=10_000) as batched:
            batched.engine.gate.clear()
            one, tokens = fake_classifier(), token_rows(*[10] * 100)
            large = batched.submit(one, tokens)
            for _ in range(2):
                await batched.entered()
            assert sorted(len(sequences) for sequences in batched.engine.rounds) == [50, 50]
            batched.engine.gate.set()
            (found,) = await large
            np.testing.assert_array_equal(found, expected(one, tokens))

    run(test)


def test_draining_waits_for_every_lane() -> None:
    async def test() -> None:
        batched = Batched(lanes=3, max_round_tokens=4)
        batched.batcher.start()
        batched.engine.gate.clear()
        one = fake_classifier()
        tasks = [batched.submit(one, token_rows(2, first=first)) for first in range(1, 12)]
        for _ in range(3):
            await batched.entered()
        drained = asyncio.create_task(batched.batcher.drain())
        await batched.queue()
        assert not drained.done()
        batched.engine.gate.set()
        await drained
        assert all(len(rows) == 1 for (rows,) in await asyncio.gather(*tasks))

    run(test)


def test_no_texts_are_answered_at_once() -> None:
    async def test() -> None:
        async with running() as batched:
            (found,) = await batched.submit(fake_classifier(labels=3), token_rows())
            assert found.shape == (0, 3)
            assert batched.engine.rounds == []

    run(test)
