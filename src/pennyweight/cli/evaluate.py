"""`pennyweight evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer

from ..errors import InputError
from .command_help import short_help
from .flags import (
    ADAPTER_SCALE,
    BACKBONE,
    DEVICE,
    ENCODING,
    HEADER,
    INPUT_FORMAT,
    JSON,
    LABEL_COLUMN,
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
from .output import echo, echo_json, note


@short_help(
    "--report", "--slice", "--text-columns", "--label-column", "--label-map", "--unknown-labels", "--shift", "--prior",
    "--precision", "--device", "--json",
    examples=("evaluate runs/first held-out.csv", "evaluate runs/first held-out.csv --report held-out.html"),
)  # fmt: skip
def evaluate(
    model: Path = MODEL,
    data: str = typer.Argument(..., help="Labelled texts."),
    text_columns: str = TEXT_COLUMNS,
    label_column: str = LABEL_COLUMN,
    label_columns: str = typer.Option(
        None, "--label-columns", metavar="A,B,...", help="Columns of 0 and 1, one per label."
    ),
    label_delimiter: str = typer.Option(None, "--label-delimiter", help="Separator between the labels in a cell."),
    allow_unlabelled: bool = typer.Option(False, "--allow-unlabelled", help="Accept rows that have no labels."),
    separator: str = SEPARATOR,
    markup: Markup = MARKUP,
    label_map: str = typer.Option(
        None, "--label-map", metavar="LABEL=NAME,...", help="Names of the labels in DATA, such as 0=World,1=Sports."
    ),
    unknown_labels: Literal["error", "drop", "wrong"] = typer.Option(
        "error", "--unknown-labels", help="Rows with a label that was not in training: refuse, drop, or count as wrong."
    ),
    split: str = SPLIT,
    format: Format = INPUT_FORMAT,
    header: bool = HEADER,
    encoding: str = ENCODING,
    slices: str = typer.Option(None, "--slice", metavar="A,B,...", help="Columns to measure separately by value."),
    report: Path = typer.Option(None, "--report", help="Write a report on these texts to this HTML file."),
    adapter_scale: float = ADAPTER_SCALE,
    prior: str = PRIOR,
    shift: bool = typer.Option(False, "--shift", help="Also measure on corrupted texts."),
    severity: str = typer.Option(
        None,
        "--severity",
        metavar="N,N,...",
        help="With --shift: severities of corruption, from 1 to 5. [default: 1,3,5]",
    ),
    rows: int = typer.Option(
        1000, "--rows", min=1, help="With --shift: size of the seeded sample of texts to corrupt."
    ),
    ood: str = typer.Option(None, "--ood", help="Labelled texts of another kind, measured in addition."),
    backbone: str = BACKBONE,
    device: Device = DEVICE,
    precision: Precision = PRECISION,
    as_json: bool = JSON,
) -> None:
    """Measure a saved classifier on labelled texts."""
    from ..data.file_options import FileOptions
    from ..predict.predictor import load
    from ..runs.saved_evaluation import evaluate_saved, read_evaluation_data

    if severity is not None and not shift:
        raise InputError("--severity is only for corrupted texts", remedy="add --shift, or leave out --severity")
    if report is not None and report.suffix.lower() not in (".html", ".htm"):
        raise InputError(
            "a report is an HTML page", where=report, expected="a name ending in .html", received=report.name
        )
    classifier = load(model, backbone=backbone, device=device, precision=precision, adapter_scale=adapter_scale)
    input_spec = classifier.input_spec.changed(
        text_columns=split_words(text_columns),
        label_column=label_column,
        label_columns=split_words(label_columns),
        label_delimiter=label_delimiter,
        allow_unlabelled=allow_unlabelled,
        separator=separator,
        markup=markup,
    )
    found = read_evaluation_data(
        classifier,
        data,
        ood=ood,
        input_spec=input_spec,
        label_map=_label_map(label_map),
        unknown_labels=unknown_labels,
        split=split,
        options=FileOptions(format, encoding, header),
    )
    if found.cleaning is not None and any(found.cleaning.dropped.values()):
        note(f"{data}: {found.cleaning}")
    if prior is not None:
        classifier = classifier.with_prior(prior, found.texts)
    evaluated = evaluate_saved(
        classifier,
        found,
        slice_columns=split_words(slices),
        severities=_severities(severity or "1,3,5") if shift else (),
        rows=rows,
    )
    if report is not None:
        evaluated.write_report(report)
    echo_json(evaluated.to_json()) if as_json else echo(str(evaluated))


def _label_map(words: str | None) -> dict[str, str] | None:
    if words is None:
        return None
    from ..recipe.loading import parse

    return parse({"data": {"label_map": words}}).data.label_map


def _severities(words: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in words.split(","))
    except ValueError:
        raise InputError("no such severity", expected="numbers from 1 to 5, such as 1,3,5", received=words) from None
