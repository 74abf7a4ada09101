"""`pennyweight predict`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any, Literal, cast

import typer

from ..data.table import listed
from ..errors import InputError
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
    Device,
    Format,
    Markup,
    Precision,
    split_words,
)
from .output import note


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
    from ..data.file_options import FileOptions
    from ..data.formats.columnar import read_column_types
    from ..data.row_blocks import read_in_blocks
    from ..predict.abstention import make_abstainer
    from ..predict.formula_guard import formula_guard, guard_nothing
    from ..predict.load_classifier import load, read_input_spec
    from ..predict.prediction_rows import merge_row, predict_rows, prediction_columns
    from ..predict.streaming import open_pipe
    from ..predict.submission import class_numbers, refuse_unnamed_ids, submission_rows
    from ..predict.writers import output_form, write_file, write_lines

    if submission and (abstain_below is not None or target_accuracy is not None):
        raise InputError("a submission needs a label for every text", remedy="leave out the threshold")
    if label_order is not None and not submission:
        raise InputError("--label-order gives the class numbers of a submission", remedy="add --submission")
    if out is None and form == "parquet":
        raise InputError("Parquet cannot go to standard output", remedy="give --out FILE")
    if source == "-" and (header is not None or encoding is not None or input_format is not None):
        raise InputError(
            "standard input is texts or JSON objects, one a line, in UTF-8", remedy="write the texts to a file first"
        )
    input_spec = read_input_spec(model).changed(
        text_columns=split_words(text_columns), separator=separator, markup=markup
    )
    target = None if out is None else output_form(out, form, source)
    # A file that cannot be read is reported before the model's checksums are computed.
    pipe = _standard_input() if source == "-" else open_pipe(source)
    options = FileOptions(input_format, encoding, header)
    file = None if pipe is not None else read_in_blocks(source, split=split, input_spec=input_spec, options=options)
    classifier: Any = load(model, backbone=backbone, device=device, precision=precision, adapter_scale=adapter_scale)
    numbers = class_numbers(classifier, label_order) if submission else None
    if prior is not None:
        classifier = classifier.with_prior(prior, file.each_text() if file else ())
    abstainer = make_abstainer(classifier, abstain_below, target_accuracy)
    keep = input_columns and not submission
    if file is not None:
        if submission:
            refuse_unnamed_ids(file.names, id_column)
        for remark in (*file.notes, *([file.empty] if file.empty.count else [])):
            note(f"{source}: {remark}")
        predictions = predict_rows(classifier, file.blocks_and_tables(), keep=keep, ids=id_column)
    else:
        predictions = _predict_pipe(classifier, cast("IO[bytes]", pipe), source, input_spec, keep, id_column)
    guard = guard_nothing
    if numbers is not None:
        rows = submission_rows(predictions, numbers)
        note("class numbers: " + ", ".join(f"{number} = {name}" for name, number in numbers.items()))
    else:
        rows = (merge_row(fields, abstainer.decide(prediction)) for fields, prediction in predictions)
        if csv_guard:
            exact = (id_column, classifier.input_spec.label_column)
            guard = formula_guard(file.text_columns if file else (), filter(None, exact))
    if out is None:
        form = form or ("csv" if submission else "jsonl")
        write_lines(rows, sys.stdout, form, flush=file is None, delimiter=classifier.delimiter, guard=guard)
    else:
        types = read_column_types(Path(source)) if file is not None and target == "parquet" else None
        count = write_file(rows, out, target, delimiter=classifier.delimiter, guard=guard, types=types)
        note(f"{count:,} texts labelled: {out}")
    if file is not None and keep:
        _note_columns(file.names, prediction_columns(classifier), file.unreadable)
    if abstainer.threshold is not None:
        note(str(abstainer))


def _standard_input() -> IO[bytes]:
    """Standard input, unbuffered: a thread still waiting for its buffer would abort Python at exit."""
    if sys.stdin is None:
        raise InputError("standard input is closed")
    return cast("IO[bytes]", getattr(sys.stdin.buffer, "raw", sys.stdin.buffer))


def _predict_pipe(
    classifier: Any, pipe: IO[bytes], source: str, input_spec: Any, keep: bool, ids: str | None
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The fields that are kept of each line, and its prediction, as they come."""
    from ..data.sources import stream
    from ..data.table import Columns
    from ..predict.prediction_rows import columns_to_keep
    from ..predict.streaming import predict_stream, read_lines

    name = "standard input" if source == "-" else source

    def texts() -> Iterator[tuple[dict[str, Any], str]]:
        with nullcontext(pipe) if source == "-" else pipe as handle:  # standard input is not ours to close
            for record, text in stream(read_lines(handle, name), source=name, input_spec=input_spec):
                names = columns_to_keep(Columns({key: [value] for key, value in record.items()}, [1], name), keep, ids)
                yield {key: record[key] for key in names}, text

    return predict_stream(classifier, texts())


def _note_columns(names: Iterable[str], predicted: Iterable[str], unreadable: dict[str, str]) -> None:
    """Say which names of predictions were taken by input columns, and which input columns could not be kept."""
    taken = [name for name in predicted if name in set(names)]
    if taken:
        note(f"the input has columns {listed(taken)}: those of the predictions begin with predicted_")
    if unreadable:
        left = listed(f"{name} ({kind})" for name, kind in unreadable.items())
        note(f"columns that hold neither text nor numbers are left out: {left}")
