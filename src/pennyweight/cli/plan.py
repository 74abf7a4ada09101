"""`pennyweight plan`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from ..errors import InputError
from .command_help import short_help
from .flags import JSON, RECIPE, recipe_flags
from .output import echo, echo_json


@short_help(
    "--backbone", "--budget", "--labels", "--recipe", "--strategy", "--r", "--lora-alpha", "--target-modules",
    "--layers", "--bias", "--head", "--texts", "--tokens", "--plot", "--yaml", "--json",
    examples=("plan --backbone roberta-base --budget 1M --labels 4", "plan --budget 50k --plot plan.svg"),
)  # fmt: skip
@recipe_flags("model", "plan")
def plan(
    recipe: str = RECIPE,
    labels: int = typer.Option(2, "--labels", min=2, help="Number of classes."),
    as_json: bool = JSON,
    as_yaml: bool = typer.Option(False, "--yaml", help="Print the plan as a recipe for train."),
    texts: int = typer.Option(10_000, "--texts", min=1, help="Number of training texts for the estimate."),
    tokens: int = typer.Option(50, "--tokens", min=1, help="Mean tokens per text for the estimate."),
    plot: Path = typer.Option(None, "--plot", help="Draw the ranks by layer and module to this PNG or SVG."),
    *,
    settings: dict[str, Any],
) -> None:
    """Show what a recipe would train, and its cost.

    Reads only the backbone's config: needs no weights, and no network for well-known checkpoints.
    """
    from ..budget.plan_table import render
    from ..evaluate.report.figures import check_picture, save
    from ..evaluate.report.plan_plot import picture
    from ..model.backbone import config_of
    from ..recipe import planning
    from ..recipe.loading import resolve_recipe
    from ..train.machine_speed import estimate_training

    if as_json and as_yaml:
        raise InputError("--json and --yaml contradict each other", remedy="leave out one of the two")
    if plot is not None:
        check_picture(plot)
    resolved = resolve_recipe(recipe, settings)
    config = config_of(resolved.model.backbone, resolved.model.revision)
    planned = planning.plan_for(resolved, config, labels)
    cost = estimate_training(resolved, config, planned, texts=texts, tokens=tokens)
    if plot is not None:
        save(picture(planned, config), plot)
    if as_json:
        echo_json(planned.to_json() | {"estimate": asdict(cost)})
    elif as_yaml:
        typer.echo(planning.pin_plan(resolved, planned).to_yaml(), nl=False)
    else:
        echo(f"{render(planned)}\nestimate: {cost}")
