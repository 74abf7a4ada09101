"""Printing: results on standard output, notes on standard error."""

from __future__ import annotations

import json
from typing import Any

import typer

from ..data.table import visible


def echo(message: str, *, err: bool = False) -> None:
    """Print for people: characters from data (labels, texts, names) that a terminal would act on are shown escaped."""
    typer.echo(visible(message), err=err)


def note(message: str) -> None:
    """Print a line on standard error."""
    echo(message, err=True)


def echo_json(value: Any) -> None:
    """Print a value as indented JSON."""
    echo(json.dumps(value, indent=2, ensure_ascii=False))
