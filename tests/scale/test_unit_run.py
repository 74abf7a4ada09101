"""Dealing units: lost workers are replaced, a unit that costs two of them ends the job by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from pennyweight.errors import DataError, ResourceError
from pennyweight.scale import unit_run
from pennyweight.scale.parts import FinishedUnit
from pennyweight.scale.unit_run import CallFailed, UnitRun, WorkerLost
from pennyweight.scale.unit_worker import Answer, Traits
from pennyweight.scale.units import Unit

TRAITS = Traits("here", ["digest", None, "cpu", "fp32"], {}, "DEFAULT")
UNITS = [Unit(number, 0, number * 8, 8) for number in range(9)]


class Imagined:
    """Workers that do as a plan says: `plan[method or unit]` is a list of errors, one a try; then all goes well."""

    def __init__(self, plan: dict[Any, list[BaseException | Answer]] | None = None, places: int = 9) -> None:
        self.plan = plan or {}
        self.places = places
        self.alive: set[int] = set()
        self.stopped: list[int] = []
        self.calls: list[tuple[int, str, Any]] = []
        self.dead: dict[int, str] = {}

    def start(self) -> int:
        worker = len(self.alive) + len(self.stopped)
        self.alive.add(worker)
        return worker

    def call(self, worker: int, name: str, *given: Any) -> int:
        self.calls.append((worker, name, given[0] if given else None))
        return len(self.calls) - 1

    def first(self, calls: Sequence[int], seconds: float) -> int | None:
        return min((call for call in calls if self.calls[call][0] < self.places), default=None)

    def answer(self, call: int) -> Answer:
        worker, name, unit = self.calls[call]
        if worker in self.dead:
            raise WorkerLost(self.dead[worker])
        planned = self.plan.get(name if unit is None else unit.number, [])
        outcome = planned.pop(0) if planned else None
        if isinstance(outcome, WorkerLost):
            self.dead[worker] = str(outcome)
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome is not None:
            return outcome
        return Answer({"ready": True, "traits": TRAITS}.get(name) or FinishedUnit(unit.number, 8, 8, (1,), ""))

    def stop(self, worker: int) -> None:
        self.alive.discard(worker)
        self.stopped.append(worker)


def run(workers: Imagined, units: Sequence[Unit] = UNITS) -> tuple[list[int], int]:
    done: list[int] = []
    dealing = UnitRun(
        workers, lambda unit: f"unit {unit.number}", lambda traits: units, lambda unit: done.append(unit.number)
    )
    dealing.run(2, lambda: {"job": 1})
    return done, dealing.lost


def test_every_unit_is_done_once() -> None:
    workers = Imagined()
    done, lost = run(workers)
    assert (sorted(done), lost) == (list(range(9)), 0)
    assert {worker for worker, name, _ in workers.calls if name == "predict"} == {0, 1}
    assert run(Imagined(), units=[]) == ([], 0)  # all were done before


@pytest.mark.parametrize("kind", [WorkerLost, CallFailed])
def test_a_unit_is_tried_again_and_what_waited_behind_it_is_not_blamed(kind: type[Exception]) -> None:
    done, lost = run(Imagined({0: [kind("x")], 1: [kind("x")], 4: [kind("x")], 8: [kind("x")]}))
    assert (sorted(done), lost) == (list(range(9)), 4 * (kind is WorkerLost))


@pytest.mark.parametrize("kind", [WorkerLost, CallFailed])
def test_a_unit_that_fails_twice_ends_the_job_by_name(kind: type[Exception]) -> None:
    with pytest.raises(ResourceError) as caught:
        run(Imagined({5: [kind("killed"), kind("killed by signal 9")]}))
    assert str(caught.value) == (
        "unit 5: a worker ended 2 times while it predicted these rows; received killed by signal 9; look for an "
        "unusual text among them, or give workers more memory; then continue with --resume"
    )


def test_an_error_of_ours_ends_the_job_at_once() -> None:
    with pytest.raises(DataError, match=r"^a\.csv line 3: broken$"):
        run(Imagined({3: [Answer(error="DataError", message="a.csv line 3: broken")]}))


@pytest.mark.parametrize("kind", [WorkerLost, CallFailed])
@pytest.mark.parametrize("name", ["ready", "traits"])
def test_workers_that_cannot_begin_end_the_job(name: str, kind: type[Exception]) -> None:
    assert sorted(run(Imagined({name: [kind("x")]}))[0]) == list(range(9))
    with pytest.raises(ResourceError, match="a worker ended 2 times before it had loaded the classifier; received y"):
        run(Imagined({name: [kind("x"), kind("y")]}))


def test_workers_without_a_place_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    done, _ = run(Imagined(places=1))  # the second never gets one
    assert sorted(done) == list(range(9))
    monkeypatch.setattr(unit_run, "PATIENCE", -1.0)
    with pytest.raises(ResourceError, match="no worker could be placed within"):
        run(Imagined(places=0))
