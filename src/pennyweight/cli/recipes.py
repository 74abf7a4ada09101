"""`pennyweight recipes`."""

from __future__ import annotations

import typer

from .output import echo


def recipes(name: str = typer.Argument(None, help="Print this recipe, resolved.")) -> None:
    """List the shipped recipes, or print one as YAML."""
    from ..recipe.loading import load, shipped

    echo("\n".join(shipped()) if name is None else load(name).to_yaml().removesuffix("\n"))
