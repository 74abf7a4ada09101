"""`pennyweight leaderboard`."""

from __future__ import annotations

from pathlib import Path

import typer

from .command_help import short_help
from .flags import ID_COLUMN, TEXT_COLUMNS, split_words
from .output import echo


@short_help(examples=("leaderboard submission.csv test.csv --labels 4",))
def leaderboard(
    submission: Path = typer.Argument(..., help="CSV file of ID,Label, as written by `predict --submission`."),
    test: str = typer.Argument(..., help="The test file whose ids the submission must have."),
    labels: int = typer.Option(..., "--labels", min=2, help="Number of classes."),
    text_columns: str = TEXT_COLUMNS,
    id_column: str = ID_COLUMN,
) -> None:
    """Check a submission before you send it.

    Checks that every id occurs once and every label is in range.
    """
    from ..data.input_spec import InputSpec
    from ..data.sources import read
    from ..predict.submission import check_submission, read_ids

    names = split_words(text_columns)
    input_spec = InputSpec(text_columns=None if names is None else tuple(names))
    table = read(test, input_spec, labelled=False, allow_null=True)
    echo(str(check_submission(submission, read_ids(table, id_column), labels)))
