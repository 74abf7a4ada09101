"""`pennyweight recipes`."""

from __future__ import annotations

import typer

from .command_help import short_help
from .output import echo


@short_help(examples=("recipes", "recipes default > mine.yaml"))
def recipes(name: str = typer.Argument(None, help="Print this recipe, resolved.")) -> None:
    """List the shipped recipes, or print one as YAML."""
    from ..recipe.loading import describe, load, shipped

    if name is not None:
        echo(load(name).to_yaml().removesuffix("\n"), wrap=False)
        return
    width = max(map(len, shipped()))
    echo("\n".join(f"{each:<{width}}  {describe(each)}" for each in shipped()))
