"""`pennyweight merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer

from ..errors import InputError
from ..train.observer import forward_log
from .command_help import short_help
from .flags import DEVICE, JSON, Device
from .output import echo, echo_json, note


@short_help(
    examples=(
        "merge runs/a runs/b --test held-out.csv --out runs/merged",
        "merge runs/a runs/b --method compose --weights 2,1 --out runs/both",
    ),
)
def merge(
    runs: list[Path] = typer.Argument(..., metavar="RUN RUN...", help="Runs of one backbone with the same labels."),
    out: Path = typer.Option(..., "--out", help="A new folder for the merged classifier."),
    method: Literal["soup", "compose"] = typer.Option(
        "soup",
        "--method",
        help="soup: the mean update, truncated to one run's ranks; compose: the exact mean, with the ranks summed.",
    ),
    weights: str = typer.Option(None, "--weights", metavar="X,X,...", help="Weights of the runs; equal if not given."),
    test: str = typer.Option(None, "--test", help="Labelled texts for measuring the runs and the merged classifier."),
    device: Device = DEVICE,
    as_json: bool = JSON,
) -> None:
    """Merge saved classifiers into one.

    It has the weighted mean of their adapters and heads.
    """
    from ..runs.merging import merge as merge_runs

    with forward_log(note):
        found = merge_runs(runs, out=out, method=method, weights=_numbers(weights), test=test, device=device)
    echo_json(found.to_json()) if as_json else echo(f"{found}\n\nrun: {out}")


def _numbers(words: str | None) -> list[float] | None:
    if words is None:
        return None
    try:
        return [float(word) for word in words.split(",")]
    except ValueError:
        raise InputError("not numbers", where="--weights", expected="numbers such as 2,1,1", received=words) from None
