"""`pennyweight search`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import typer

from ..train.observer import forward_log
from .command_help import short_help
from .flags import JSON, RECIPE, recipe_flags, refuse_two_sources
from .output import echo, echo_json, note


@short_help(
    "--budget", "--trials", "--out", "--recipe", "--backbone", "--validation", "--epochs", "--learning-rate",
    "--batch-size", "--max-length", "--text-columns", "--label-column", "--seed", "--device",
    examples=("search texts.csv --budget 200k --trials 20", "search texts.csv --budget 10k,50k --epochs 2,4"),
)  # fmt: skip
@recipe_flags("data", "model", "plan", "train")
def search(
    data: str = typer.Argument(None, help="Labelled texts: a file, a folder or a hub name."),
    recipe: str = RECIPE,
    trials: int = typer.Option(20, "--trials", min=1, help="Trials for each budget, those in --out included."),
    out: Path = typer.Option(
        None, "--out", help="Folder of the search, to go on with or to share; runs/search-TIME if not given."
    ),
    as_json: bool = JSON,
    *,
    settings: dict[str, Any],
) -> None:
    """Try plans and settings within a budget.

    Several budgets (10k,50k) are searched one by one. Strategy, head, learning rate, epochs, pooling, LoRA dropout and
    label smoothing are tried; a flag fixes one of them, or narrows it (--epochs 2,4). Only validation texts are
    used. Writes trials.json, table.csv, pareto.png and best.yaml, a recipe for train.
    """
    from ..search import search as searching

    refuse_two_sources(data, settings)
    folder = out or Path("runs") / f"search-{time.strftime('%Y%m%d-%H%M%S')}"
    with forward_log(note, "pennyweight.search"):  # not what each trial's training logs
        found = searching.search(data, out=folder, trials=trials, recipe=recipe, **settings)
    echo_json(found.to_json()) if as_json else echo(f"\n{found}\n\nbest:   {folder / 'best.yaml'}")
