"""Stages side by side: order, errors in their place, and threads that end."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from pennyweight.errors import InputError
from pennyweight.predict.overlap import WriteBehind, read_ahead


def test_items_come_in_order_and_an_error_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise InputError("broken")

    ahead = read_ahead(items())
    assert [next(ahead) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(InputError, match="broken"):
        next(ahead)
    assert list(read_ahead(iter(range(3)), most=2)) == [0, 1, 2]


def test_no_more_is_made_than_may_wait_and_a_closed_reader_ends() -> None:
    made = []
    waits = threading.Event()

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            if number == 2:
                waits.set()
            yield number

    before = threading.active_count()
    ahead = read_ahead(items(), most=1)
    assert next(ahead) == 0
    assert waits.wait(10)  # one is used, one waits, one is being handed over
    assert len(made) == 3
    ahead.close()
    assert len(made) <= 4
    assert threading.active_count() == before


def test_what_is_written_behind_is_written_in_order_and_to_the_end() -> None:
    written: list[int] = []
    with WriteBehind(written.append) as writer:
        for number in range(20):
            writer.put(number)
    assert written == list(range(20))


def test_an_error_of_the_writer_is_raised_and_nothing_is_written_after_it() -> None:
    written = []

    def use(number: int) -> None:
        if number == 3:
            raise InputError("full")
        written.append(number)

    def make() -> None:
        with WriteBehind(use) as writer:
            for number in range(1000):
                writer.put(number)

    with pytest.raises(InputError, match="full"):
        make()
    assert written == [0, 1, 2]


def test_an_error_of_the_maker_lets_the_writer_finish_what_it_has() -> None:
    written: list[int] = []

    def make() -> None:
        with WriteBehind(written.append) as writer:
            writer.put(1)
            writer.put(2)
            raise InputError("maker")

    with pytest.raises(InputError, match="maker"):
        make()
    assert written == [1, 2]
