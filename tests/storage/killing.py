"""Processes that are killed in the middle of their work."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable


def killed(work: Callable[[], None]) -> None:
    """Do `work` in a child process, which must kill itself on the way."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
