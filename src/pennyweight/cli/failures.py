"""Failures of a command: a one-line message and an exit code."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

import typer

from ..errors import BackboneError, InputError, Interrupted, OneLineError, PennyweightError, ResourceError
from ..storage.system_errors import OF_A_PATH
from ..train.launcher import is_follower
from .command_help import suggest_flag

# What Typer raises over a command line. It has been click's class, a copy of that, and Typer's own, by release.
_USAGE: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__base__ is Exception)


@dataclass(frozen=True)
class Failure:
    """The line behind `error:`, empty for none, and the exit code."""

    message: str
    code: int


def failure(error: BaseException) -> Failure | None:
    """The line and exit code for an exception; None for a bug, which shows its traceback."""
    if isinstance(error, OneLineError):
        return Failure(str(error), error.exit_code)
    if isinstance(error, _USAGE):  # an unknown flag, a missing argument
        words = re.sub("Value error, |Input should be ", "", " ".join(error.format_message().split()))
        unknown, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
        if hasattr(error, "possibilities") and unknown and context is not None:  # an unknown flag
            near = suggest_flag(unknown, context.command, context)
            words = f"No such option: {unknown}" + (f". Did you mean {near}?" if near else "")
        # Said by Typer up to 0.25 and once more by click 8.5, for several as "(Did you mean one of: 'a', 'b'?)".
        words = re.sub(r"( Did you mean [^?]+\?) \(?Did you mean [^?]+\?\)?", r"\1", words)
        return Failure(f"{words.rstrip('.')}; see --help", InputError.exit_code)
    if isinstance(error, BrokenPipeError):  # the reader of our output has enough
        return Failure("", 0)
    if isinstance(error, OSError):
        parts = (error.filename, error.strerror or error)
        code = InputError.exit_code if error.errno in OF_A_PATH else PennyweightError.exit_code
        return Failure(" ".join(": ".join(str(part) for part in parts if part).split()), code)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "out of memory" in str(error).lower()):
        advice = "halve --batch-size and double --gradient-accumulation-steps, or lower --max-length"
        return Failure(str(ResourceError("out of memory", remedy=advice)), ResourceError.exit_code)
    return None


def is_told_elsewhere(error: BaseException) -> bool:
    """Whether this is not the first of a launcher's processes, and that one says it: it was given the same."""
    same = isinstance(error, InputError | Interrupted | _USAGE) and not isinstance(error, BackboneError)
    return is_follower() and (same or type(error) is PennyweightError or getattr(error, "told", False))


def drop_output(stream: IO[str]) -> None:
    """Drop buffered output that cannot be written: Python would report it again while closing the stream."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def fill_streams() -> None:
    """Open standard output and error to nowhere where they are closed, as under some schedulers.

    Their file descriptors are taken as well: the first file that is opened would get one, and what libraries print.
    """
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            stream = open(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
