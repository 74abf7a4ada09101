"""The command line: verbs, printing, exit codes. The only file that prints or exits."""

from __future__ import annotations

import functools
import io
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Literal, cast

import typer
from typer.core import TyperGroup

from .. import __version__
from ..data.table import listed, visible
from ..errors import InputError, Interrupted
from ..train.machine_speed import estimate_training
from ..train.observer import forward_log
from . import verbs
from .failures import drop_output, failure, fill_streams
from .flags import (  # fmt: skip
    ADAPTER_SCALE,
    BACKBONE,
    DEVICE,
    ENCODING,
    HEADER,
    ID_COLUMN,
    JSON,
    MARKUP,
    MODEL,
    PRECISION,
    PRIOR,
    RECIPE,
    SEPARATOR,
    SPLIT,
    TEXT_COLUMNS,
    Device,
    Format,
    Grouped,
    Markup,
    Precision,
    hearing,
    recipe_flags,
)
from .progress import Progress, summary


class _Verbs(TyperGroup):
    """Hands `Interrupted` over as the program's result: Typer would make an exit code of it, and lose its line."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Interrupted as stop:
            return stop


app = typer.Typer(
    name="pennyweight",
    cls=_Verbs,
    help="Fine-tune a text classifier under a hard budget of trainable parameters.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command(cls=Grouped)
@recipe_flags("data", "model", "plan", "train")
def train(
    data: str = typer.Argument(None, help="Labelled texts: a file, a folder or a hub name."),
    recipe: str = RECIPE,
    out: Path = typer.Option(None, "--out", help="Run folder; runs/NAME-TIME if not given."),
    resume: bool = typer.Option(False, "--resume", help="Go on from the newest checkpoint in --out."),
    resume_anyway: bool = typer.Option(False, "--resume-anyway", help="Even if recipe, data or versions changed."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the run in --out."),
    seeds: int = typer.Option(1, "--seeds", min=1, help="Train with this many seeds; show mean and spread."),
    as_json: bool = JSON,
    *,
    settings: dict[str, Any],
) -> None:
    """Train a classifier under a budget."""
    from .. import pipeline

    if data is not None and "train" in settings:
        raise InputError("training data named twice", received=f"{data} and --train {settings['train']}")
    if out is None and (resume or resume_anyway):
        raise InputError(
            f"{'--resume' if resume else '--resume-anyway'} without --out: which run is to go on is not said",
            remedy="name its folder: --out RUN",
        )
    folder = out or Path("runs") / f"{Path(recipe).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    if seeds > 1:
        from ..search.seeds import train_seeds

        if resume or resume_anyway:
            raise InputError("several seeds cannot be resumed", remedy="resume the run of one: --out RUN/seed-N")
        with forward_log(_note):
            spread = train_seeds(data, count=seeds, out=folder, recipe=recipe, overwrite=overwrite, **settings)
        _json(spread.to_json()) if as_json else _echo(f"\n{spread}\n\nruns:   {folder}")
        return
    with forward_log(_note), Progress(_note) as progress:
        classifier = pipeline.train(
            data,
            recipe=recipe,
            out=folder,
            resume=resume or resume_anyway,
            resume_anyway=resume_anyway,
            overwrite=overwrite,
            observer=progress,
            **settings,
        )
    _json(classifier.metrics) if as_json else _echo(f"\n{summary(classifier.metrics)}\n\n{_places(folder)}")


@app.command(cls=Grouped)
@recipe_flags("model", "plan")
def plan(
    recipe: str = RECIPE,
    labels: int = typer.Option(2, "--labels", min=2, help="Number of classes."),
    as_json: bool = JSON,
    as_yaml: bool = typer.Option(False, "--yaml", help="Print a recipe ready for train."),
    texts: int = typer.Option(10_000, "--texts", min=1, help="Training texts to estimate for."),
    tokens: int = typer.Option(50, "--tokens", min=1, help="Mean length to estimate for."),
    plot: Path = typer.Option(None, "--plot", help="Draw layers by modules, shaded by rank, into this PNG or SVG."),
    *,
    settings: dict[str, Any],
) -> None:
    """Show what a recipe would train, and its cost.

    Counted from the backbone's config alone: no weights, no network for well-known checkpoints.
    """
    from ..budget.plan_table import render
    from ..evaluate.report.figures import check_picture, save
    from ..evaluate.report.plan_plot import picture
    from ..model.backbone import config_of
    from ..recipe import planning
    from ..recipe.loading import resolve_recipe

    if as_json and as_yaml:
        raise InputError("--json and --yaml contradict each other", remedy="leave out one of the two")
    if plot is not None:
        check_picture(plot)
    settled = resolve_recipe(recipe, settings)
    config = config_of(settled.model.backbone, settled.model.revision)
    made = planning.plan_for(settled, config, labels)
    cost = estimate_training(settled, config, made, texts=texts, tokens=tokens)
    if plot is not None:
        save(picture(made, config), plot)
    if as_json:
        _json(made.to_json() | {"estimate": asdict(cost)})
    elif as_yaml:
        typer.echo(planning.pin_plan(settled, made).to_yaml(), nl=False)
    else:
        _echo(f"{render(made)}\nestimate: {cost}")


@app.command()
def predict(
    model: Path = MODEL,
    source: str = typer.Argument(
        ...,
        metavar="FILE|-",
        help="Texts: any file form train reads; - or a pipe for lines, answered as they arrive.",
    ),
    out: Path = typer.Option(None, "--out", help="Output file; else standard output."),
    form: Literal["csv", "jsonl", "parquet"] = typer.Option(
        None, "--format", help="Else by --out's ending; on standard output jsonl (csv for a submission)."
    ),
    input_columns: bool = typer.Option(
        True, "--input-columns/--no-input-columns", help="Keep the input's columns, or only its id."
    ),
    id_column: str = ID_COLUMN,
    csv_guard: bool = typer.Option(
        True,
        "--csv-guard/--no-csv-guard",
        help="In CSV, put an apostrophe before free text that a spreadsheet would run as a formula.",
    ),
    submission: bool = typer.Option(False, "--submission", help="Write ID,Label with class numbers."),
    label_order: str = typer.Option(
        None, "--label-order", metavar="A,B,...", help="With --submission: all labels, number 0 first."
    ),
    abstain_below: float = typer.Option(None, "--abstain-below", help="No label for texts less sure than this."),
    target_accuracy: float = typer.Option(
        None, "--target-accuracy", help="No label for the least sure texts, so that the others reach this (0.98)."
    ),
    text_columns: str = TEXT_COLUMNS,
    separator: str = SEPARATOR,
    markup: Markup = MARKUP,
    split: str = SPLIT,
    input_format: Format = typer.Option(
        None, "--input-format", help="Format of the texts' file; by its content and name if not given."
    ),
    header: bool = HEADER,
    encoding: str = ENCODING,
    adapter_scale: float = ADAPTER_SCALE,
    prior: str = PRIOR,
    backbone: str = BACKBONE,
    device: Device = DEVICE,
    precision: Precision = PRECISION,
) -> None:
    """Label texts: the input's columns, labels and probabilities, order kept.

    A name that an input column has already gets predicted_ in front.
    """
    from ..artifact.load_artifact import read_input_spec
    from ..data.file_options import FileOptions
    from ..data.formats.columnar import read_column_types
    from ..data.row_blocks import read_in_blocks
    from ..predict.abstention import make_abstainer
    from ..predict.formula_guard import formula_guard
    from ..predict.prediction_rows import merge_row, predict_rows, prediction_columns
    from ..predict.predictor import load
    from ..predict.streaming import open_pipe
    from ..predict.submission import class_numbers, refuse_unnamed_ids, submission_rows
    from ..predict.writers import output_form, write_file, write_lines

    if submission and (abstain_below is not None or target_accuracy is not None):
        raise InputError("a submission needs a label for every text", remedy="leave out the threshold")
    if label_order is not None and not submission:
        raise InputError("--label-order gives the class numbers of a submission", remedy="add --submission")
    if out is None and form == "parquet":
        raise InputError("Parquet cannot go to standard output", remedy="give --out FILE")
    input_spec = read_input_spec(model).changed(
        text_columns=text_columns.split(",") if text_columns else None, separator=separator, markup=markup
    )
    if source == "-" and (header is not None or encoding is not None or input_format is not None):
        raise InputError(
            "standard input is texts or JSON objects, one a line, in UTF-8", remedy="write the texts to a file first"
        )
    target = None if out is None else output_form(out, form, source)
    options = FileOptions(input_format, encoding, header)
    # A file that cannot be read is told before the model's checksums are computed.
    pipe = _standard_input() if source == "-" else open_pipe(source)
    walked = read_in_blocks(source, split=split, input_spec=input_spec, options=options) if pipe is None else None
    classifier = load(model, backbone=backbone, device=device, precision=precision, adapter_scale=adapter_scale)
    numbers = class_numbers(classifier, label_order) if submission else None
    classifier = classifier if prior is None else classifier.with_prior(prior, walked.each_text() if walked else ())
    abstain = make_abstainer(classifier, abstain_below, target_accuracy)
    if numbers is not None and walked is not None:
        refuse_unnamed_ids(walked.names, id_column)
    for note in () if walked is None else walked.notes:
        _note(f"{source}: {note}")
    if walked is not None and walked.empty.count:
        _note(f"{source}: {walked.empty}")
    keep = input_columns and numbers is None
    if walked is not None:
        pairs = predict_rows(classifier, walked.blocks_and_tables(), keep=keep, ids=id_column)
    else:
        pairs = _conversation(classifier, pipe, source, input_spec, keep, id_column)
    if numbers is not None:
        rows = submission_rows(pairs, numbers)
        _note("class numbers: " + ", ".join(f"{number} = {name}" for name, number in numbers.items()))
    else:
        rows = (merge_row(fields, abstain.decide(found)) for fields, found in pairs)
    manner: dict[str, Any] = {"delimiter": classifier.delimiter}
    if csv_guard and numbers is None:
        exact = (id_column, classifier.input_spec.label_column)
        manner["guard"] = formula_guard(walked.text_columns if walked else (), filter(None, exact))
    if out is None:
        form = form or ("csv" if submission else "jsonl")
        write_lines(rows, sys.stdout, form, flush=walked is None, **manner)
    else:
        types = read_column_types(Path(source)) if walked is not None and target == "parquet" else None
        _note(f"{write_file(rows, out, target, types=types, **manner):,} texts labelled: {out}")
    if walked is not None and keep:
        _note_columns(walked.names, prediction_columns(classifier), walked.unreadable)
    if abstain.threshold is not None:
        _note(str(abstain))


def _standard_input() -> IO[bytes]:
    """Standard input, unbuffered: a thread that still waits for its buffer would abort Python's shutdown."""
    if sys.stdin is None:
        raise InputError("standard input is closed")
    return cast("IO[bytes]", getattr(sys.stdin.buffer, "raw", sys.stdin.buffer))


def _conversation(
    classifier: Any, pipe: IO[bytes] | None, source: str, input_spec: Any, keep: bool, ids: str | None
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The texts of a pipe, each with the fields that go with its answer, and the answers as they come."""
    from ..data.sources import stream
    from ..data.table import Columns
    from ..predict.prediction_rows import columns_to_keep
    from ..predict.streaming import predict_stream, read_lines

    name = "standard input" if source == "-" else source

    def texts() -> Iterator[tuple[dict[str, Any], str]]:
        opened = cast("IO[bytes]", pipe)
        with nullcontext(opened) if source == "-" else opened as handle:  # standard input is not ours to close
            for record, text in stream(read_lines(handle, name), source=name, input_spec=input_spec):
                names = columns_to_keep(Columns({key: [value] for key, value in record.items()}, [1], name), keep, ids)
                yield {key: record[key] for key in names}, text

    return predict_stream(classifier, texts())


def _note_columns(names: Iterable[str], answered: Iterable[str], unreadable: dict[str, str]) -> None:
    """Say which columns an answer's names gave way to, and which could not be kept."""
    taken = [name for name in answered if name in set(names)]
    if taken:
        _note(f"the input has columns {listed(taken)}: the answers' own begin with predicted_")
    if unreadable:
        left = listed(f"{name} ({kind})" for name, kind in unreadable.items())
        _note(f"columns that hold neither text nor numbers are left out: {left}")


@app.command()
def demo(out: Path = typer.Option(Path("runs/demo"), "--out", help="Run folder; replaced if it is there.")) -> None:
    """Train on the built-in news sample.

    Budget 200k, the embedded backbone; ends with the table, three classified sentences and the report.
    """
    from .. import pipeline
    from ..data import sample

    try:
        with forward_log(_note), Progress(_note) as progress:
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
    _echo(f"\n{summary(classifier.metrics)}\n")
    for text, probabilities in zip(sample.EXAMPLES, classifier.predict_proba(sample.EXAMPLES), strict=True):
        _echo(f"{classifier.labels[probabilities.argmax()]:<9} {probabilities.max():4.0%}  {text}")
    _echo(f"\n{_places(out)}")


def _printed(verb: Callable[..., str]) -> Callable[..., None]:
    """A command that prints what a verb returns."""

    @functools.wraps(verb)
    def command(**given: Any) -> None:
        _echo(verb(**given))

    return command


for _verb in verbs.VERBS:
    app.command(cls=Grouped if _verb in verbs.GROUPED else None)(_printed(hearing(_verb, lambda line: _note(line))))


def _places(folder: Path) -> str:
    page = folder / "report.html"
    return f"run:    {folder}" + (f"\nreport: {page}" if page.is_file() else "")


def _echo(message: str, *, err: bool = False) -> None:
    """Print for people: nothing that came from data (labels, texts, names) acts on their terminal."""
    typer.echo(visible(message), err=err)


def _note(message: str) -> None:
    _echo(message, err=True)


def _json(value: Any) -> None:
    _echo(json.dumps(value, indent=2, ensure_ascii=False))


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Every expected failure is one line on stderr and an exit code; only a fault of ours shows a traceback."""
    try:
        yield
        sys.stdout.flush()
    except (Exception, Interrupted) as error:
        known = failure(error)
        if known is None:
            raise
        if isinstance(error, OSError):
            drop_output(sys.stdout)
        if known.message:
            _note(f"error: {known.message}")
        sys.exit(known.code)
    except SystemExit as end:
        if not isinstance(end.__context__, BrokenPipeError):  # Typer's way of ending when nobody reads on
            raise
        drop_output(sys.stdout)
        sys.exit(0)
    except KeyboardInterrupt:
        _note("stopped")
        sys.exit(130)


def _one_line_warning(message: Warning | str, *place: Any, **more: Any) -> str:
    """Without the place in the source, which is ours and of no use to who runs a command."""
    return f"warning: {' '.join(str(message).split())}\n"


def main() -> None:
    """The `pennyweight` command."""
    fill_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # answers are UTF-8 whatever the locale; a file name may be anything
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    if len(sys.argv) == 2 and sys.argv[1] == "--version":
        typer.echo(__version__)
        return
    # Libraries' deprecation notes are for us (the tests make them errors), not for who runs a command; nor is the hub
    # client's account of its retries: what comes of them is told in one line.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.formatwarning = _one_line_warning
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with _one_line_errors():
        code = app(sys.argv[1:] or ["--help"], prog_name="pennyweight", standalone_mode=False)
        if isinstance(code, Interrupted):
            raise code
        if code == 130:  # how Typer hands over Ctrl-C
            raise KeyboardInterrupt
