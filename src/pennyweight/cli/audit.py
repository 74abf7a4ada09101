"""`pennyweight audit`."""

from __future__ import annotations

from pathlib import Path

import typer

from ..errors import InputError
from .command_help import short_help
from .flags import ENCODING, HEADER, INPUT_FORMAT, JSON, LABEL_COLUMN, RECIPE, TEXT_COLUMNS, Format, split_words
from .output import echo, echo_json


@short_help(
    "--test", "--fix", "--suspects", "--out", "--text-columns", "--label-column", "--max-length", "--model", "--json",
    examples=("audit texts.csv --test held-out.csv", "audit texts.csv --fix clean.csv"),
)  # fmt: skip
def audit(
    data: str = typer.Argument(..., help="Texts, labelled or not, in any format that train reads."),
    test: str = typer.Option(None, "--test", help="Test texts, to find those that also occur in DATA."),
    suspects: bool = typer.Option(False, "--suspects", help="Rank the labels by how likely they are wrong."),
    model: Path = typer.Option(None, "--model", metavar="RUN", help="Run to take the backbone and max_length from."),
    recipe: str = RECIPE,
    max_length: str = typer.Option(
        None, "--max-length", metavar="N", help="Maximum tokens per text; the recipe's if not given."
    ),
    backbone: str = typer.Option(None, "--backbone", help="Backbone whose tokens to count; the recipe's if not given."),
    fix: Path = typer.Option(
        None,
        "--fix",
        metavar="OUT",
        help="Write a cleaned copy (.csv, .jsonl, .parquet), and a list of the dropped and changed rows with reasons.",
    ),
    merge_labels: bool = typer.Option(
        False, "--merge-labels", help="With --fix: merge class names that look alike into the most frequent spelling."
    ),
    csv_guard: bool = typer.Option(
        True,
        "--csv-guard/--no-csv-guard",
        help="With --fix to CSV, put an apostrophe before text that a spreadsheet would run as a formula.",
    ),
    out: Path = typer.Option(None, "--out", help="Folder for audit.json, rows.csv, pictures and suspects.csv."),
    text_columns: str = TEXT_COLUMNS,
    label_column: str = LABEL_COLUMN,
    label_delimiter: str = typer.Option(None, "--label-delimiter", help="Separator between the labels in a cell."),
    format: Format = INPUT_FORMAT,
    header: bool = HEADER,
    encoding: str = ENCODING,
    as_json: bool = JSON,
) -> None:
    """Find problems in a data file.

    Looks for duplicates, leaks, conflicting labels, damaged texts, and tags that give the label away.
    """
    from ..artifact.load_artifact import read_input_spec, read_recipe
    from ..audit import audit as auditing
    from ..audit import fix as fixing
    from ..audit.audit_report import table, write
    from ..audit.label_issue_report import report_label_issues
    from ..audit.token_counter import token_counter
    from ..data.file_options import FileOptions
    from ..data.input_spec import InputSpec
    from ..recipe.loading import load

    if fix is not None:
        fixing.check_target(fix, data, test)
    elif merge_labels:
        raise InputError("--merge-labels needs a cleaned copy", remedy="name the copy with --fix OUT")
    settings = {"max_length": max_length, "backbone": backbone}
    resolved = (
        load(recipe, **{key: value for key, value in settings.items() if value is not None})
        if model is None
        else read_recipe(model)
    )
    input_spec = (InputSpec() if model is None else read_input_spec(model)).changed(
        text_columns=split_words(text_columns), label_column=label_column, label_delimiter=label_delimiter
    )
    options = FileOptions(format, encoding, header)
    count_tokens, missing = token_counter(resolved)
    found = auditing.audit(
        data,
        test,
        input_spec=input_spec,
        count_tokens=count_tokens,
        max_length=resolved.data.max_length or 128,  # auto is what training decides
        options=options,
    )
    found.left_out[:] = [
        f"lengths in tokens: {missing}" if "no tokenizer" in words else words for words in found.left_out
    ]
    figures, lines = found.to_json(), [table(found)]
    issues = None
    if suspects:
        blocks, _ = auditing.open_source(data, input_spec, "train", options)
        issues = report_label_issues(found, data, blocks, resolved)
        figures["suspects"] = issues.to_json()
        lines.append(str(issues))
    if out is not None:
        write(found, out, figures)
        if issues is not None:
            issues.write(out / "suspects.csv")
        lines.append(f"written: {out}")
    if fix is not None:
        fixed = fixing.fix(found, data, fix, input_spec, options, merge_labels=merge_labels, csv_guard=csv_guard)
        figures["fixed"] = {"file": str(fix), "kept": fixed.kept, "changed": fixed.changed, "dropped": fixed.dropped}
        lines.append(f"{fix}: {fixed}\ndropped and changed rows, with reasons: {fixing.dropped_name(fix)}")
    echo_json(figures) if as_json else echo("\n".join(lines))
