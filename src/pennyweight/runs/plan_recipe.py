"""What a recipe would train, without data: the public `plan`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from ..budget.plan import Plan
from ..model.backbone import config_of
from ..recipe.loading import resolve_recipe
from ..recipe.planning import plan_for
from ..recipe.schema import Recipe

if TYPE_CHECKING:
    from ..recipe.settings import RecipeSettings


def plan(recipe: str | Path | Recipe = "default", *, labels: int = 2, **settings: Unpack[RecipeSettings]) -> Plan:
    """What a recipe would train, counted from the backbone's config alone: no weights, no data.

    Args:
        recipe: a shipped name, a YAML file or a `Recipe`.
        labels: number of classes.
        **settings: any field of the recipe by its key.

    Raises:
        BudgetError: it does not fit the budget.
    """
    resolved = resolve_recipe(recipe, settings)
    return plan_for(resolved, config_of(resolved.model.backbone, resolved.model.revision), labels)
