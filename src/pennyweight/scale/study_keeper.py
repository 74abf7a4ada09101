"""A search's study in a process of its own, for workers of other processes and machines.

It knows nothing of Ray. All it knows stands in the journal, and each method does the same when it is called again, so
that it may be killed and restarted at any moment.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..search.results import SearchResult
from ..search.search import affordable, collect_trials
from ..search.study import AssignedTrial, TrialOutcome, counts, read_journal
from ..search.trial import SearchTask
from ..storage.system_errors import storage_errors
from .unit_worker import Answer, answer_of


class StudyKeeper:
    """Assigns the trials of a search and notes what comes of them.

    Args:
        task: what every trial shares.
        folder: folder of the search, on this machine.
        process: the name of the process that the workers belong to, see `search.study.known_process`.
        budgets: each searched on its own.
        trials: how many for each.
    """

    def __init__(self, task: SearchTask, folder: Path, process: str, budgets: tuple[str, ...], trials: int) -> None:
        self._task, self._folder, self._budgets, self._trials = task, folder, budgets, trials
        self._journal = read_journal(folder, task.recipe.train.seed, process)
        self._spaces = {budget: affordable(task, budget) for budget in budgets}

    def left(self) -> Answer:
        """How many trials are neither done nor being done."""
        return self._answer(self._left)

    def ask(self, worker: str) -> Answer:
        """The worker's trial: that which it has, otherwise the next one, None if there is none (`AssignedTrial`)."""
        return self._answer(lambda: self._ask(worker))

    def report(self, trial: AssignedTrial, value: float, step: int) -> Answer:
        """Note an evaluation; whether to stop the trial."""
        return self._answer(lambda: self._journal.report(trial, value, step))

    def end(self, trial: AssignedTrial, outcome: TrialOutcome) -> Answer:
        """Note what came of a trial, and write the tables."""

        def end() -> None:
            self._journal.end(trial, outcome)
            self._collect()

        return self._answer(end)

    def give_back(self, worker: str) -> Answer:
        """End what a worker was trying without a result; somebody else will try it."""

        def give_back() -> None:
            for budget in self._budgets:
                self._journal.give_back(budget, worker)

        return self._answer(give_back)

    def collect(self) -> Answer:
        """All trials so far, and the tables written (`SearchResult`)."""
        return self._answer(self._collect)

    def _answer(self, call: Callable[[], Any]) -> Answer:
        def guarded() -> Any:
            with storage_errors(self._folder):
                return call()

        return answer_of(guarded)

    def _left(self) -> int:
        known = {one: self._journal.study(one).get_trials(deepcopy=False) for one in self._budgets}
        done = {one: sum(counts(trial) and trial.state.name != "RUNNING" for trial in known[one]) for one in known}
        return sum(max(0, self._trials - count) for count in done.values())

    def _ask(self, worker: str) -> AssignedTrial | None:
        for budget in self._budgets:
            if (assigned := self._journal.assigned(budget, worker)) is not None:
                return assigned
        for budget in self._budgets:
            space = self._spaces[budget]
            first = space.standing(self._task.recipe, budget)
            asked = self._journal.ask(budget, space.open(), self._trials, space.fixed(), first, worker)
            if asked is not None:
                return asked
        return None

    def _collect(self) -> SearchResult:
        return collect_trials(self._task, self._journal, self._budgets)
