"""From a recipe and the facts of a backbone to a plan, and from a plan to the recipe that repeats it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..budget.architecture import describe
from ..budget.plan import Plan, PlanOptions, parse_budget
from ..budget.plan import plan as make_plan
from ..budget.specs import AdapterSpec, HeadSpec, xs_alpha
from ..errors import RecipeError
from .loading import parse
from .schema import BY_STRATEGY, Recipe


def plan_for(recipe: Recipe, config: dict[str, Any], labels: int) -> Plan:
    """Spend the recipe's budget on one backbone and number of labels.

    `manual` takes rank, alpha, modules and layers from the recipe; the other strategies choose them. With the head
    `auto` the strategy chooses the head too; `manual` and `head-only` then take the linear one.
    """
    wanted = recipe.plan
    head = None if wanted.head == "auto" else HeadSpec(wanted.head, wanted.head_rank)
    budget = parse_budget(wanted.budget)
    shared = wanted.adapter_settings()
    if wanted.strategy == "head-only":
        return make_plan(config, labels=labels, budget=budget, strategy="manual", adapter=None, head=head)
    if wanted.strategy != "manual":
        options = PlanOptions(
            min_rank=wanted.min_rank or 1,
            max_rank=wanted.max_rank,
            frozen=tuple(wanted.frozen_modules or ()),
            forced=tuple(wanted.forced_modules or ()),
            **asdict(shared),
        )
        return make_plan(config, labels=labels, budget=budget, strategy=wanted.strategy, head=head, options=options)
    layers = wanted.layers
    if isinstance(layers, str):
        depth, upper = describe(config).layers, int(layers.removeprefix("top:"))
        if upper > depth:
            raise RecipeError(
                "the backbone has fewer layers",
                where="plan -> layers",
                expected=f"top:{depth} at most",
                received=layers,
            )
        layers = list(range(depth - upper, depth))
    alpha, alphas = wanted.lora_alpha, wanted.alpha_pattern
    if wanted.adapter == "lora-xs":
        alpha, alphas = xs_alpha(wanted.r), {key: xs_alpha(rank) for key, rank in wanted.rank_pattern.items()}
    adapter = AdapterSpec(
        r=wanted.r,
        lora_alpha=alpha,
        target_modules=tuple(wanted.target_modules),
        layers=None if layers is None else tuple(layers),
        rank_pattern=wanted.rank_pattern,
        alpha_pattern=alphas,
        **asdict(shared) | ({"adapter": "lora"} if wanted.adapter == "auto" else {}),
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
