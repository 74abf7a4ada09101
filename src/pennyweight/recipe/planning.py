"""From a recipe to a plan: which backbone, how many labels, what the budget buys."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..budget.architecture import describe
from ..budget.backbone_config import load_config
from ..budget.plan import Plan, PlanOptions, parse_budget
from ..budget.plan import plan as make_plan
from ..budget.specs import AdapterSpec, HeadSpec
from ..errors import BackboneError, RecipeError
from .loading import BY_STRATEGY, Recipe, parse, resolve_recipe


def plan(recipe: str | Path | Recipe = "default", *, labels: int = 2, **settings: Any) -> Plan:
    """What a recipe would train, counted from the backbone's config alone: no weights, no data.

    Args:
        labels: number of classes.
        **settings: any field of the recipe by its key.

    Raises:
        BudgetError: when it does not fit the budget.
    """
    settled = resolve_recipe(recipe, settings)
    return plan_for(settled, describe_backbone(settled), labels)


def describe_backbone(recipe: Recipe) -> dict[str, Any]:
    """The backbone's config: from the facts that ship with the package, a local folder, or the hub."""
    try:
        return load_config(recipe.model.backbone)
    except BackboneError:
        from ..model.backbone import resolve

        return resolve(recipe.model.backbone, recipe.model.revision).config


def plan_for(recipe: Recipe, config: dict[str, Any], labels: int) -> Plan:
    """Spend the recipe's budget on one backbone and number of labels.

    `manual` takes rank, alpha, modules and layers from the recipe; the other strategies choose them. With the head
    `auto` the strategy chooses the head too; `manual` and `head-only` then take the linear one.
    """
    wanted = recipe.plan
    head = None if wanted.head == "auto" else HeadSpec(wanted.head, wanted.head_rank)
    budget = parse_budget(wanted.budget)
    shared: dict[str, Any] = {
        "lora_dropout": wanted.lora_dropout,
        "bias": wanted.bias,
        "use_rslora": wanted.use_rslora,
        "use_dora": wanted.use_dora,
        "scaling": wanted.scaling,
        "adaptive_ranks": wanted.adaptive_ranks,
    }
    if wanted.strategy == "head-only":
        return make_plan(config, labels=labels, budget=budget, strategy="manual", adapter=None, head=head)
    if wanted.strategy != "manual":
        options = PlanOptions(
            min_rank=wanted.min_rank or 1,
            max_rank=wanted.max_rank,
            frozen=tuple(wanted.frozen_modules or ()),
            forced=tuple(wanted.forced_modules or ()),
            **shared,
        )
        return make_plan(config, labels=labels, budget=budget, strategy=wanted.strategy, head=head, options=options)
    layers = wanted.layers
    if isinstance(layers, str):
        depth, upper = describe(config).layers, int(layers.removeprefix("top:"))
        if upper > depth:
            raise RecipeError(
                "there are not so many layers", where="plan -> layers", expected=f"top:{depth} at most", received=layers
            )
        layers = list(range(depth - upper, depth))
    adapter = AdapterSpec(
        r=wanted.r,
        lora_alpha=wanted.lora_alpha,
        target_modules=tuple(wanted.target_modules),
        layers=None if layers is None else tuple(layers),
        rank_pattern=wanted.rank_pattern,
        alpha_pattern=wanted.alpha_pattern,
        **shared,
    )
    return make_plan(config, labels=labels, budget=budget, strategy="manual", adapter=adapter, head=head)


def pin_plan(recipe: Recipe, made: Plan) -> Recipe:
    """The recipe that trains exactly this plan: the adapter spelled out, strategy manual."""
    values = recipe.model_dump()
    values["plan"] |= {"strategy": "head-only", "head": made.head.kind, "head_rank": made.head.rank}
    values["plan"] |= dict.fromkeys(BY_STRATEGY)  # the ranks are fixed now
    if made.adapter is not None:
        values["plan"] |= asdict(made.adapter) | {
            "strategy": "manual",
            "target_modules": list(made.adapter.target_modules),
            "layers": None if made.adapter.layers is None else list(made.adapter.layers),
        }
    return parse(values)
