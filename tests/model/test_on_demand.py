"""Values made once, by whichever thread asks first."""

from __future__ import annotations

import copy
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
