"""The command line: one file per command; the only place that prints or exits."""

from __future__ import annotations

import os
import signal
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


def _stop(number: int, frame: FrameType | None) -> None:
    """Raise `KeyboardInterrupt`; while something is imported, end at once.

    Libraries turn an exception that breaks off their import into others, and torch's ends the process.
    """
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            _end()
        frame = frame.f_back
    raise KeyboardInterrupt


def _end() -> None:
    with suppress(OSError):  # standard error is closed
        os.write(2, b"stopped\n")
    os._exit(130)
