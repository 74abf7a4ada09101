"""Verbs that answer with a text: each returns what `cli` prints."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import typer

from ..errors import InputError
from ..train.observer import forward_log
from .flags import (  # fmt: skip
    ADAPTER_SCALE,
    BACKBONE,
    DEVICE,
    ENCODING,
    HEADER,
    ID_COLUMN,
    INPUT_FORMAT,
    JSON,
    LABEL_COLUMN,
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
    Markup,
    Precision,
    recipe_flags,
)


def evaluate(
    model: Path = MODEL,
    data: str = typer.Argument(..., help="Labelled texts."),
    text_columns: str = TEXT_COLUMNS,
    label_column: str = LABEL_COLUMN,
    label_columns: str = typer.Option(None, "--label-columns", metavar="A,B,...", help="One 0/1 column a label."),
    label_delimiter: str = typer.Option(None, "--label-delimiter", help="What stands between labels in a cell."),
    allow_unlabelled: bool = typer.Option(False, "--allow-unlabelled", help="Take rows without any label as such."),
    separator: str = SEPARATOR,
    markup: Markup = MARKUP,
    label_map: str = typer.Option(
        None, "--label-map", metavar="LABEL=NAME,...", help="What labels in DATA are called, such as 0=World,1=Sports."
    ),
    unknown_labels: Literal["error", "drop", "wrong"] = typer.Option(
        "error", "--unknown-labels", help="Rows with a label that training lacked: refuse, leave out, count as wrong."
    ),
    split: str = SPLIT,
    format: Format = INPUT_FORMAT,
    header: bool = HEADER,
    encoding: str = ENCODING,
    slices: str = typer.Option(None, "--slice", metavar="A,B,...", help="Columns whose values to measure apart."),
    report: Path = typer.Option(None, "--report", help="Write a report of these texts to this HTML file."),
    adapter_scale: float = ADAPTER_SCALE,
    prior: str = PRIOR,
    shift: bool = typer.Option(False, "--shift", help="Measure on corrupted texts too."),
    severity: str = typer.Option(
        None, "--severity", metavar="N,N,...", help="With --shift: how badly, 1 to 5. [default: 1,3,5]"
    ),
    rows: int = typer.Option(1000, "--rows", min=1, help="With --shift: corrupt a seeded sample of so many texts."),
    ood: str = typer.Option(None, "--ood", help="Labelled texts of another kind, reported beside these."),
    backbone: str = BACKBONE,
    device: Device = DEVICE,
    precision: Precision = PRECISION,
    as_json: bool = JSON,
    *,
    say: Callable[[str], None],
) -> str:
    """Measure a saved classifier on labelled texts."""
    from ..data.file_options import FileOptions
    from ..predict.predictor import load
    from ..runs.saved_evaluation import evaluate_saved, read_evaluation_data

    if severity is not None and not shift:
        raise InputError("--severity says how badly texts are corrupted", remedy="add --shift, or leave it out")
    if report is not None and report.suffix.lower() not in (".html", ".htm"):
        raise InputError("a report is a page", where=report, expected="a name ending in .html", received=report.name)
    classifier = load(model, backbone=backbone, device=device, precision=precision, adapter_scale=adapter_scale)
    input_spec = classifier.input_spec.changed(
        text_columns=_listed(text_columns),
        label_column=label_column,
        label_columns=_listed(label_columns),
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
        say(f"{data}: {found.cleaning}")
    if prior is not None:
        classifier = classifier.with_prior(prior, found.texts)
    evaluated = evaluate_saved(
        classifier,
        found,
        slice_columns=_listed(slices),
        severities=_severities(severity or "1,3,5") if shift else (),
        rows=rows,
    )
    if report is not None:
        evaluated.write_report(report)
    return _json(evaluated.to_json()) if as_json else str(evaluated)


def compare(
    runs: list[Path] = typer.Argument(..., metavar="RUN RUN...", help="Runs measured on the same test rows."),
    picture: Path = typer.Option(None, "--picture", help="Draw accuracy against parameters into this PNG or SVG."),
    as_json: bool = JSON,
) -> str:
    """Set runs side by side.

    Says of each pair which is better and by how much.
    """
    from ..evaluate.report.figures import check_picture, save
    from ..evaluate.report.pareto_plot import pareto
    from ..runs.compare import read_run, side_by_side

    if picture is not None:
        check_picture(picture)
    found = side_by_side([read_run(run) for run in runs])
    if picture is not None:
        save(pareto(found.points()), picture)
    return _json(found.to_json()) if as_json else str(found)


def explain(
    model: Path = MODEL,
    text: str = typer.Argument(..., help="The text."),
    label: str = typer.Option(None, "--label", help="The label to weigh words for; the predicted one if not given."),
    backbone: str = BACKBONE,
    device: Device = DEVICE,
    precision: Precision = PRECISION,
    as_json: bool = JSON,
) -> str:
    """Show which words speak for and against a label."""
    from dataclasses import asdict

    from ..predict.explanation import explain as weigh
    from ..predict.predictor import load

    found = weigh(load(model, backbone=backbone, device=device, precision=precision), text, label)
    return _json(asdict(found)) if as_json else str(found)


def leaderboard(
    submission: Path = typer.Argument(..., help="ID,Label as `predict --submission` writes it."),
    test: str = typer.Argument(..., help="The test file whose ids it must hold."),
    labels: int = typer.Option(..., "--labels", min=2, help="Number of classes."),
    text_columns: str = TEXT_COLUMNS,
    id_column: str = ID_COLUMN,
) -> str:
    """Check a submission before it leaves.

    Every id once, every label in range.
    """
    from ..data.input_spec import InputSpec
    from ..data.sources import read
    from ..predict.submission import check_submission, read_ids

    names = _listed(text_columns)
    input_spec = InputSpec(text_columns=None if names is None else tuple(names))
    table = read(test, input_spec, labelled=False, allow_null=True)
    return str(check_submission(submission, read_ids(table, id_column), labels))


def export(
    model: Path = MODEL,
    out: Path = typer.Argument(None, help="Folder to write."),
    form: Literal["peft", "merged"] = typer.Option(
        "peft", "--format", help="peft: an adapter for stock transformers and PEFT; merged: one whole model."
    ),
    backbone: str = BACKBONE,
    push: str = typer.Option(None, "--push", metavar="OWNER/NAME", help="A hub repository for the classifier itself."),
    send: bool = typer.Option(False, "--send", help="With --push: really send; else only list what would be sent."),
    public: bool = typer.Option(False, "--public", help="With --push: make a new repository public."),
    with_report: bool = typer.Option(
        False, "--with-report", help="With --push: report.html too; it quotes test texts."
    ),
) -> str:
    """Write a classifier for other tools to load.

    Or push it to the hub: --push OWNER/NAME.
    """
    if (out is None) == (push is None):
        raise InputError("say where to", expected="a folder to write, or --push OWNER/NAME")
    if push is not None:
        from ..export.hub import push as parcel

        return str(parcel(model, push, send=send, private=not public, report=with_report))
    from ..export.merged import to_merged
    from ..export.peft import to_peft
    from ..predict.predictor import load

    classifier = load(model, backbone=backbone, device="cpu", precision="fp32")
    write = to_peft if form == "peft" else to_merged
    gap = write(classifier.artifact, out)
    return f"{out}: logits differ from Pennyweight's by at most {gap:.1e} in fp32"


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
    say: Callable[[str], None],
    settings: dict[str, Any],
) -> str:
    """Try plans and settings within a budget.

    Several budgets (10k,50k) are searched one by one. Strategy, head, learning rate, epochs, pooling, LoRA dropout and
    label smoothing are tried; a flag fixes one of them, or narrows it (--epochs 2,4). Only validation texts are looked
    at. Writes trials.json, table.csv, pareto.png and best.yaml, a recipe for train.
    """
    from ..search.search import search as look

    if data is not None and "train" in settings:
        raise InputError("training data named twice", received=f"{data} and --train {settings['train']}")
    folder = out or Path("runs") / f"search-{time.strftime('%Y%m%d-%H%M%S')}"
    with forward_log(say, "pennyweight.search"):  # of the trials themselves nothing is told
        found = look(data, out=folder, trials=trials, recipe=recipe, **settings)
    return _json(found.to_json()) if as_json else f"\n{found}\n\nbest:   {folder / 'best.yaml'}"


def recipes(name: str = typer.Argument(None, help="Print this recipe, resolved.")) -> str:
    """List the shipped recipes, or print one as YAML."""
    from ..recipe.loading import load, shipped

    return "\n".join(shipped()) if name is None else load(name).to_yaml().removesuffix("\n")


def audit(
    data: str = typer.Argument(..., help="Texts, labelled or not: any file form train reads."),
    test: str = typer.Option(None, "--test", help="Test texts: what of them stands in DATA too?"),
    suspects: bool = typer.Option(False, "--suspects", help="Rank the labels by how likely they are wrong."),
    model: Path = typer.Option(None, "--model", metavar="RUN", help="Take backbone and max_length from this run."),
    recipe: str = RECIPE,
    max_length: str = typer.Option(None, "--max-length", metavar="N", help="Instead of the recipe's own."),
    named: str = typer.Option(None, "--backbone", help="Whose tokens to count; the recipe's if not given."),
    fix: Path = typer.Option(
        None, "--fix", metavar="OUT", help="Write a cleaned copy (.csv, .jsonl, .parquet), and what went and why."
    ),
    merge_labels: bool = typer.Option(
        False, "--merge-labels", help="With --fix: class names that look alike become one, as most rows spell it."
    ),
    csv_guard: bool = typer.Option(
        True,
        "--csv-guard/--no-csv-guard",
        help="With --fix to CSV: put an apostrophe before texts that a spreadsheet would run as a formula.",
    ),
    out: Path = typer.Option(None, "--out", help="Folder for audit.json, rows.csv, pictures and suspects.csv."),
    text_columns: str = TEXT_COLUMNS,
    label_column: str = LABEL_COLUMN,
    label_delimiter: str = typer.Option(None, "--label-delimiter", help="What stands between labels in a cell."),
    format: Format = INPUT_FORMAT,
    header: bool = HEADER,
    encoding: str = ENCODING,
    as_json: bool = JSON,
) -> str:
    """Say what is wrong with a data file.

    Duplicates, leaks, conflicting labels, damage, tags that give the label away.
    """
    from ..data.file_options import FileOptions
    from ..data.input_spec import InputSpec
    from .audit_command import run

    settings = {"max_length": max_length, "backbone": named}
    return run(
        data,
        test,
        input_spec=InputSpec().changed(
            text_columns=_listed(text_columns), label_column=label_column, label_delimiter=label_delimiter
        ),
        recipe=recipe,
        model=model,
        settings={key: value for key, value in settings.items() if value is not None},
        wanted=suspects,
        fix=fix,
        merge_labels=merge_labels,
        csv_guard=csv_guard,
        out=out,
        as_json=as_json,
        options=FileOptions(format, encoding, header),
    )


VERBS = (search, audit, recipes, evaluate, compare, explain, leaderboard, export)
# Verbs with a flag for every field of the recipe, which their help groups by section.
GROUPED = (search,)


def _listed(words: str | None) -> list[str] | None:
    return [word.strip() for word in words.split(",") if word.strip()] if words else None


def _label_map(words: str | None) -> dict[str, str] | None:
    if words is None:
        return None
    from ..recipe.loading import parse

    return parse({"data": {"label_map": words}}).data.label_map


def _severities(words: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in words.split(","))
    except ValueError:
        raise InputError("no such severity", expected="numbers of 1 to 5, such as 1,3,5", received=words) from None


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
