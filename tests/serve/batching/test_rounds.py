"""Rounds take every text once, give each request its share, and stay within their limit."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pennyweight.serve.batching.rounds import QueuedTexts, plan_round
from pennyweight.serve.batching.throughput import Throughput

from ..fakes import fake_classifier, token_rows

EARLIER = -1.0  # all requests of a test arrive after this


def queued(*lengths: int, arrived: float = 0.0, classifiers: int = 1) -> QueuedTexts:
    return QueuedTexts(tuple(fake_classifier() for _ in range(classifiers)), token_rows(*lengths), arrived)


def taken(waiting: list[QueuedTexts], work: int, patient_until: float = EARLIER) -> list[tuple[int, int, int]]:
    """(place of the request, start, stop) of each share."""
    shares = plan_round(waiting, work, patient_until)
    return [(waiting.index(share.queued), share.start, share.stop) for share in shares]


def test_small_requests_are_taken_whole_beside_a_large_one() -> None:
    assert taken([queued(*[10] * 50), queued(10, 10), queued(10)], 90) == [(0, 0, 6), (1, 0, 2), (2, 0, 1)]


def test_what_a_share_leaves_over_goes_to_the_oldest() -> None:
    assert taken([queued(*[10] * 9), queued(*[10] * 9), queued(10)], 90) == [(0, 0, 5), (1, 0, 3), (2, 0, 1)]


def test_requests_that_waited_long_come_first_and_whole() -> None:
    old, young = queued(*[10] * 8, arrived=1.0), queued(*[10] * 8, arrived=5.0)
    assert taken([old, young], 100, patient_until=2.0) == [(0, 0, 8), (1, 0, 2)]


def test_a_text_counts_once_for_each_classifier_that_reads_it() -> None:
    assert taken([queued(10, 10, 10, classifiers=3)], 70) == [(0, 0, 2)]


def test_one_text_larger_than_a_round_is_taken_alone() -> None:
    assert taken([queued(500, 500), queued(3)], 100) == [(0, 0, 1)]
    assert taken([queued(3), queued(500, 500)], 100) == [(0, 0, 1)]


def test_texts_that_were_taken_are_not_taken_again() -> None:
    one = queued(*[10] * 5)
    one.next = 3
    assert taken([one], 1000) == [(0, 3, 5)]


@given(
    requests=st.lists(
        st.tuples(st.lists(st.integers(1, 60), min_size=1, max_size=30), st.integers(1, 3), st.booleans()),
        min_size=1,
        max_size=12,
    ),
    work=st.integers(1, 300),
)
def test_every_text_is_computed_once_in_the_end(requests: list[tuple[list[int], int, bool]], work: int) -> None:
    # Those that waited long are the oldest.
    ages = sorted((old for _, _, old in requests), reverse=True)
    waiting = [
        queued(*lengths, arrived=0.0 if old else 2.0, classifiers=classifiers)
        for (lengths, classifiers, _), old in zip(requests, ages, strict=True)
    ]
    left = list(waiting)
    while left:
        shares = plan_round(left, work, 1.0)
        assert len({id(share.queued) for share in shares}) == len(shares) > 0
        assert shares[0].queued is left[0]  # the oldest never starves
        assert sum(share.work for share in shares) <= work or sum(share.stop - share.start for share in shares) == 1
        for share in shares:
            assert share.start == share.queued.next < share.stop
            share.queued.next = share.stop
        left = [one for one in left if one.waiting]
    assert [one.next for one in waiting] == [len(one.tokens) for one in waiting]


def test_the_speed_is_that_of_full_rounds() -> None:
    speed = Throughput(full=100)
    assert speed.tokens_per_second is None
    speed.add(10, 1.0)
    assert speed.tokens_per_second == 10
    speed.add(100, 1.0)  # full: it counts alone
    assert speed.tokens_per_second == 100
    speed.add(10, 1.0)  # says nothing of a queue
    assert speed.tokens_per_second == 100
    for _ in range(40):
        speed.add(100, 2.0)
    np.testing.assert_allclose(speed.tokens_per_second, 50, rtol=0.01)
