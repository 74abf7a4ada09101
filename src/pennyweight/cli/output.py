"""Printing: results on standard output, notes on standard error."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from typing import IO, Any

import typer

from ..data.table import visible


def echo(message: str, *, err: bool = False, wrap: bool = True) -> None:
    """Print for people: characters from data (labels, texts, names) that a terminal would act on are shown escaped.

    Args:
        wrap: whether a terminal gets long lines wrapped between words; it would itself wrap within them.
    """
    shown = visible(message)
    width = _terminal_width(sys.stderr if err else sys.stdout) if wrap else None
    typer.echo(shown if width is None else _wrapped(shown, width), err=err)


def _terminal_width(stream: IO[str]) -> int | None:
    """The columns of a terminal; None for anything else."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):  # a pipe, a file, a closed stream, a test's own
        return None


def _wrapped(text: str, width: int) -> str:
    """Each line that is too long wrapped between words, and indented as it began."""
    return "\n".join(
        line
        if len(line) <= width
        else textwrap.fill(
            line, width, subsequent_indent=" " * (len(line) - len(line.lstrip())), break_long_words=False,
            break_on_hyphens=False,
        )
        for line in text.split("\n")
    )  # fmt: skip


def note(message: str) -> None:
    """Print a line on standard error. Where nobody can read it, the work goes on without."""
    from .failures import drop_output

    try:
        echo(message, err=True)
    except OSError:  # a full disk, or a pipe that is closed
        drop_output(sys.stderr)


def one_line(text: str) -> str:
    """A value from data for a message of one line: its line breaks as escapes."""
    return text.replace("\n", "\\n")


def in_percent(probability: float) -> str:
    """A probability as a whole percentage; never 100%, because no prediction is certain."""
    return ">99%" if probability > 0.995 else f"{probability:.0%}"


def echo_json(value: Any) -> None:
    """Print a value as indented JSON."""
    echo(json.dumps(value, indent=2, ensure_ascii=False), wrap=False)
