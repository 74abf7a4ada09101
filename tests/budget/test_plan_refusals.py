"""Options that contradict each other and budgets below the smallest plan, each with its whole message."""

from __future__ import annotations

from typing import Any

import pytest

from pennyweight.budget.backbone_config import load_config
from pennyweight.budget.count import AdapterSpec, HeadSpec
from pennyweight.budget.plan import PlanOptions, plan
from pennyweight.errors import BudgetError, RecipeError

ADAPTER = AdapterSpec(r=8, lora_alpha=32, target_modules=("query",))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"strategy": "best"},
            "strategy: unknown value; expected one of manual, uniform, top, graded, attention, all-linear, "
            "auto; received 'best'",
        ),
        ({"budget": 0}, "budget: the value cannot be used; expected a whole number of 1 or more; received 0"),
        (
            {"budget": None},
            "strategy auto and budget none contradict each other: there is no budget to fill; drop one of the two",
        ),
        (
            {"adapter": ADAPTER},
            "strategy auto and a given adapter contradict each other: the strategy chooses the ranks itself; "
            "drop one of the two",
        ),
        (
            {"strategy": "manual", "options": PlanOptions()},
            "strategy manual and planner options contradict each other: the strategy manual uses the adapter settings "
            "as given; drop one of the two",
        ),
        (
            {"options": PlanOptions(min_rank=8, max_rank=4)},
            "min_rank 8 and max_rank 4 contradict each other: no rank is between them; drop one of the two",
        ),
        (
            {"options": PlanOptions(min_rank=0)},
            "min_rank: the value cannot be used; expected a whole number of 1 or more; received 0",
        ),
        (
            {"strategy": "attention", "options": PlanOptions(target_modules=("query",))},
            "strategy attention and target_modules contradict each other: the strategy chooses the modules itself; "
            "drop one of the two",
        ),
        (
            {"strategy": "top", "options": PlanOptions(layers=(1,))},
            "strategy top and layers contradict each other: the strategy chooses the layers itself; "
            "drop one of the two",
        ),
        (
            {"options": PlanOptions(frozen=("query",), forced=("layer.3.attention.self.query",))},
            "frozen_modules and forced_modules contradict each other: both name encoder.layer.3.attention.self.query; "
            "drop one of the two",
        ),
        (
            {"options": PlanOptions(frozen=("all-linear",))},
            "frozen_modules and the modules that may be adapted contradict each other: no modules are left to adapt; "
            "drop one of the two",
        ),
        (
            {"options": PlanOptions(forced=("q_proj",))},
            "forced_modules: the target module matches nothing; expected one of query, key, value, "
            "attention.output.dense, intermediate.dense, output.dense, attention, all-linear; received 'q_proj'",
        ),
    ],
)
def test_options_that_cannot_hold(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        plan(load_config("roberta-base"), **({"labels": 4, "budget": 200_000} | settings))
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"budget": 1_000},
            "the linear head alone trains 3,076 parameters, 2,076 over the budget; expected at most 1,000; "
            "the smallest that works is a budget of 3,076 (linear head, no adapter)",
        ),
        (
            {"budget": 200_000, "head": HeadSpec("full")},
            "the full head alone trains 593,668 parameters, 393,668 over the budget; expected at most 200,000; "
            "what fits: a low_rank head of rank 127 (198,916); a linear head (3,076)",
        ),
        (
            {"budget": 50_000, "strategy": "uniform"},
            "rank 1 everywhere does not fit the budget of 50,000; expected 168,964 or more, the smallest that works; "
            "received 50,000; choose fewer target_modules or layers, or strategy auto, which adapts what fits",
        ),
        (
            {"budget": 10_000, "options": PlanOptions(forced=("query",), min_rank=2)},
            "the forced modules do not fit the budget of 10,000; expected 39,940 or more, the smallest that works at "
            "rank 2; received 10,000",
        ),
    ],
)
def test_a_budget_below_the_smallest_plan(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BudgetError) as error:
        plan(load_config("roberta-base"), **({"labels": 4} | settings))
    assert str(error.value) == message


def test_the_smallest_that_works_does_work() -> None:
    config = load_config("roberta-base")
    assert plan(config, labels=4, budget=3_076).left_over == 0
    assert plan(config, labels=4, budget=168_964, strategy="uniform").left_over == 0
    options = PlanOptions(forced=("query",), min_rank=2)
    assert plan(config, labels=4, budget=39_940, options=options).left_over == 0
