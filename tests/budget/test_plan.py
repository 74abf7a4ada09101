from __future__ import annotations

import json
from typing import Any

import pytest

from pennyweight.budget.backbone_config import load_config
from pennyweight.budget.count import AdapterSpec, HeadSpec
from pennyweight.budget.plan import Plan, PlanOptions, parse_budget, plan
from pennyweight.budget.strategies import STRATEGIES
from pennyweight.budget.targets import ranks, scales
from pennyweight.errors import RecipeError

BACKBONES = [
    "roberta-base",
    "roberta-large",
    "bert-base-uncased",
    "distilroberta-base",
    "xlm-roberta-base",
    "deberta-v3-base",
    "ModernBERT-base",
    "all-MiniLM-L6-v2",
]
BUDGETS = [10_000, 50_000, 200_000, 1_000_000, 5_000_000]


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("1M", 1_000_000),
        ("500k", 500_000),
        ("998404", 998_404),
        ("998,404", 998_404),
        ("998_404", 998_404),
        (" 1.5 m ", 1_500_000),
        ("2B", 2_000_000_000),
        (200_000, 200_000),
        ("none", None),
        ("None", None),
        (None, None),
    ],
)
def test_budgets_read_as_people_write_them(text: Any, budget: int | None) -> None:
    assert parse_budget(text) == budget


@pytest.mark.parametrize("text", ["", "0", "-5", "1.5", "0.0001k", "1,5M", "a lot", "1e6", "1MB", -1, 0, True])
def test_a_budget_that_cannot_be_read(text: Any) -> None:
    with pytest.raises(RecipeError) as error:
        parse_budget(text)
    assert str(error.value) == (
        "budget: the budget cannot be read; expected a number of parameters such as 1M, 500k or 998404, or none; "
        f"received {text!r}"
    )


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("name", BACKBONES)
def test_auto_uses_nearly_all_of_the_budget_or_says_why_not(name: str, budget: int) -> None:
    planned = plan(load_config(name), labels=4, budget=budget)
    assert planned.count.trainable <= budget
    if planned.count.trainable < 0.97 * budget:
        assert (name, budget) == ("roberta-large", 10_000)
        assert planned.why[-1] == "left over: 780; the cheapest further rank costs 2,048"


@pytest.mark.parametrize("strategy", [*STRATEGIES, "auto"])
@pytest.mark.parametrize("name", BACKBONES)
def test_plans_are_within_budget_and_readable(name: str, strategy: str) -> None:
    config = load_config(name)
    planned = plan(config, labels=4, budget=1_000_000, strategy=strategy)
    assert planned.adapter is not None
    assert 0 <= planned.left_over <= 1_000_000  # type: ignore[operator]
    assert len(set(ranks(config, planned.adapter).values())) <= 3
    assert len(planned.adapter.rank_pattern) <= 4
    assert planned.why[0].startswith(f"{strategy}: ")


def by_layer(name: str, planned: Plan) -> dict[int, set[int]]:
    assert planned.adapter is not None
    found: dict[int, set[int]] = {}
    for module, rank in ranks(load_config(name), planned.adapter).items():
        found.setdefault(int(module.split(".")[2]), set()).add(rank)
    return found


def test_uniform_is_the_known_truth() -> None:
    planned = plan(load_config("roberta-base"), labels=4, budget=1_000_000, strategy="uniform")
    assert planned.count.trainable == 998_404
    assert by_layer("roberta-base", planned) == {layer: {6} for layer in range(12)}
    assert planned.why == (
        "uniform: one rank everywhere",
        "ranks: 6 on 72 matrices",
        "head: linear, 3,076 parameters; the architecture's own would be 593,668",
        "alpha: 2 r, so that a matrix is scaled by 2 whatever its rank; 8 / r below rank 4",
        "left over: 1,596; one more rank everywhere costs 165,888",
    )


def test_all_linear_spends_the_remainder_in_the_upper_layers() -> None:
    planned = plan(load_config("roberta-base"), labels=4, budget=1_050_000, strategy="all-linear")
    attention = r"attention\.self\.query|attention\.self\.key|attention\.self\.value|attention\.output\.dense"
    patterns = (r"encoder\.layer\.(9|10|11)\..+", rf"encoder\.layer\.8\.({attention}|output\.dense)")
    assert planned.adapter == AdapterSpec(
        r=6,
        lora_alpha=12.0,
        target_modules=("query", "key", "value", "intermediate.dense", "output.dense"),
        rank_pattern=dict.fromkeys(patterns, 7),
        alpha_pattern=dict.fromkeys(patterns, 14.0),
    )
    layers = by_layer("roberta-base", planned)
    assert [layers[layer] for layer in (9, 10, 11)] == [{7}] * 3
    assert layers[8] == {6, 7}
    assert [layers[layer] for layer in range(8)] == [{6}] * 8


def test_top_is_the_upper_half() -> None:
    planned = plan(load_config("roberta-base"), labels=4, budget=1_000_000, strategy="top")
    assert planned.adapter is not None
    assert planned.adapter.layers == (6, 7, 8, 9, 10, 11)
    assert planned.adapter.r == 12


def test_graded_rises_with_depth() -> None:
    layers = by_layer("roberta-base", plan(load_config("roberta-base"), labels=4, budget=1_200_000, strategy="graded"))
    assert sorted({rank for found in layers.values() for rank in found}) == [3, 6, 9]
    lowest = [min(layers[layer]) for layer in range(12)]
    assert lowest == sorted(lowest)


def test_attention_leaves_the_feed_forward_alone() -> None:
    planned = plan(load_config("distilbert-base-uncased"), labels=4, budget=200_000, strategy="attention")
    assert planned.adapter is not None
    assert planned.adapter.target_modules == ("q_lin", "k_lin", "v_lin", "out_lin")


def test_alpha_keeps_every_scale_the_same() -> None:
    config = load_config("roberta-base")
    for options, scale in (
        (PlanOptions(), 2.0),
        (PlanOptions(alpha=0.5, least_alpha=0.0), 0.5),
        (PlanOptions(alpha=3.0, scaling="alpha"), 3.0),
    ):
        planned = plan(config, labels=4, budget=2_500_000, strategy="graded", options=options)
        assert planned.adapter is not None
        assert set(scales(config, planned.adapter).values()) == {scale}
    rank_stabilised = plan(config, labels=4, budget=1_050_000, strategy="graded", options=PlanOptions(use_rslora=True))
    assert rank_stabilised.adapter is not None
    assert rank_stabilised.adapter.lora_alpha == 16.0
    assert rank_stabilised.adapter.alpha_pattern == {}


def test_the_smallest_ranks_are_scaled_by_more() -> None:
    config = load_config("roberta-base")
    planned = plan(config, labels=4, budget=420_000, strategy="all-linear")
    assert planned.adapter is not None
    ranks = {rank for layer in by_layer("roberta-base", planned).values() for rank in layer}
    assert ranks == {2, 3}
    assert {round(scale, 6) for scale in scales(config, planned.adapter).values()} == {round(8 / 2, 6), round(8 / 3, 6)}
    assert planned.adapter.alpha_pattern == {}  # one alpha for both


def test_a_budget_too_small_for_any_rank_buys_the_head() -> None:
    planned = plan(load_config("roberta-base"), labels=4, budget=4_000)
    assert planned.adapter is None
    assert planned.count.trainable == 3_076
    assert planned.why[1] == "ranks: none, because the cheapest matrix costs 1,536 at rank 1 and 924 is left"


def test_less_than_a_layer_buys_single_matrices_of_the_last() -> None:
    planned = plan(load_config("roberta-base"), labels=4, budget=10_000)
    assert planned.adapter is not None
    assert planned.adapter.target_modules == (
        "encoder.layer.11.attention.self.query",
        "encoder.layer.11.attention.self.value",
        "encoder.layer.11.output.dense",
    )
    assert planned.count.trainable == 3_076 + 2 * 1_536 + 3_840


def test_the_head_is_bought_from_the_same_budget() -> None:
    config = load_config("roberta-base")
    full = plan(config, labels=4, budget=1_000_000, head=HeadSpec("full"))
    assert full.adapter is not None
    assert full.adapter.r == 2
    assert full.count.trainable <= 1_000_000


def test_ranks_stop_at_full_rank() -> None:
    planned = plan(load_config("embedded"), labels=4, budget=50_000_000)
    assert planned.adapter is not None
    assert planned.adapter.r == 384
    assert planned.why[-1].endswith("; rank 384 is the full rank of the smallest matrix")


def test_the_highest_rank_allowed_is_kept() -> None:
    planned = plan(load_config("roberta-base"), labels=4, budget=5_000_000, options=PlanOptions(max_rank=4))
    assert planned.adapter is not None
    assert planned.adapter.r == 4
    assert planned.adapter.rank_pattern == {}
    assert planned.why[-1] == "left over: 4,333,372; rank 4 is the highest allowed"


def test_a_smallest_rank_means_fewer_layers() -> None:
    planned = plan(load_config("roberta-base"), labels=4, budget=400_000, options=PlanOptions(min_rank=8))
    assert planned.adapter is not None
    assert planned.adapter.layers == (9, 10, 11)
    assert min(ranks(load_config("roberta-base"), planned.adapter).values()) >= 8
    assert planned.why[2] == ("reach: 18 of 72 matrices, on layers 9-11; rank 8 on all of them would cost 1,327,104")


def test_frozen_modules_stay_and_forced_ones_come() -> None:
    config = load_config("roberta-base")
    options = PlanOptions(frozen=("output.dense", "intermediate.dense"), forced=("query",), min_rank=4)
    planned = plan(config, labels=4, budget=120_000, options=options)
    assert planned.adapter is not None
    adapted = ranks(config, planned.adapter)
    assert sum(name.endswith(".query") for name in adapted) == 12
    assert not any("dense" in name for name in adapted)


def test_what_is_on_offer_can_be_narrowed() -> None:
    config = load_config("roberta-base")
    options = PlanOptions(target_modules=("query", "value"), layers=(4, 5))
    planned = plan(config, labels=4, budget=50_000, options=options)
    assert planned.adapter is not None
    assert (planned.adapter.target_modules, planned.adapter.layers) == (("query", "value"), (4, 5))


@pytest.mark.parametrize("bias", ["lora_only", "all"])
def test_biases_and_magnitudes_are_paid_for(bias: Any) -> None:
    options = PlanOptions(bias=bias, use_dora=True, lora_dropout=0.1)
    planned = plan(load_config("roberta-base"), labels=4, budget=1_000_000, options=options)
    assert planned.adapter is not None
    assert (planned.adapter.bias, planned.adapter.use_dora, planned.adapter.lora_dropout) == (bias, True, 0.1)
    assert 0.97 * 1_000_000 < planned.count.trainable <= 1_000_000


def test_manual_takes_the_setting_as_it_is() -> None:
    adapter = AdapterSpec(r=8, lora_alpha=32, target_modules=("query",))
    planned = plan(load_config("roberta-base"), labels=4, budget=None, strategy="manual", adapter=adapter)
    assert planned.adapter is adapter
    assert (planned.budget, planned.left_over, planned.strategy) == (None, None, "manual")


def test_json_there_and_back() -> None:
    config = load_config("roberta-base")
    for planned in (
        plan(config, labels=4, budget=1_000_000, strategy="graded"),
        plan(config, labels=4, budget=50_000, options=PlanOptions(use_dora=True, bias="lora_only")),
        plan(config, labels=4, budget=None, strategy="manual", head=HeadSpec("full")),
    ):
        value = json.loads(json.dumps(planned.to_json()))
        assert Plan.from_json(value) == planned
        assert value["trainable"] == planned.count.trainable
        assert value["total"] == planned.count.total


def test_a_plan_that_cannot_be_read() -> None:
    value = plan(load_config("embedded"), labels=4, budget=200_000).to_json()
    with pytest.raises(RecipeError) as error:
        Plan.from_json({name: part for name, part in value.items() if name != "head"})
    assert str(error.value) == "plan: the plan cannot be read ('head')"
    with pytest.raises(RecipeError) as error:
        Plan.from_json(value | {"trainable": 5})
    assert str(error.value) == "plan: the plan's parts do not add up; expected 5; received 199684"


def test_a_head_of_many_classes_has_its_price_named() -> None:
    config = load_config("roberta-base")
    why = plan(config, labels=77, budget=100_000).why
    assert (
        "head price: 59% of the budget, 769 for each of 77 classes in the output layer, which leaves 40,787 for the "
        "adapter; no head is smaller"
    ) in why
    why = plan(config, labels=77, budget=100_000, head=HeadSpec("low_rank", 8)).why
    assert any(line.endswith("; a linear head would cost 59,213") for line in why)
    assert not any("head price" in line for line in plan(config, labels=77, budget=200_000).why)


def test_a_limit_above_a_matrix_is_none_for_lora_xs() -> None:
    config = load_config("roberta-base")
    free, limited = (
        plan(config, labels=4, budget=100_000_000, options=PlanOptions(adapter="lora-xs", max_rank=limit))
        for limit in (None, 900)
    )
    assert free.adapter is not None
    assert free.adapter == limited.adapter
