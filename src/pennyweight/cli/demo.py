"""`pennyweight demo`."""

from __future__ import annotations

from pathlib import Path

import typer

from ..errors import Interrupted
from ..train.observer import forward_log
from .output import echo, note
from .progress import ProgressBar
from .summary import run_places, summary


def demo(out: Path = typer.Option(Path("runs/demo"), "--out", help="Run folder; replaced if it is there.")) -> None:
    """Train on the built-in news sample.

    Budget 200k, the embedded backbone; ends with the table, three classified sentences and the report.
    """
    from .. import pipeline
    from ..data import sample

    try:
        with forward_log(note), ProgressBar(note) as progress:
            classifier = pipeline.train(
                sample.load("train"),
                test=sample.load("test"),
                out=out,
                overwrite=True,
                budget="200k",
                observer=progress,
            )
    except Interrupted as stop:
        raise Interrupted(stop.problem, remedy="run the demo again; it takes minutes") from None  # it has no --resume
    echo(f"\n{summary(classifier.metrics)}\n")
    for text, probabilities in zip(sample.EXAMPLES, classifier.predict_proba(sample.EXAMPLES), strict=True):
        echo(f"{classifier.labels[probabilities.argmax()]:<9} {probabilities.max():4.0%}  {text}")
    echo(f"\n{run_places(out)}")
