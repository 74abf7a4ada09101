"""`pennyweight predict`."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, cast

import typer

from ..data.table import listed
from ..errors import InputError
from .command_help import short_help
from .flags import (
    ADAPTER_SCALE,
    BACKBONE,
    DEVICE,
    ENCODING,
    HEADER,
    ID_COLUMN,
    MARKUP,
    MODEL,
    PRECISION,
    PRIOR,
    SEPARATOR,
    SPLIT,
    TEXT_COLUMNS,
    WORKER_THREADS,
    WORKERS,
    Device,
    Format,
    Markup,
    Precision,
    split_words,
)
from .output import echo, in_percent, note, one_line
from .progress import RowProgress

if TYPE_CHECKING:
    from ..data.cut_tokens import CutTally
    from ..data.row_blocks import RowBlocks
    from ..predict.abstention import Abstainer
    from ..predict.bulk import OutputOptions
    from ..predict.formula_guard import Guard
    from ..predict.prediction_rows import KeptColumns
    from ..predict.predictor import Classifier
    from ..scale.predict_units import Cluster
    from ..scale.unit_worker import ResidentModel

Predictions = Iterable[tuple[dict[str, Any], dict[str, Any]]]


@short_help(
    "--text", "--out", "--format", "--abstain-below", "--no-text", "--input-columns", "--id-column", "--text-columns",
    "--submission", "--resume", "--precision", "--device",
    examples=(
        'predict runs/first --text "The match ended two to one"',
        "predict runs/first new.csv --out labelled.csv",
    ),
)  # fmt: skip
def predict(
    model: Path = MODEL,
    source: str = typer.Argument(
        None,
        metavar="FILE|-",
        help="Texts, in any format that train reads; - or a pipe to label lines as they arrive.",
    ),
    text: list[str] = typer.Option(
        None, "--text", help="A text to label, instead of FILE; may be given several times."
    ),
    output: str = typer.Option(None, "--out", metavar="PATH", help="Output file; - or nothing: standard output."),
    form: Literal["csv", "jsonl", "parquet"] = typer.Option(
        None, "--format", help="Output format; if not given, by the suffix of --out, or jsonl (csv for a submission)."
    ),
    input_columns: bool = typer.Option(
        True, "--input-columns/--no-input-columns", help="Keep all input columns, or only the id and the text."
    ),
    no_text: bool = typer.Option(False, "--no-text", help="Leave out the text columns."),
    id_column: str = ID_COLUMN,
    csv_guard: bool = typer.Option(
        True,
        "--csv-guard/--no-csv-guard",
        help="In CSV, put an apostrophe before text that a spreadsheet would run as a formula.",
    ),
    resume: bool = typer.Option(
        False,
        "--resume",
        help="Continue where an interrupted run of this command stopped; no row is repeated.",
    ),
    submission: bool = typer.Option(False, "--submission", help="Write a CSV file of ID,Label with class numbers."),
    label_order: str = typer.Option(
        None,
        "--label-order",
        metavar="A,B,...",
        help="With --submission: all labels in the order of their numbers, from 0.",
    ),
    abstain_below: float = typer.Option(
        None, "--abstain-below", help="Give no label to texts with a lower probability than this."
    ),
    target_accuracy: float = typer.Option(
        None,
        "--target-accuracy",
        help="Give no label to the least certain texts, so that the others reach this accuracy (0.98).",
    ),
    text_columns: str = TEXT_COLUMNS,
    separator: str = SEPARATOR,
    markup: Markup = MARKUP,
    split: str = SPLIT,
    input_format: Format = typer.Option(None, "--input-format", help="Format of FILE; detected if not given."),
    header: bool = HEADER,
    encoding: str = ENCODING,
    adapter_scale: float = ADAPTER_SCALE,
    prior: str = PRIOR,
    backbone: str = BACKBONE,
    device: Device = DEVICE,
    precision: Precision = PRECISION,
    ray: str = typer.Option(
        None,
        "--ray",
        metavar="local|auto|HOST:PORT",
        help="Use several processes, here or on a Ray cluster; FILE may be a folder or pattern, --out a folder.",
    ),
    workers: int = WORKERS,
    worker_threads: int = WORKER_THREADS,
) -> None:
    """Label texts.

    Writes the input's columns with labels and probabilities, in the same order. An output column whose name is already
    taken by an input column gets the prefix predicted_.
    """
    from ..data.file_options import FileOptions
    from ..predict.abstention import make_abstainer
    from ..predict.bulk import OutputOptions
    from ..predict.hub_folder import local_folder
    from ..predict.load_classifier import load, read_input_spec
    from ..predict.prediction_rows import KeptColumns, prediction_columns
    from ..predict.streaming import open_pipe
    from ..predict.submission import class_numbers, refuse_unnamed_ids
    from ..predict.writers import follow_links, output_form

    out = None if output in (None, "-") else Path(output) if ray is not None else follow_links(output)
    if text and source is not None:
        raise InputError("texts given twice", received=f"{source} and --text", remedy="leave out one of the two")
    if not text and source is None:
        raise InputError(
            "no texts to label", expected="a file, - for standard input, or --text", remedy='try --text "a sentence"'
        )
    if text and (resume or submission or ray is not None):
        raise InputError("--resume, --submission and --ray are for files", remedy="leave them out, or give a file")
    if submission and (abstain_below is not None or target_accuracy is not None):
        raise InputError("a submission needs a label for every text", remedy="leave out the threshold")
    if label_order is not None and not submission:
        raise InputError("--label-order is only for submissions", remedy="add --submission")
    if resume and (out is None or submission):
        raise InputError(
            "only predictions that go to a file can be resumed", remedy="give --out FILE, without --submission"
        )
    if out is None and form == "parquet":
        raise InputError("Parquet cannot go to standard output", remedy="give --out FILE")
    if source == "-" and (header is not None or encoding is not None or input_format is not None):
        raise InputError(
            "standard input has to be one text or JSON object per line, in UTF-8",
            remedy="write the texts to a file first",
        )
    model = local_folder(model)  # once: the hub would be asked for each reading
    input_spec = read_input_spec(model).changed(
        text_columns=split_words(text_columns), separator=separator, markup=markup
    )
    if ray is None and (workers is not None or worker_threads is not None):
        raise InputError("--workers and --worker-threads are for several processes", remedy="add --ray local")
    if ray is not None:
        from ..scale.predict_units import Cluster
        from ..scale.unit_worker import ResidentModel

        _refuse_with_ray(source, output, device, submission, prior)
        kept = KeptColumns(input_columns, not no_text, id_column)
        settings = ResidentModel(
            str(model), backbone, precision, adapter_scale, prior, abstain_below, target_accuracy, worker_threads or 1
        )
        _predict_with_ray(
            settings, source, output, input_spec, lambda form: OutputOptions(form, kept, csv_guard),
            form, FileOptions(input_format, encoding, header), split, Cluster(ray, workers), resume,
        )  # fmt: skip
        return
    target = None if out is None else output_form(out, form, source)
    # A file that cannot be read is reported before the model's checksums are computed.
    pipe = None if text else _standard_input() if source == "-" else open_pipe(source)
    if pipe is not None and resume:
        raise InputError(
            "a pipe can be read only once", remedy="write the texts to a file first, or leave out --resume"
        )
    options = FileOptions(input_format, encoding, header)
    # Lines on a terminal show the progress themselves, and a bar would get between them.
    with RowProgress(shown=out is not None or not sys.stdout.isatty()) as progress:
        file = None if text or pipe is not None else _open(source, split, input_spec, options, progress)
        classifier: Any = load(
            model, backbone=backbone, device=device, precision=precision, adapter_scale=adapter_scale
        )
        numbers = class_numbers(classifier, label_order) if submission else None
        if prior is not None:
            classifier = classifier.with_prior(prior, file.each_text() if file else text or ())
        abstainer = make_abstainer(classifier, abstain_below, target_accuracy)
        shown = bool(text) and out is None and form is None  # for a person to read
        kept = KeptColumns(input_columns and not submission, not (no_text or submission), id_column)
        form = target or form or ("csv" if submission else "jsonl")
        written = OutputOptions(form, kept, csv_guard and not submission)
        if text:
            _write_texts(classifier, text, written, out, abstainer, shown)
        elif file is None:
            _write_stream(classifier, cast("IO[bytes]", pipe), source, input_spec, written, out, abstainer, numbers)
        else:
            if submission:
                refuse_unnamed_ids(file.names, id_column)
            for remark in (*file.notes, *([file.empty] if file.empty.count else [])):
                note(f"{source}: {remark}")
            progress.begin("predicting", file.rows)
            if numbers is not None:
                _write_submission(classifier, file, written, out, numbers, progress)
            else:
                _write_file(classifier, file, written, out, abstainer, resume, progress)
    if file is not None and file.unread and file.empty.count:
        note(f"{source}: {file.empty}")
    if file is not None:
        _note_cut(source, file.cut.warning())
    if file is not None and kept.all:
        _note_columns(file.names, prediction_columns(classifier), file.unreadable)
    if abstainer.threshold is not None:
        note(str(abstainer))


def _refuse_with_ray(source: str, out: str | None, device: str, submission: bool, prior: str | None) -> None:
    if out in (None, "-") or source == "-":
        raise InputError("with --ray, files are predicted into a file or a folder", remedy="give FILE and --out")
    if device not in ("auto", "cpu"):
        raise InputError("with --ray, workers compute on CPUs", received=f"--device {device}", remedy="leave it out")
    if submission:
        raise InputError("a submission is one small file", remedy="leave out --ray")
    if prior == "em":
        raise InputError(
            "em estimates the shares from all texts, but each worker sees only some",
            remedy="give the shares: --prior A=X,B=Y",
        )


def _predict_with_ray(
    model: ResidentModel,
    source: str,
    out: str,
    input_spec: Any,
    output: Callable[[str], OutputOptions],
    form: str | None,
    options: Any,
    split: str,
    cluster: Cluster,
    resume: bool,
) -> None:
    """Predict files by several processes; what is said at the end is what `predict` says."""
    from ..scale.predict_units import plan_job, predict_units

    job, units, first = plan_job(model, source, out, input_spec, output, form=form, options=options, split=split)
    # Ray prints, on standard output, which of its processes died; what that means is said here.
    with RowProgress() as progress, contextlib.redirect_stdout(io.StringIO()):
        progress.begin("predicting", sum(unit.rows for unit in units if unit.rows) or None)
        found = predict_units(job, units, out, cluster, resume=resume, progress=progress.update)
    for remark in found.notes:
        note(remark)
    if found.lost:
        note(f"{found.lost} {'worker that died was' if found.lost == 1 else 'workers that died were'} replaced")
    _note_labelled(found.rows, out)
    for name, empty in found.empty.items():
        note(f"{name}: {empty}")
    _note_cut(source, found.cut.warning())
    if first is not None and job.output.kept.all:
        _note_columns((), (), first.unreadable)
    if found.why is not None:
        share = 100 * found.answered / found.rows if found.rows else 0.0
        note(f"labelled {found.answered:,} of {found.rows:,} texts ({share:.1f}%), {found.why}")


def _standard_input() -> IO[bytes]:
    """Standard input, unbuffered: a thread still waiting for its buffer would abort Python at exit."""
    if sys.stdin is None:
        raise InputError("standard input is closed")
    return cast("IO[bytes]", getattr(sys.stdin.buffer, "raw", sys.stdin.buffer))


def _open(source: str, split: str, input_spec: Any, options: Any, progress: RowProgress) -> RowBlocks:
    from ..data.row_blocks import read_in_blocks

    progress.begin("reading")
    file = read_in_blocks(
        source, split=split, input_spec=input_spec, options=options, check=False, seen=progress.update
    )  # fmt: skip
    progress.end()
    return file


def _write_file(
    classifier: Classifier,
    file: RowBlocks,
    output: OutputOptions,
    out: Path | None,
    abstainer: Abstainer,
    resume: bool,
    progress: RowProgress,
) -> None:
    """Predict a file block by block, to a file or to standard output."""
    from ..predict.bulk import block_encoder, encode_blocks, predict_blocks, predict_file

    if out is not None:
        count = predict_file(
            classifier, file, out, output, abstainer=abstainer, resume=resume, progress=progress.update
        )  # fmt: skip
        _note_labelled(count, out)
        return
    encode = block_encoder(classifier, file, output)
    with contextlib.closing(predict_blocks(classifier, file, output.kept, progress=progress.update)) as blocks:
        for content in encode_blocks(blocks, encode, abstainer):
            sys.stdout.write(content.decode("utf-8"))


def _write_submission(
    classifier: Classifier,
    file: RowBlocks,
    output: OutputOptions,
    out: Path | None,
    numbers: dict[str, int],
    progress: RowProgress,
) -> None:
    from ..predict.bulk import predict_blocks, refuse_overwriting
    from ..predict.prediction_rows import rows_of

    if out is not None:
        refuse_overwriting(file, out)
    with contextlib.closing(predict_blocks(classifier, file, output.kept, progress=progress.update)) as blocks:
        predictions = (pair for kept, found in blocks for pair in zip(rows_of(kept), rows_of(found), strict=False))
        _write_rows(_submission_rows(predictions, numbers), output.form, out, classifier.delimiter)


def _submission_rows(predictions: Predictions, numbers: dict[str, int]) -> Iterator[dict[str, Any]]:
    from ..predict.submission import submission_rows

    note("class numbers: " + ", ".join(f"{number} = {one_line(name)}" for name, number in numbers.items()))
    return submission_rows(predictions, numbers)


def _write_texts(
    classifier: Classifier, texts: list[str], output: OutputOptions, out: Path | None, abstainer: Abstainer, shown: bool
) -> None:
    """Predict texts of the command line: a line each for a person, or rows as of any input."""
    from ..data.cut_tokens import CutTally
    from ..predict.prediction_rows import merge_rows
    from ..predict.streaming import predict_stream

    if classifier.pair:
        raise InputError(
            "this classifier labels pairs of texts, and --text takes single texts",
            remedy="give JSON lines with both texts on standard input: predict RUN -",
        )
    cut = CutTally()
    found = predict_stream(classifier, (({"text": text}, text) for text in texts), cut=cut)
    found = _noting_cut(found, cut, "--text")
    rows = ((fields, abstainer.decide(prediction)) for fields, prediction in found)
    if shown:
        for fields, prediction in rows:
            echo(_readable(prediction, fields["text"]))
        return
    kept = ((fields if output.kept.text else {}, prediction) for fields, prediction in rows)
    _write_rows(merge_rows(kept), output.form, out, classifier.delimiter)


def _readable(prediction: dict[str, Any], text: str) -> str:
    """A prediction in a line: the label and its probability, or the labels of a multi-label classifier."""
    if "labels" in prediction:
        return one_line(f"{', '.join(prediction['labels']) or '(no label)'}  {text}")
    return one_line(f"{prediction['label'] or '(no label)'} {in_percent(prediction['probability'])}  {text}")


def _write_stream(
    classifier: Classifier,
    pipe: IO[bytes],
    source: str,
    input_spec: Any,
    output: OutputOptions,
    out: Path | None,
    abstainer: Abstainer,
    numbers: dict[str, int] | None,
) -> None:
    """Predict the lines of a pipe as they come, to a file or to standard output."""
    from ..predict.formula_guard import formula_guard, guard_nothing
    from ..predict.prediction_rows import merge_rows

    predictions = _predict_pipe(classifier, pipe, source, input_spec, output.kept)
    if numbers is not None:
        rows = _submission_rows(predictions, numbers)
    else:
        rows = merge_rows((fields, abstainer.decide(prediction)) for fields, prediction in predictions)
    exact = (output.kept.ids, classifier.input_spec.label_column)
    guard = formula_guard((), filter(None, exact)) if output.csv_guard else guard_nothing
    _write_rows(rows, output.form, out, classifier.delimiter, flush=True, guard=guard)


def _write_rows(
    rows: Iterator[dict[str, Any]],
    form: str,
    out: Path | None,
    delimiter: str,
    *,
    flush: bool = False,
    guard: Guard | None = None,
) -> None:
    from ..predict.formula_guard import guard_nothing
    from ..predict.writers import write_file, write_lines

    if out is None:
        write_lines(rows, sys.stdout, form, flush=flush, delimiter=delimiter, guard=guard or guard_nothing)
    else:
        count = write_file(rows, out, form, delimiter=delimiter, guard=guard or guard_nothing)
        _note_labelled(count, out)


def _note_labelled(count: int, out: str | Path) -> None:
    note(f"{count:,} {'text' if count == 1 else 'texts'} labelled: {one_line(str(out))}")


def _predict_pipe(
    classifier: Classifier, pipe: IO[bytes], source: str, input_spec: Any, kept: KeptColumns
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The fields that are kept of each line, and its prediction, as they come."""
    from ..data.cut_tokens import CutTally
    from ..data.sources import stream
    from ..data.table import Columns
    from ..predict.streaming import predict_stream, read_lines

    name = "standard input" if source == "-" else source

    def texts() -> Iterator[tuple[dict[str, Any], str]]:
        with contextlib.nullcontext(pipe) if source == "-" else pipe as handle:  # standard input is not ours to close
            for record, own, text in stream(read_lines(handle, name), source=name, input_spec=input_spec):
                names = kept.of(Columns({key: [value] for key, value in record.items()}, [1], name), own)
                yield {key: record[key] for key in names}, text

    cut = CutTally()
    return _noting_cut(predict_stream(classifier, texts(), cut=cut), cut, name)


def _noting_cut(
    predictions: Iterator[tuple[dict[str, Any], dict[str, Any]]], cut: CutTally, source: str
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The predictions, with a warning where much is cut: as soon as that is known, since a pipe may never end."""
    for prediction in predictions:
        yield prediction
        _note_cut(source, cut.warning_once())
    _note_cut(source, cut.warning_once(0))


def _note_cut(source: str, warning: str | None) -> None:
    if warning is not None:
        note(f"warning: {source}: {warning}")


def _note_columns(names: Iterable[str], predicted: Iterable[str], unreadable: dict[str, str]) -> None:
    """Say which names of predictions were taken by input columns, and which input columns could not be kept."""
    taken = [name for name in predicted if name in set(names)]
    if taken:
        note(f"the input already has columns {listed(taken)}: the prediction columns get the prefix predicted_")
    if unreadable:
        left = listed(f"{name} ({kind})" for name, kind in unreadable.items())
        note(f"columns that contain neither text nor numbers are left out: {left}")
