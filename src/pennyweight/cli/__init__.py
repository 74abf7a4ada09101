"""The command line: one file per command; the only place that prints or exits."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from types import FrameType


def main() -> None:
    """The `pennyweight` command. From here on, Ctrl-C ends it in one line."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as for a job of a shell
        signal.signal(signal.SIGINT, _stop)
    try:
        from .app import main as run

        run()
    except KeyboardInterrupt:  # before `run` listens
        _end()


class _CtrlC:
    came = False


def ctrl_c_came() -> bool:
    """Whether `KeyboardInterrupt` was raised for Ctrl-C: libraries turn it into other exceptions while they import."""
    return _CtrlC.came


def _stop(number: int, frame: FrameType | None) -> None:
    """Raise `KeyboardInterrupt`; during the imports up to torch's own, end at once.

    An exception that breaks off torch's import aborts the process. After it, there may be somebody who catches
    `KeyboardInterrupt` to say how to go on, also while something is imported.
    """
    _CtrlC.came = True
    begins = "torch" not in sys.modules
    while frame is not None:
        if begins and frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            _end()
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == "torch":
            _end()
        frame = frame.f_back
    raise KeyboardInterrupt


def _end() -> None:
    with suppress(OSError):  # standard error is closed
        os.write(2, b"stopped\n")
    os._exit(130)
