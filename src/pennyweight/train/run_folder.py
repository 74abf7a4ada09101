"""The folder of a run: what it may be, and who may use it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..storage.folders import refuse_nonempty_folder
from ..storage.locks import lock_folder
from .resume import CHECKPOINTS, unfinished_run
from .signals import resumable


@dataclass(frozen=True)
class RunFolder:
    """Where a run is kept (None, in memory), and whether it resumes there, even if recipe, data or versions changed.

    Attributes:
        shown: where it will lie, where `path` is a folder aside that is renamed once all is written.
    """

    path: Path | None = None
    resume: bool = False
    resume_anyway: bool = False
    shown: Path | None = None

    @property
    def checkpoints(self) -> Path | None:
        """The folder of its checkpoints."""
        return None if self.path is None else self.path / CHECKPOINTS


@contextmanager
def open_run_folder(
    out: str | Path | None, *, resume: bool, resume_anyway: bool, overwrite: bool
) -> Iterator[RunFolder]:
    """Lock a run's folder. A signal meanwhile ends the run with a message that says how to resume.

    Raises:
        InputError: options that contradict each other, a folder that holds something else or a finished run, or several
            processes that a launcher started.
        Interrupted: by a signal.
    """
    _refuse_several_processes()
    if out is None:
        if resume or resume_anyway:
            raise InputError("nothing to resume: no run folder is named", remedy="name it with --out")
        yield RunFolder()
        return
    folder = Path(out)
    if resume and overwrite:
        raise InputError("--resume and --overwrite contradict each other", remedy="leave out one of the two")
    if os.path.isfile(folder) or not (resume or overwrite):
        remedy = "continue it with --resume, replace it with --overwrite, or choose another --out"
        refuse_nonempty_folder(folder, "the run folder", "choose another --out" if os.path.isfile(folder) else remedy)
    with lock_folder(folder), resumable(folder, lambda: unfinished_run(folder), overwrite):
        yield RunFolder(folder, resume, resume_anyway)


def _refuse_several_processes() -> None:
    """Refuse a launcher's processes: each would train all of it alone."""
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes.isdigit() and int(processes) > 1:
        raise InputError(
            "training runs in one process", expected="WORLD_SIZE 1 or unset", received=f"WORLD_SIZE {processes}",
            remedy="start it without torchrun or accelerate launch",
        )  # fmt: skip
