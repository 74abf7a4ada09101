"""`pennyweight train`."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import typer

from ..errors import InputError
from ..train.launcher import is_follower, refuse_launcher
from ..train.observer import forward_log
from ..train.training_display import TrainingDisplay
from .command_help import short_help
from .flags import JSON, RAY, RECIPE, WORKER_THREADS, WORKERS, recipe_flags, refuse_two_sources
from .output import echo, echo_json, note
from .summary import run_places, summary


@short_help(
    "--test", "--validation", "--recipe", "--budget", "--backbone", "--epochs", "--learning-rate", "--batch-size",
    "--max-length", "--text-columns", "--label-column", "--seed", "--device", "--out", "--resume", "--overwrite",
    examples=(
        "train texts.csv --test held-out.csv --budget 200k",
        "train texts.csv --backbone roberta-base --out runs/first",
    ),
)  # fmt: skip
@recipe_flags("data", "model", "plan", "train")
def train(
    data: str = typer.Argument(None, help="Labelled texts: a file, a folder or a hub name."),
    recipe: str = RECIPE,
    out: Path = typer.Option(None, "--out", help="Run folder; runs/NAME-TIME if not given."),
    resume: bool = typer.Option(False, "--resume", help="Continue from the newest checkpoint in --out."),
    resume_anyway: bool = typer.Option(
        False, "--resume-anyway", help="Resume even if the recipe, data or versions have changed."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the run in --out."),
    seeds: int = typer.Option(1, "--seeds", min=1, help="Train with this many seeds, and show the mean and spread."),
    ray: str = RAY,
    workers: int = WORKERS,
    worker_threads: int = WORKER_THREADS,
    as_json: bool = JSON,
    *,
    settings: dict[str, Any],
) -> None:
    """Train a classifier under a budget."""
    from .. import pipeline

    refuse_two_sources(data, settings)
    if out is None and (resume or resume_anyway):
        raise InputError(
            f"{'--resume' if resume else '--resume-anyway'} needs the folder of the run",
            remedy="name it with --out RUN",
        )
    _check_ray(ray, workers, worker_threads, seeds, settings)
    folder = out or Path("runs") / f"{Path(recipe).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    if seeds > 1:
        from ..search.seeds import train_seeds

        refuse_launcher("training with several seeds")

        if resume or resume_anyway:
            raise InputError(
                "several seeds cannot be resumed", remedy="resume the run of a single seed: --out RUN/seed-N"
            )
        with forward_log(note):
            spread = train_seeds(data, count=seeds, out=folder, recipe=recipe, overwrite=overwrite, **settings)
        echo_json(spread.to_json()) if as_json else echo(f"\n{spread}\n\nruns:   {folder}")
        return
    if is_follower():  # of a launcher's processes the first one shows what there is to see
        pipeline.train_beside()
        return
    with ExitStack() as stack:
        if ray is not None:
            from ..scale.data_parallel import training_processes
            from ..scale.predict_units import Cluster

            settings |= {"device": "cpu", "threads": str(worker_threads or 1)}
            stack.enter_context(training_processes(Cluster(ray, workers), worker_threads or 1))
        display = stack.enter_context(TrainingDisplay(note))
        stack.enter_context(forward_log(display.say))
        classifier = pipeline.train(
            data,
            recipe=recipe,
            out=folder,
            resume=resume or resume_anyway,
            resume_anyway=resume_anyway,
            overwrite=overwrite,
            observer=display,
            **settings,
        )
    echo_json(classifier.metrics) if as_json else echo(f"\n{summary(classifier.metrics)}\n\n{run_places(folder)}")


def _check_ray(
    ray: str | None, workers: int | None, worker_threads: int | None, seeds: int, settings: dict[str, Any]
) -> None:
    if ray is None:
        if workers is not None or worker_threads is not None:
            raise InputError("--workers and --worker-threads are for several processes", remedy="add --ray local")
        return
    refuse_launcher("--ray")
    if seeds > 1:
        raise InputError("several seeds are trained one after another", remedy="leave out --ray or --seeds")
    if settings.get("device", "auto") not in ("auto", "cpu"):
        raise InputError(
            "with --ray, workers compute on CPUs", received=f"--device {settings['device']}",
            remedy="leave it out, or start the processes with torchrun",
        )  # fmt: skip
    if "threads" in settings:
        raise InputError("with --ray, --worker-threads sets the number of threads", remedy="leave out --threads")
