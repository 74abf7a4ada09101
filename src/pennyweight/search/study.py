"""The trials on disk: Optuna's journal file, under locks that die with their process.

One study per budget, so that small plans are compared with small ones. A process holds a lock while it works, for all
its workers; a trial that is running in a process without one was killed, and its settings are tried again.
"""

from __future__ import annotations

import fcntl
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError, StorageError
from ..storage.durability import fsync_file
from ..storage.folders import make_folder
from ..storage.locks import check_locks, lock_folder
from ..storage.system_errors import storage_errors
from .space import Choice, Range

JOURNAL = "study.journal"
WORKERS = ".workers"
FIRST = "first"  # marks the trial that was not drawn


@dataclass
class FileLock:
    """One process at a time, waiting its turn; Optuna's own locks outlive a killed process by half a minute."""

    path: Path
    _handles: list[Any] = field(default_factory=list)

    def acquire(self) -> bool:
        handle = self.path.open("a")
        fcntl.flock(handle, fcntl.LOCK_EX)
        self._handles.append(handle)
        return True

    def release(self) -> None:
        self._handles.pop().close()


@dataclass(frozen=True)
class AssignedTrial:
    """A trial that somebody runs, as plain values, so that it may be run in another process.

    Attributes:
        budget: budget of the study it belongs to.
        number: in that study.
        worker: who runs it.
        settings: all the settings to try.
    """

    budget: str
    number: int
    worker: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class TrialOutcome:
    """The result of a trial.

    Attributes:
        value: as the study maximizes it; None for a trial without one.
        notes: kept with the trial: its state in words, trained parameters, seconds, accuracy, loss.
        said: a line for people; empty for none.
    """

    value: float | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    said: str = ""

    @property
    def fits(self) -> bool:
        """Whether the plan fits the budget; a trial whose plan does not is none of those asked for."""
        return bool(self.notes.get("fits", True))


@dataclass(frozen=True)
class Journal:
    """A search's folder as one process sees it.

    Attributes:
        folder: where the journal lies.
        worker: this process's name there, which begins the names of its workers.
        seed: decides, with the number of a trial, what is drawn for it.
        storage: Optuna's view of the file.
    """

    folder: Path
    worker: str
    seed: int
    storage: Any
    _studies: dict[str, Any] = field(default_factory=dict)

    def study(self, budget: str) -> Any:
        """The study of a budget; made if it is not there."""
        import optuna

        if budget not in self._studies:
            # No sampler yet: a fresh process must not draw the first trials' settings again, so `ask` sets its own.
            self._studies[budget] = optuna.create_study(
                study_name=f"budget {budget}",
                storage=self.storage,
                direction="maximize",
                pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
                load_if_exists=True,
            )
        return self._studies[budget]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No other process asks for a trial or writes results meanwhile, and no signal leaves either half done.

        Raises:
            KeyboardInterrupt: at the end, when a signal came.
        """
        from ..train.signals import stop_requested

        lock = FileLock(self.folder / ".turn")
        lock.acquire()
        try:
            with stop_requested() as stop:
                yield
        finally:
            lock.release()
        if stop.is_set():
            raise KeyboardInterrupt

    def ask(
        self,
        budget: str,
        choices: Mapping[str, Choice],
        trials: int,
        fixed: Mapping[str, Any] | None = None,
        first: Mapping[str, Any] | None = None,
        worker: str = "",
    ) -> AssignedTrial | None:
        """The next trial of a budget, or None when `trials` are done or being done.

        A worker that runs one already gets that one: it has asked again because it never got the answer.

        Args:
            choices: what is drawn.
            fixed: settings that are recorded with those drawn.
            first: what is not drawn in the first trial of the budget.
            worker: who asks, among this process's workers.
        """
        import optuna

        with self.alone():
            if (assigned := self.assigned(budget, worker)) is not None:
                return assigned
            study = self.study(budget)
            self._take_back(study)
            known = study.get_trials(deepcopy=False)
            if sum(counts(trial) for trial in known) >= trials:
                return None
            if first and not any(FIRST in trial.user_attrs for trial in known):
                study.enqueue_trial(dict(first), user_attrs={FIRST: True})
            drawn = sum(trial.state.name not in ("FAIL", "WAITING") for trial in known)
            study.sampler = optuna.samplers.TPESampler(seed=self.seed + drawn)
            trial = study.ask(distributions(choices))
            settings = dict(fixed or {}) | trial.params
            trial.set_user_attr("settings", settings)
            trial.set_user_attr("worker", self._name(worker))  # last: a trial without it was never assigned
            return AssignedTrial(budget, trial.number, self._name(worker), settings)

    def assigned(self, budget: str, worker: str = "") -> AssignedTrial | None:
        """The trial of a budget that a worker of this process runs."""
        name = self._name(worker)
        for one in self.study(budget).get_trials(deepcopy=False):
            if one.state.name == "RUNNING" and one.user_attrs.get("worker") == name:
                return AssignedTrial(budget, one.number, name, one.user_attrs["settings"])
        return None

    def report(self, trial: AssignedTrial, value: float, step: int) -> bool:
        """Note an evaluation of a trial; whether to stop it: others were better, or somebody else is to try it."""
        study, identity = self._find(trial)
        if not self._is_its(trial, identity):
            return True
        self.storage.set_trial_intermediate_value(identity, step, value)
        return bool(study.pruner.prune(study, self.storage.get_trial(identity)))

    def end(self, trial: AssignedTrial, outcome: TrialOutcome) -> None:
        """Note what came of a trial, unless that was done before, or it was given back meanwhile."""
        from optuna.trial import TrialState

        study, identity = self._find(trial)
        with self.alone():
            if not self._is_its(trial, identity):
                return
            for key, value in outcome.notes.items():
                self.storage.set_trial_user_attr(identity, key, value)
            if outcome.value is None:
                study.tell(trial.number, state=TrialState.PRUNED)
            else:
                study.tell(trial.number, outcome.value)

    def give_back(self, budget: str, worker: str = "") -> None:
        """End what a worker of this process was trying without a result."""
        name = self._name(worker)
        with self.alone():
            study = self.study(budget)
            for trial in study.get_trials(deepcopy=False):
                if trial.state.name == "RUNNING" and trial.user_attrs.get("worker") == name:
                    _again(study, trial)

    def _name(self, worker: str) -> str:
        return f"{self.worker}.{worker}" if worker else self.worker

    def _find(self, trial: AssignedTrial) -> tuple[Any, int]:
        """A trial's study and its number among all studies' trials."""
        study = self.study(trial.budget)
        known = self.storage.get_study_id_from_name(study.study_name)
        return study, self.storage.get_trial_id_from_study_id_trial_number(known, trial.number)

    def _is_its(self, trial: AssignedTrial, identity: int) -> bool:
        found = self.storage.get_trial(identity)
        return bool(found.state.name == "RUNNING" and found.user_attrs.get("worker") == trial.worker)

    def _take_back(self, study: Any) -> None:
        """End the trials of killed processes, and queue their settings."""
        for trial in study.get_trials(deepcopy=False):
            if trial.state.name == "RUNNING" and self._is_abandoned(trial):
                _again(study, trial)

    def _is_abandoned(self, trial: Any) -> bool:
        # Whoever asks for a trial keeps the turn until the trial has a worker: without one, he was killed meanwhile.
        process = str(trial.user_attrs.get("worker", "")).partition(".")[0]
        if process == self.worker:
            return False
        place = self.folder / WORKERS / process
        if not process:
            return True
        if not place.is_dir():
            return True
        try:
            with lock_folder(place):
                shutil.rmtree(place, ignore_errors=True)
                return True
        except StorageError:
            return False  # its process lives


def _again(study: Any, trial: Any) -> None:
    """End a trial without a result; its settings are the next to be tried."""
    from optuna.trial import TrialState

    study.tell(trial.number, state=TrialState.FAIL)
    # A trial that was never assigned may lack settings; drawn again, they are the same, but for those that were given.
    whole = "settings" in trial.user_attrs
    settings = trial.params if whole else trial.system_attrs.get("fixed_params")
    if settings:
        study.enqueue_trial(dict(settings))


def counts(trial: Any) -> bool:
    """Whether a trial is one of those asked for: it has, or is about to have, a result."""
    if trial.state.name in ("COMPLETE", "RUNNING"):
        return True
    return trial.state.name == "PRUNED" and bool(trial.user_attrs.get("fits", True))


def distributions(choices: Mapping[str, Choice]) -> dict[str, Any]:
    """The open choices as Optuna takes them."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    return {
        key: FloatDistribution(choice.low, choice.high, log=True)
        if isinstance(choice, Range)
        else CategoricalDistribution(choice)
        for key, choice in choices.items()
    }


def check_installed() -> None:
    """Raise `InputError` where Optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise InputError("searching needs Optuna", remedy="run `pip install 'pennyweight[search]'`") from error


@contextmanager
def open_journal(folder: Path, seed: int) -> Iterator[Journal]:
    """A search's journal, with this process known as one that works on it.

    Raises:
        StorageError: when the folder cannot be written, or its file system does not hold locks.
    """
    with known_process(folder) as worker:
        yield read_journal(folder, seed, worker)


@contextmanager
def known_process(folder: Path) -> Iterator[str]:
    """A name under which this process, as long as it lives, and its workers run trials of a search.

    Raises:
        StorageError: as `open_journal`.
    """
    with storage_errors(folder):
        make_folder(folder / WORKERS)
        check_locks(folder)
        worker = uuid.uuid4().hex
        try:
            with lock_folder(folder / WORKERS / worker):
                yield worker
        finally:
            with suppress(OSError):  # others are known there
                (folder / WORKERS).rmdir()


def read_journal(folder: Path, seed: int, worker: str) -> Journal:
    """A search's journal, for a process that is known as `worker`, or that works for one that is."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    file = folder / JOURNAL
    lock = FileLock(folder / ".journal-lock")
    lock.acquire()
    try:
        _mend(file)
    finally:
        lock.release()
    backend = JournalFileBackend(str(file), lock_obj=lock)  # type: ignore[arg-type]
    return Journal(folder, worker, seed, JournalStorage(backend))


def _mend(file: Path) -> None:
    """Drop a last line that a full disk or a power cut left half-written; what follows it could not be read."""
    if not file.is_file():
        return
    content = file.read_bytes()
    if content and not content.endswith(b"\n"):
        with file.open("r+b") as handle:
            handle.truncate(content.rfind(b"\n") + 1)
        fsync_file(file)
