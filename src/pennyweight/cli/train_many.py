"""`pennyweight train-many`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from ..errors import InputError, PennyweightError
from ..train.launcher import refuse_launcher
from .command_help import short_help
from .flags import JSON, RECIPE, recipe_flags
from .output import echo, echo_json, note


@short_help(
    "--out", "--recipe", "--budget", "--backbone", "--epochs", "--learning-rate", "--batch-size", "--max-length",
    "--text-columns", "--label-column", "--workers", "--overwrite",
    examples=(
        "train-many tenants.csv --out classifiers --budget 5k",
        "train-many tenants.csv --out classifiers --workers 2 --epochs 5",
    ),
)  # fmt: skip
@recipe_flags("data", "model", "plan", "train")
def train_many(
    manifest: Path = typer.Argument(
        ..., help="A table with the columns name and data, and optionally any recipe field."
    ),
    out: Path = typer.Option(..., "--out", help="Output folder, with a folder for each classifier and a summary."),
    recipe: str = RECIPE,
    workers: int = typer.Option(
        None, "--workers", min=1, help="Number of processes; the number of cores if not given."
    ),
    ray: str = typer.Option(
        None, "--ray", metavar="local|auto|HOST:PORT", help="Spread the processes over a Ray cluster, one CPU each."
    ),
    overwrite: bool = typer.Option(
        False, "--overwrite", help="Retrain finished classifiers whose texts or settings have changed."
    ),
    as_json: bool = JSON,
    *,
    settings: dict[str, Any],
) -> None:
    """Train many classifiers on one backbone.

    Trains one classifier for each row of a table. Flags apply to every row that does not set its own value. After an
    interruption, the same command continues with the classifiers that are not finished. If one fails, the others are
    still trained, the summary lists the failure, and the exit code is 1. Writes summary.html, summary.csv and
    summary.json next to the classifiers. Their reports have tables but no pictures, unless --report is given.
    """
    from ..scale.train_many import train_many as train_all

    refuse_launcher("train-many")
    if "train" in settings:
        raise InputError(
            "--train names the texts of a single classifier",
            remedy="use the column data, which names the texts of each row",
        )
    summary = train_all(
        manifest, out=out, recipe=recipe, workers=workers, ray=ray, overwrite=overwrite,
        told=lambda outcome, done, of: note(f"{done:,}/{of:,} {outcome}"),
        **settings,
    )  # fmt: skip
    echo_json(summary.to_json()) if as_json else echo(f"\n{summary}\n\nsummary: {out / 'summary.html'}")
    if summary.failed:
        raise PennyweightError(
            f"{len(summary.failed):,} of {len(summary.outcomes):,} classifiers failed",
            where=out,
            remedy="see the summary for the reasons; the same command trains only these again",
        )
