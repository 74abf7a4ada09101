"""Assigning units to workers until all are done: lost workers are replaced; a unit that kills two is named."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import ResourceError
from .parts import FinishedUnit
from .unit_worker import Answer, Traits
from .units import Unit

#: Tries of a unit, or of a worker to begin, before the job ends.
TRIES = 2
#: Seconds within which the first worker must have a place.
PATIENCE = 120.0
_AHEAD = 2  # units that a worker has: one that it computes, one that waits for it
_LOOK = 1.0  # seconds


class WorkerLost(Exception):
    """A worker's process died."""


class CallFailed(Exception):
    """A call ended with an error that nobody foresaw."""


class Workers(Protocol):
    """The protocol for starting and calling workers; `RayWorkers` implements it."""

    def start(self) -> Any: ...
    def call(self, worker: Any, name: str, *given: Any) -> Any: ...
    def first(self, calls: Sequence[Any], seconds: float) -> Any: ...
    def answer(self, call: Any) -> Answer: ...
    def stop(self, worker: Any) -> None: ...


class CallWatch:
    """Which of the calls ends next, as long as some worker has found a place.

    Args:
        workers: were called.
        remedy: what lets a worker find a place.
    """

    def __init__(self, workers: Workers, remedy: str) -> None:
        self._workers, self._remedy = workers, remedy
        self._began = time.monotonic()

    def ended(self, calls: Iterable[Any], *, placed: bool) -> Any:
        """A call that has ended, None if none has for a while.

        Args:
            placed: whether some worker is known to have begun.

        Raises:
            ResourceError: none has a place after `PATIENCE` seconds without an answer.
        """
        found = self._workers.first(list(calls), _LOOK)
        if found is not None:
            self._began = time.monotonic()
        elif not placed and time.monotonic() - self._began > PATIENCE:
            raise ResourceError(
                f"no worker could be placed within {PATIENCE:.0f} seconds", expected="free CPUs",
                remedy=f"wait for other jobs on the cluster, or {self._remedy}",
            )  # fmt: skip
        return found


@dataclass(frozen=True)
class _Call:
    """A call that has not ended."""

    worker: Any
    name: str
    unit: Unit | None = None


class UnitRun:
    """One job's units and workers.

    Args:
        workers: starts them.
        named: says what a unit is, for messages.
        accept: is told what the first worker and each further one is; gives the units to be done when asked first, and
            raises where a worker must not take part.
        done: is told each unit that is finished.

    Attributes:
        lost: workers that died.
    """

    def __init__(
        self,
        workers: Workers,
        named: Callable[[Unit], str],
        accept: Callable[[Traits], Iterable[Unit] | None],
        done: Callable[[FinishedUnit], object],
    ) -> None:
        self._workers = workers
        self._named = named
        self._accept = accept
        self._done = done
        self._calls: dict[Any, _Call] = {}
        self._waiting: deque[Unit] | None = None
        self._tries: dict[int, int] = {}
        self._false_starts = 0
        self._job: dict[str, Any] = {}
        self.lost = 0

    def run(self, workers: int, job: Callable[[], dict[str, Any]]) -> None:
        """Have all units done.

        Args:
            workers: how many to start.
            job: what the folder of parts says, once the first worker is accepted.

        Raises:
            PennyweightError: what a worker could not do.
            ResourceError: a unit, or loading the classifier, ended two workers; or none found a place.
        """
        for _ in range(workers):
            self._start()
        watch = CallWatch(self._workers, "lower --worker-threads")
        while self._calls and (self._waiting is None or self._waiting or self._busy()):
            ended = watch.ended(self._calls, placed=any(call.name != "ready" for call in self._calls.values()))
            if ended is None:
                continue
            call = self._calls.pop(ended)
            try:
                self._go_on(call, self._workers.answer(ended).get(), job)
            except WorkerLost as loss:
                self._replace(call, str(loss))
            except CallFailed as failure:
                self._failed(call, str(failure))

    def _busy(self) -> bool:
        return any(call.unit is not None for call in self._calls.values())

    def _start(self) -> None:
        worker = self._workers.start()
        self._call(worker, "ready")

    def _call(self, worker: Any, name: str, unit: Unit | None = None) -> None:
        given = () if unit is None else (unit, self._job)
        self._calls[self._workers.call(worker, name, *given)] = _Call(worker, name, unit)

    def _go_on(self, call: _Call, value: Any, job: Callable[[], dict[str, Any]]) -> None:
        if call.name == "ready":
            self._call(call.worker, "traits")
            return
        if call.name == "traits":
            units = self._accept(value)
            self._false_starts = 0
            if self._waiting is None:
                self._waiting, self._job = deque(units or ()), job()
            for _ in range(_AHEAD):
                self._deal(call.worker)
            return
        self._done(value)
        self._deal(call.worker)

    def _deal(self, worker: Any) -> None:
        if self._waiting:
            self._call(worker, "predict", self._waiting.popleft())

    def _replace(self, call: _Call, reason: str) -> None:
        """A worker died: what it was doing is counted, what waited for it is not."""
        self.lost += 1
        self._workers.stop(call.worker)  # should it only be out of reach, it gives its place to the next one
        theirs = [key for key, other in self._calls.items() if other.worker == call.worker]
        others = [self._calls.pop(key).unit for key in theirs]
        units = sorted((unit for unit in (call.unit, *others) if unit is not None), key=lambda unit: unit.number)
        if units:
            # A worker takes its calls in order, and they were dealt in order.
            self._count(units[0], reason)
        else:
            self._false_start(reason)
        if self._waiting is not None:
            self._waiting.extendleft(reversed(units))
        self._start()

    def _failed(self, call: _Call, reason: str) -> None:
        """A call ended with an error that is none of ours; its worker lives."""
        if call.unit is None:
            self._false_start(reason)
            self._workers.stop(call.worker)
            self._start()
            return
        self._count(call.unit, reason)
        assert self._waiting is not None
        self._waiting.appendleft(call.unit)
        self._deal(call.worker)

    def _count(self, unit: Unit, reason: str) -> None:
        self._tries[unit.number] = self._tries.get(unit.number, 0) + 1
        if self._tries[unit.number] >= TRIES:
            raise ResourceError(
                f"a worker ended {TRIES} times while it predicted these rows", where=self._named(unit), received=reason,
                remedy="look for an unusual text among them, or give workers more memory; then continue with --resume",
            )  # fmt: skip

    def _false_start(self, reason: str) -> None:
        self._false_starts += 1
        if self._false_starts >= TRIES:
            raise ResourceError(
                f"a worker ended {TRIES} times before it had loaded the classifier", received=reason,
                remedy="check that pennyweight is installed on every machine and that each worker has enough memory",
            )  # fmt: skip
