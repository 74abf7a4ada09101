"""`pennyweight search`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import typer

from ..errors import InputError
from ..train.launcher import refuse_launcher
from ..train.observer import forward_log
from .command_help import short_help
from .flags import JSON, RAY, RECIPE, WORKER_THREADS, WORKERS, recipe_flags, refuse_two_sources
from .output import echo, echo_json, note


@short_help(
    "--budget", "--trials", "--out", "--recipe", "--backbone", "--validation", "--epochs", "--learning-rate",
    "--batch-size", "--max-length", "--text-columns", "--label-column", "--seed", "--device",
    "--ray", "--workers",
    examples=("search texts.csv --budget 200k --trials 20", "search texts.csv --budget 10k,50k --epochs 2,4"),
)  # fmt: skip
@recipe_flags("data", "model", "plan", "train")
def search(
    data: str = typer.Argument(None, help="Labelled texts: a file, a folder or a hub name."),
    recipe: str = RECIPE,
    trials: int = typer.Option(20, "--trials", min=1, help="Trials per budget, including those already in --out."),
    out: Path = typer.Option(
        None, "--out", help="Folder of the search; an unfinished search is continued. runs/search-TIME if not given."
    ),
    ray: str = RAY,
    workers: int = WORKERS,
    worker_threads: int = WORKER_THREADS,
    as_json: bool = JSON,
    *,
    settings: dict[str, Any],
) -> None:
    """Try plans and settings within a budget.

    Varies strategy, head, learning rate, epochs, pooling, LoRA dropout and label smoothing. A flag fixes one of them or
    narrows its choices (--epochs 2,4). Several budgets (10k,50k) are searched one after another. Trials are compared on
    validation texts only. Writes trials.json, table.csv, pareto.png and best.yaml, a recipe for train.
    """
    from ..search import search as searching

    refuse_launcher("a search")
    refuse_two_sources(data, settings)
    _check_ray(ray, workers, worker_threads, settings)
    folder = out or Path("runs") / f"search-{time.strftime('%Y%m%d-%H%M%S')}"
    # Not what each trial's training logs.
    with forward_log(note, "pennyweight.search"), forward_log(note, "pennyweight.scale"):
        if ray is None:
            found = searching.search(data, out=folder, trials=trials, recipe=recipe, **settings)
        else:
            from ..scale.predict_units import Cluster
            from ..scale.search_cluster import search_on_ray

            found = search_on_ray(
                data, cluster=Cluster(ray, workers), threads=worker_threads or 1, out=folder, trials=trials,
                recipe=recipe, **settings,
            )  # fmt: skip
    echo_json(found.to_json()) if as_json else echo(f"\n{found}\n\nbest:   {folder / 'best.yaml'}")


def _check_ray(ray: str | None, workers: int | None, worker_threads: int | None, settings: dict[str, Any]) -> None:
    if ray is None:
        if workers is not None or worker_threads is not None:
            raise InputError("--workers and --worker-threads are for several processes", remedy="add --ray local")
        return
    if settings.get("device", "auto") not in ("auto", "cpu"):
        raise InputError(
            "with --ray, workers compute on CPUs", received=f"--device {settings['device']}", remedy="leave it out"
        )
    if "threads" in settings:
        raise InputError("with --ray, --worker-threads sets the number of threads", remedy="leave out --threads")
