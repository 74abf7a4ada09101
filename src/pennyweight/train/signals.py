"""Requests to stop: finish the step, save, then stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TypeVar

from ..errors import Interrupted

Result = TypeVar("Result")

# Ctrl-C; what schedulers and `kill` send; a closed terminal.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """Whether somebody asked to stop.

    Args:
        alone: False where several processes train: they stop once all of them know it, see `agree`.
    """

    def __init__(self, alone: bool = True) -> None:
        self._alone = alone
        self._asked = False
        self._agreed = False
        self._breakable = False

    @property
    def is_asked(self) -> bool:
        """Whether this process was asked to stop."""
        return self._asked

    def is_set(self) -> bool:
        """Whether to stop now."""
        return self._asked if self._alone else self._agreed

    def agree(self, asked: bool) -> None:
        """Note whether any of the processes was asked to stop, which all of them are told at the same step."""
        self._agreed = self._agreed or asked

    def note(self, number: int, frame: FrameType | None) -> None:
        """The signal handler. A second Ctrl-C stops at once."""
        again = self._asked and number == signal.SIGINT
        self._asked = True
        if again or self._breakable:
            raise KeyboardInterrupt

    def interruptible(self, work: Callable[[], Result]) -> Result | None:
        """Do `work`, which changes nothing, so that a signal may break it off; None if it did.

        An evaluation can take longer than the seconds a scheduler grants between SIGTERM and SIGKILL. Where several
        processes do it together it is done to its end: the others would wait for one that broke off.
        """
        if not self._alone:
            return work()
        if self._asked:
            return None
        try:
            self._breakable = True
            return work()
        except KeyboardInterrupt:
            if not self._asked:
                raise
            return None
        finally:
            self._breakable = False


@contextmanager
def stop_requested(alone: bool = True) -> Iterator[Stop]:
    """Note signals instead of dying of them. Only the main thread may listen; elsewhere nothing is ever noted.

    Args:
        alone: as for `Stop`.
    """
    stop = Stop(alone)
    with _handled(stop.note):
        yield stop


def resume_command(folder: Path, overwrite: bool = False) -> str:
    """The flags that resume a run in `folder` whose training has begun."""
    return f"continue with the same command and --out {folder} --resume" + (
        " in place of --overwrite" if overwrite else ""
    )


@contextmanager
def resumable(folder: Path, unfinished: Callable[[], object], overwrite: bool = False) -> Iterator[None]:
    """Outside the training loop a signal ends the run at once, with a message that says how to resume.

    Args:
        unfinished: names the run whose training has begun in the folder and not ended; one that it names before this
            block is another run.
        overwrite: whether the command has --overwrite, which contradicts --resume.

    Raises:
        Interrupted: what was complete before is intact.
    """
    before = unfinished()
    with stopped_at_once():
        try:
            yield
        except Interrupted as stop:  # from the training loop, which does not know the command
            if not overwrite:
                raise
            remedy = f"the state is saved; {resume_command(folder, overwrite)}"
            raise Interrupted(stop.problem, where=stop.where, remedy=remedy) from None
        except KeyboardInterrupt:
            # Before training begins nothing is kept, not even a folder that was made for the run.
            remedy = "run the same command again" if unfinished() == before else resume_command(folder, overwrite)
            raise Interrupted("stopped by a signal", where=folder, remedy=remedy) from None


@contextmanager
def stopped_at_once() -> Iterator[None]:
    """A signal raises `KeyboardInterrupt` in the main thread; elsewhere nothing changes."""

    def note(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handled(note):
        yield


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # nohup ignores SIGHUP, and shells ignore SIGINT for what runs in the background: that stays so.
    numbers = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
