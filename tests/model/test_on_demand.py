"""Values made once, by whichever thread asks first."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pennyweight.model.on_demand import OnDemand


def test_it_is_made_once_for_all_threads() -> None:
    made: list[object] = []
    together = threading.Barrier(8)

    def make() -> object:
        made.append(object())
        return made[-1]

    value = OnDemand(make)

    def ask(_: int) -> object:
        together.wait()
        return value.get()

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert len(made) == 1
    assert all(one is made[0] for one in found)


def test_none_is_a_value_and_a_failure_is_not() -> None:
    outcomes: list[Exception | None] = [ValueError("not yet"), None]

    def make() -> None:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    value = OnDemand(make)
    with pytest.raises(ValueError, match="not yet"):
        value.get()
    value.get()
    value.get()
    assert outcomes == []
    assert OnDemand.of(3).get() == 3


@pytest.mark.parametrize("value", [None, 0, [1, 2]])
def test_a_copy_holds_the_value(value: object) -> None:
    assert pickle.loads(pickle.dumps(OnDemand(lambda: value))).get() == value
    assert copy.deepcopy(OnDemand(lambda: value)).get() == value


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_process_makes_what_a_thread_of_its_parent_was_making() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def make() -> int:
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            go_on.wait(60)
        return 3

    value = OnDemand(make)
    thread = threading.Thread(target=value.get)
    thread.start()
    begun.wait(60)
    child = multiprocessing.get_context("fork").Process(target=lambda: os._exit(value.get()))
    child.start()
    child.join(60)
    go_on.set()
    thread.join()
    assert child.exitcode == 3
    assert value.get() == 3
