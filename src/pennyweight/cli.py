"""The command line: verbs, printing, exit codes. The only file that prints or exits."""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from . import __version__, recipe
from .errors import InputError, PennyweightError, ResourceError
from .flags import recipe_flags
from .progress import Progress

app = typer.Typer(
    name="pennyweight",
    help="Fine-tune a text classifier under a hard budget of trainable parameters.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

DEMO_TEXTS = (
    "The central bank left its key rate unchanged, but bank shares slid on the warning about bad loans.",
    "After extra time and eleven penalties each, the goalkeeper scored the goal that sent them to the final.",
    "The probe's camera found ice in a crater that has not seen sunlight for two billion years.",
)

MODEL = typer.Argument(..., help="A run folder or saved classifier.")
RECIPE = typer.Option("default", "--recipe", help="A shipped recipe's name or a YAML file.")
JSON = typer.Option(False, "--json", help="Print JSON.")
BACKBONE = typer.Option(None, "--backbone", help="Where the backbone is now, if it moved.")
DEVICE = typer.Option("auto", "--device", help="auto, cpu, cuda or mps.")
PRECISION = typer.Option(None, "--precision", help="fp32, bf16 or fp16; else as trained.")
TEXT_COLUMNS = typer.Option(None, "--text-columns", help="Text columns, joined in this order; inferred if not given.")
LABEL_COLUMN = typer.Option(None, "--label-column", help="Label column; inferred if not given.")


@app.command()
@recipe_flags("data", "model", "plan", "train")
def train(
    data: str = typer.Argument(None, help="Labelled texts: a file, a saved datasets folder or a hub name."),
    recipe: str = RECIPE,
    out: Path = typer.Option(None, "--out", help="Run folder; runs/NAME-TIME if not given."),
    resume: bool = typer.Option(False, "--resume", help="Go on from the newest checkpoint in --out."),
    resume_anyway: bool = typer.Option(False, "--resume-anyway", help="Even if recipe, data or versions changed."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the run in --out."),
    as_json: bool = JSON,
    *,
    settings: dict[str, Any],
) -> None:
    """Train a classifier under a budget."""
    from . import pipeline

    folder = out or Path("runs") / f"{Path(recipe).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    with Progress(_note) as progress:
        classifier = pipeline.train(
            data,
            recipe=recipe,
            out=folder,
            resume=resume or resume_anyway,
            resume_anyway=resume_anyway,
            overwrite=overwrite,
            observer=progress,
            say=_note,
            **settings,
        )
    _print_run(classifier.metrics, folder, as_json)


@app.command()
@recipe_flags("model", "plan")
def plan(
    recipe: str = RECIPE,
    labels: int = typer.Option(2, "--labels", min=2, help="Number of classes."),
    as_json: bool = JSON,
    as_yaml: bool = typer.Option(False, "--yaml", help="Print a recipe ready for train."),
    *,
    settings: dict[str, Any],
) -> None:
    """Show what a recipe would train and what it costs, without loading anything."""
    from . import pipeline
    from .budget.bill import render

    made = pipeline.plan(recipe, labels=labels, **settings)
    if as_json:
        _json(made.to_json())
    elif as_yaml:
        typer.echo(pipeline.recipe_of(recipe, made, settings).to_yaml(), nl=False)
    else:
        typer.echo(render(made))


@app.command()
def predict(
    model: Path = MODEL,
    source: str = typer.Argument(
        ..., metavar="FILE|-", help="Texts: any file form train reads, or - for lines on stdin."
    ),
    out: Path = typer.Option(None, "--out", help="Output file; else standard output."),
    form: str = typer.Option(None, "--format", help="csv, jsonl or parquet; else by --out's ending, else jsonl."),
    submission: bool = typer.Option(False, "--submission", help="Write ID,Label with class numbers."),
    text_columns: str = TEXT_COLUMNS,
    backbone: str = BACKBONE,
    device: str = DEVICE,
    precision: str = PRECISION,
) -> None:
    """Label texts: labels and probabilities, order kept."""
    from . import predict as prediction
    from .data.read import read, stream

    columns = text_columns.split(",") if text_columns else None
    classifier = prediction.load(model, backbone=backbone, device=device, precision=precision)
    if source == "-":
        form = form or "jsonl"
        if submission or out or form == "parquet":
            raise InputError("standard input is answered line by line on standard output, as jsonl or csv")
        records = ((record, str(record["text"])) for record in stream(sys.stdin, text_columns=columns))
        asked = (({"id": record["id"]} if "id" in record else {}, text) for record, text in records)
        prediction.write_lines(prediction.converse(classifier, asked), sys.stdout, form, flush=True)
        return
    table = read(source, text_columns=columns, labelled=False, allow_null=True)
    answers = prediction.submission(classifier, table) if submission else prediction.rows(classifier, table)
    if out is not None:
        count = prediction.write(answers, out, form)
        _note(f"{count:,} texts labelled: {out}")
    elif form == "parquet":
        raise InputError("Parquet cannot go to standard output", remedy="give --out FILE")
    else:
        prediction.write_lines(answers, sys.stdout, form or ("csv" if submission else "jsonl"))


@app.command()
def evaluate(
    model: Path = MODEL,
    data: str = typer.Argument(..., help="Labelled texts."),
    text_columns: str = TEXT_COLUMNS,
    label_column: str = LABEL_COLUMN,
    backbone: str = BACKBONE,
    device: str = DEVICE,
    precision: str = PRECISION,
    as_json: bool = JSON,
) -> None:
    """Measure a saved classifier on labelled texts."""
    from .evaluate.report import text_table
    from .predict import load

    columns = text_columns.split(",") if text_columns else None
    classifier = load(model, backbone=backbone, device=device, precision=precision)
    metrics = classifier.evaluate(data, text_columns=columns, label_column=label_column)
    _json(metrics.to_json()) if as_json else typer.echo(text_table(metrics))


@app.command()
def export(
    model: Path = MODEL,
    out: Path = typer.Argument(..., help="Folder to write."),
    form: str = typer.Option(
        "peft", "--format", help="peft: an adapter for stock transformers; merged: one whole model."
    ),
    backbone: str = BACKBONE,
) -> None:
    """Write a saved classifier in a form that other tools load."""
    from .predict import load

    if form not in ("peft", "merged"):
        raise InputError("unknown export format", expected="peft or merged", received=form)
    classifier = load(model, backbone=backbone, device="cpu", precision="fp32")
    from . import export as exports

    write = exports.to_peft if form == "peft" else exports.to_merged
    gap = write(classifier.artifact, out)
    typer.echo(f"{out}: logits differ from Pennyweight's by at most {gap:.1e} in fp32")


@app.command()
def demo(out: Path = typer.Option(Path("runs/demo"), "--out", help="Run folder; replaced if it is there.")) -> None:
    """Train on the built-in news sample under a budget of 200k, classify three sentences."""
    from . import pipeline
    from .data import sample

    with Progress(_note) as progress:
        classifier = pipeline.train(
            sample.load("train"),
            test=sample.load("test"),
            out=out,
            overwrite=True,
            budget="200k",
            observer=progress,
            say=_note,
        )
    _print_run(classifier.metrics, out, as_json=False)
    typer.echo("")
    for text, probabilities in zip(DEMO_TEXTS, classifier.predict_proba(DEMO_TEXTS), strict=True):
        typer.echo(f"{classifier.labels[probabilities.argmax()]:<9} {probabilities.max():4.0%}  {text}")
    typer.echo(f"\nreport: {out / 'report'}")


@app.command()
def recipes(name: str = typer.Argument(None, help="Print this recipe, resolved.")) -> None:
    """List the shipped recipes, or print one as YAML."""
    if name is not None:
        typer.echo(recipe.load(name).to_yaml(), nl=False)
        return
    for shipped in recipe.shipped():
        typer.echo(shipped)


def _print_run(metrics: dict[str, Any], folder: Path, as_json: bool) -> None:
    from .evaluate.metrics import Metrics
    from .evaluate.report import text_table

    if as_json:
        _json(metrics)
        return
    name = "test" if "test" in metrics else "validation"
    budget = "no budget" if metrics["budget"] is None else f"budget {metrics['budget']:,}"
    typer.echo(f"\n{metrics['trainable']:,} trainable parameters ({budget}), {metrics['total']:,} in all")
    speed = metrics["train"]
    typer.echo(f"trained in {speed['seconds']:.1f} s, {speed['texts_per_second'] or 0:.0f} texts/s")
    typer.echo(f"measured on {name}:\n")
    typer.echo(text_table(Metrics.from_json(metrics[name])))
    typer.echo(f"\nrun: {folder}")


def _note(message: str) -> None:
    typer.echo(message, err=True)


def _json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Every expected failure is one line on stderr and an exit code; only a fault of ours shows a traceback."""
    try:
        yield
    except PennyweightError as error:
        _note(f"error: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _note("stopped")
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has enough. Python would complain again while closing stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error).lower():
            raise
        advice = "halve --batch-size and double --gradient-accumulation-steps, or lower --max-length"
        _note(f"error: {ResourceError('out of memory', remedy=advice)}")
        sys.exit(ResourceError.exit_code)


def main() -> None:
    """The `pennyweight` command."""
    if len(sys.argv) == 2 and sys.argv[1] == "--version":
        typer.echo(__version__)
        return
    # Libraries' deprecation notes are for us (the tests make them errors), not for who runs a command.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    with _one_line_errors():
        app()
