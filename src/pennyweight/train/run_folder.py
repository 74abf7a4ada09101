"""The folder of a run: checking and locking it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import InputError, Interrupted
from ..storage.folders import refuse_nonempty_folder
from ..storage.locks import lock_folder
from .process_group import ProcessGroup, launched_group
from .resume import CHECKPOINTS, unfinished_run
from .signals import resumable, stopped_at_once


@dataclass(frozen=True)
class RunFolder:
    """Where a run is kept (None, in memory), and whether it resumes there, even if recipe, data or versions changed.

    Attributes:
        shown: where it will lie, where `path` is a folder aside that is renamed once all is written.
        group: the processes that train. All but the first keep nothing: their `path` is None.
    """

    path: Path | None = None
    resume: bool = False
    resume_anyway: bool = False
    shown: Path | None = None
    group: ProcessGroup = field(default_factory=ProcessGroup)

    @property
    def checkpoints(self) -> Path | None:
        """The folder of its checkpoints."""
        return None if self.path is None else self.path / CHECKPOINTS


@contextmanager
def open_run_folder(
    out: str | Path | None, *, resume: bool, resume_anyway: bool, overwrite: bool
) -> Iterator[RunFolder]:
    """Meet the other processes of a training, if there are any, and lock its folder in the first of them.

    A signal meanwhile ends the run with a message that says how to resume.

    Raises:
        InputError: options that contradict each other, a folder that holds something else or a finished run.
        ResourceError: the other processes are not found, or one has ended.
        Interrupted: by a signal.
    """
    with launched_group() as group, ExitStack() as opened:
        folder = group.first(lambda: opened.enter_context(_locked(out, resume, resume_anyway, overwrite)))
        if group.rank:
            opened.enter_context(_stopped_beside())
            folder = replace(folder, path=None)
        yield replace(folder, group=group)


@contextmanager
def _locked(out: str | Path | None, resume: bool, resume_anyway: bool, overwrite: bool) -> Iterator[RunFolder]:
    if out is None:
        if resume or resume_anyway:
            raise InputError("nothing to resume: no run folder is given", remedy="name it with --out")
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


@contextmanager
def _stopped_beside() -> Iterator[None]:
    """A signal ends a process that is not the first, which says what there is to say."""
    with stopped_at_once():
        try:
            yield
        except Interrupted:
            raise
        except KeyboardInterrupt:
            raise Interrupted("stopped by a signal") from None
