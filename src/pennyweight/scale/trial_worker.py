"""A worker of a search, which trains a trial as `pennyweight search` does.

It knows nothing of Ray. What it returns is plain values, so that an error of ours reaches the driver as one line.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ..data.load import load as load_data
from ..recipe.loading import resolve_recipe
from ..search.identity import FACTS, search_facts
from ..search.study import AssignedTrial
from ..search.trial import SearchTask, run_trial
from .unit_worker import Answer, answer_of, processor_here, versions_here


class Keeper(Protocol):
    """A handle on a `StudyKeeper` in another process."""

    def call(self, name: str, *given: Any) -> Any: ...


@dataclass(frozen=True)
class TrialHost:
    """A worker and what the trials that it runs depend on.

    Attributes:
        node: the name of its machine.
        facts: what makes trials comparable, as it finds them: texts, backbone, number format and settings.
        versions: of what computes, by name.
        processor: the instructions that its kernels use.
    """

    node: str
    facts: dict[str, Any]
    versions: dict[str, str]
    processor: str


class TrialWorker:
    """Runs trials, one after the other.

    Args:
        task: what every trial shares.
        folder: folder of the search.
        keeper: is told each evaluation, and says whether to stop.
    """

    def __init__(self, task: SearchTask, folder: Path, keeper: Keeper) -> None:
        self._task, self._folder, self._keeper = task, folder, keeper

    def ready(self) -> Answer:
        """Nothing; that it comes says that the worker has a place and has begun."""
        return Answer()

    def host(self) -> Answer:
        """Read the texts, compare the backbone's checksums, and say what is found: `TrialHost`."""
        return answer_of(self._host)

    def run(self, trial: AssignedTrial) -> Answer:
        """Train a trial: `TrialOutcome`."""
        return answer_of(
            lambda: run_trial(self._task, trial, lambda *given: self._keeper.call("report", trial, *given))
        )

    def _host(self) -> TrialHost:
        task = self._task
        found = load_data(task.recipe.data, task.data).fingerprint()
        facts = search_facts(resolve_recipe(task.recipe, task.place), task.space, found)
        if not self._sees_folder():
            # The trials of another machine cannot share what frozen layers compute; each computes it for itself.
            self._task = replace(task, settings={})
        return TrialHost(socket.gethostname(), facts, versions_here(), processor_here())

    def _sees_folder(self) -> bool:
        try:
            known = json.loads((self._folder / FACTS).read_text("utf-8"))
        except (OSError, ValueError):
            return False
        return bool(known.get("facts") == json.loads(json.dumps(self._task.facts)))
