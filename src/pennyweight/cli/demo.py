"""`pennyweight demo`."""

from __future__ import annotations

import textwrap
from pathlib import Path

import typer

from ..errors import Interrupted
from ..train.observer import forward_log
from ..train.training_display import TrainingDisplay
from .command_help import short_help
from .output import echo, in_percent, note
from .summary import run_places, summary


@short_help(examples=("demo",))
def demo(out: Path = typer.Option(Path("runs/demo"), "--out", help="Run folder; replaced if it exists.")) -> None:
    """Train on the built-in news sample.

    Uses a budget of 200k and the embedded backbone. Ends with the metrics, three classified sentences and next steps.
    """
    from .. import pipeline
    from ..data import sample

    try:
        with TrainingDisplay(note) as display, forward_log(display.say):
            classifier = pipeline.train(
                sample.load("train"),
                test=sample.load("test"),
                out=out,
                overwrite=True,
                budget="200k",
                epochs=3,  # a quarter of what so few texts would get
                adapter="lora",  # the demo shows an adapter, whether or not a frozen head would do on so few texts
                observer=display,
            )
    except Interrupted as stop:
        raise Interrupted(stop.problem, remedy="run the demo again; it takes minutes") from None  # it has no --resume
    echo(f"\n{summary(classifier.metrics)}\n")
    for text, probabilities in zip(sample.EXAMPLES, classifier.predict_proba(sample.EXAMPLES), strict=True):
        answer = f"{classifier.labels[probabilities.argmax()]:<9} {in_percent(probabilities.max()):>4}  "
        echo(textwrap.fill(text, 80, initial_indent=answer, subsequent_indent=" " * len(answer)))
    echo(f"\n{run_places(out)}")
    echo(f'\nnext:   pennyweight predict {out} --text "a sentence of your own"')
    echo("        pennyweight train YOUR.csv --budget 200k")
