"""Assigning a search's trials to workers: lost workers are replaced; settings that kill two workers are named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import ResourceError
from ..search.study import AssignedTrial, TrialOutcome
from .trial_worker import Keeper, TrialHost
from .unit_run import TRIES, CallFailed, CallWatch, WorkerLost, Workers


@dataclass(frozen=True)
class _Call:
    """A call that has not ended."""

    worker: Any
    name: str  # the worker's, in the study
    method: str
    trial: AssignedTrial | None = None


class TrialRun:
    """One search's workers.

    Args:
        workers: starts them; they are `TrialWorker`s.
        keeper: assigns trials.
        accept: is told what each worker is; raises where one must not take part.
        done: is told each outcome.

    Attributes:
        lost: workers that died.
    """

    def __init__(
        self,
        workers: Workers,
        keeper: Keeper,
        accept: Callable[[TrialHost], object],
        done: Callable[[AssignedTrial, TrialOutcome], object],
    ) -> None:
        self._workers, self._keeper = workers, keeper
        self._accept, self._done = accept, done
        self._calls: dict[Any, _Call] = {}
        self._idle: list[tuple[Any, str]] = []
        self._exhausted = False
        self._started = 0
        self._tries: Counter[str] = Counter()
        self._false_starts = 0
        self.lost = 0

    def run(self, workers: int) -> None:
        """Have all trials done.

        Args:
            workers: how many to start.

        Raises:
            PennyweightError: what a worker could not do.
            ResourceError: settings, or reading the texts, ended two workers; or none found a place.
        """
        for _ in range(workers):
            self._start()
        watch = CallWatch(self._workers, "lower --worker-threads")
        while self._calls and not (self._exhausted and not self._busy()):
            ended = watch.ended(self._calls, placed=any(call.method != "ready" for call in self._calls.values()))
            if ended is None:
                continue
            call = self._calls.pop(ended)
            try:
                self._go_on(call, self._workers.answer(ended).get())
            except (WorkerLost, CallFailed) as loss:
                self._replace(call, str(loss))

    def give_back(self) -> None:
        """Let somebody else try what is being tried; the workers are about to end."""
        for call in self._calls.values():
            if call.trial is not None:
                self._keeper.call("give_back", call.name)

    def _busy(self) -> bool:
        return any(call.trial is not None for call in self._calls.values())

    def _start(self) -> None:
        # Not the name of one that died: should it live after all, what it says of its trial is not heard.
        self._call(self._workers.start(), f"worker{self._started}", "ready")
        self._started += 1

    def _call(self, worker: Any, name: str, method: str, trial: AssignedTrial | None = None) -> None:
        given = () if trial is None else (trial,)
        self._calls[self._workers.call(worker, method, *given)] = _Call(worker, name, method, trial)

    def _go_on(self, call: _Call, value: Any) -> None:
        if call.method == "ready":
            self._call(call.worker, call.name, "host")
            return
        if call.trial is None:
            self._accept(value)
            self._false_starts = 0
        else:
            self._keeper.call("end", call.trial, value)
            self._done(call.trial, value)
        self._idle.append((call.worker, call.name))
        self._deal()

    def _deal(self) -> None:
        """Give each idle worker a trial, as long as there are any."""
        self._exhausted = False
        while self._idle and not self._exhausted:
            worker, name = self._idle[-1]
            trial = self._keeper.call("ask", name)
            if trial is None:
                self._exhausted = True
            else:
                self._idle.pop()
                self._call(worker, name, "run", trial)

    def _replace(self, call: _Call, reason: str) -> None:
        """A worker died, or did what nobody foresaw: another takes its place, and what it was trying is tried again."""
        self.lost += 1
        self._workers.stop(call.worker)
        if call.trial is None:
            self._false_starts += 1
            if self._false_starts >= TRIES:
                raise ResourceError(
                    f"a worker ended {TRIES} times before it had read the texts", received=reason,
                    remedy="check that pennyweight is installed on every machine and that each worker has enough "
                    "memory",
                )  # fmt: skip
        else:
            self._keeper.call("give_back", call.name)
            tried = f"budget {call.trial.budget}, " + ", ".join(f"{k} {v}" for k, v in call.trial.settings.items())
            self._tries[tried] += 1
            if self._tries[tried] >= TRIES:
                raise ResourceError(
                    f"a worker ended {TRIES} times while it trained these settings", where=tried, received=reason,
                    remedy="give workers more memory or narrow the choices; then continue with the same command",
                )  # fmt: skip
        self._start()
        self._deal()
