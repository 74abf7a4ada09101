"""The trials on disk: Optuna's journal file, under locks that die with their process.

One study a budget, so that small plans are measured against small ones. A process holds a lock while it works; a trial
that is running in a process without one was killed, and its settings are tried again.
"""

from __future__ import annotations

import fcntl
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError, StorageError
from ..storage.durability import fsync_file
from ..storage.folders import make_folder
from ..storage.locks import lock_folder
from ..storage.system_errors import storage_errors
from .space import Choice, Range

JOURNAL = "study.journal"
WORKERS = ".workers"
FIRST = "first"  # marks the trial that was not drawn
GRACE = 60.0  # seconds in which a new trial must have said who runs it


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
    """A trial that this process runs: Optuna's handle on it, and all the settings to try."""

    trial: Any
    settings: dict[str, Any]


@dataclass(frozen=True)
class Journal:
    """A search's folder as one process sees it.

    Attributes:
        folder: where the journal lies.
        worker: this process's name there.
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
    ) -> AssignedTrial | None:
        """The next trial of a budget, or None when `trials` are done or being done.

        Args:
            choices: what is drawn.
            fixed: settings that are noted beside what is drawn.
            first: what is not drawn in the first trial of the budget.
        """
        import optuna

        with self.alone():
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
            trial.set_user_attr("worker", self.worker)
            settings = dict(fixed or {}) | trial.params
            trial.set_user_attr("settings", settings)
            return AssignedTrial(trial, settings)

    def give_back(self, budget: str) -> None:
        """End what this process was trying without a result."""
        with self.alone():
            study = self.study(budget)
            for trial in study.get_trials(deepcopy=False):
                if trial.state.name == "RUNNING" and trial.user_attrs.get("worker") == self.worker:
                    _again(study, trial)

    def _take_back(self, study: Any) -> None:
        """End the trials of killed processes, and queue their settings."""
        for trial in study.get_trials(deepcopy=False):
            if trial.state.name == "RUNNING" and self._is_abandoned(trial):
                _again(study, trial)

    def _is_abandoned(self, trial: Any) -> bool:
        worker = trial.user_attrs.get("worker")
        if worker == self.worker:
            return False
        if worker is None:
            return bool(time.time() - trial.datetime_start.timestamp() > GRACE)
        place = self.folder / WORKERS / str(worker)
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
    if trial.params:
        study.enqueue_trial(dict(trial.params))


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
        StorageError: when the folder cannot be written.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    file = folder / JOURNAL
    with storage_errors(folder):
        make_folder(folder / WORKERS)
        lock = FileLock(folder / ".journal-lock")
        lock.acquire()
        try:
            _mend(file)
        finally:
            lock.release()
        worker = uuid.uuid4().hex
        place = folder / WORKERS / worker
        with lock_folder(place):
            backend = JournalFileBackend(str(file), lock_obj=lock)  # type: ignore[arg-type]
            yield Journal(folder, worker, seed, JournalStorage(backend))
    with suppress(OSError):
        (folder / WORKERS).rmdir()


def _mend(file: Path) -> None:
    """Drop a last line that a full disk or a power cut left half-written; what follows it could not be read."""
    if not file.is_file():
        return
    content = file.read_bytes()
    if content and not content.endswith(b"\n"):
        with file.open("r+b") as handle:
            handle.truncate(content.rfind(b"\n") + 1)
        fsync_file(file)
