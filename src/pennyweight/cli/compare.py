"""`pennyweight compare`."""

from __future__ import annotations

from pathlib import Path

import typer

from .command_help import short_help
from .flags import JSON
from .output import echo, echo_json


@short_help(examples=("compare runs/a runs/b", "compare runs/* --picture runs.png"))
def compare(
    runs: list[Path] = typer.Argument(..., metavar="RUN RUN...", help="Runs measured on the same test rows."),
    picture: Path = typer.Option(None, "--picture", help="Draw accuracy against parameters into this PNG or SVG."),
    as_json: bool = JSON,
) -> None:
    """Compare runs side by side.

    Shows for each pair of runs which one is better, and by how much.
    """
    from ..evaluate.report.figures import check_picture, save
    from ..evaluate.report.pareto_plot import pareto
    from ..runs.compare import read_run, side_by_side

    if picture is not None:
        check_picture(picture)
    found = side_by_side([read_run(run) for run in runs])
    if picture is not None:
        save(pareto(found.points()), picture)
    echo_json(found.to_json()) if as_json else echo(str(found))
