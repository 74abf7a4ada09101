"""An over-budget setting is refused with its number, the excess, what spends it and settings that really fit."""

from __future__ import annotations

from typing import Any

import pytest

from pennyweight.budget.backbone_config import load_config
from pennyweight.budget.count import AdapterSpec, HeadSpec, count
from pennyweight.budget.plan import plan
from pennyweight.errors import BudgetError

FULL, LINEAR = HeadSpec("full"), HeadSpec("linear")
ALL_LINEAR = ("query", "key", "value", "output.dense", "intermediate.dense")


def lora(r: int, *targets: str, **settings: Any) -> AdapterSpec:
    return AdapterSpec(r=r, lora_alpha=32, target_modules=targets, **settings)


NOTEBOOK = lora(16, *ALL_LINEAR, bias="lora_only")
SPENDING = (
    "intermediate.dense 737,280 + output.dense 737,280 + full head 593,668 + query 294,912 + key 294,912 + "
    "value 294,912 + attention.output.dense 294,912 + biases 82,944"
)


@pytest.mark.parametrize(
    ("adapter", "head", "budget", "message"),
    [
        (
            NOTEBOOK,
            FULL,
            1_000_000,
            f"the setting trains 3,330,820 parameters, 2,330,820 over the budget; expected at most 1,000,000; "
            f"received {SPENDING}; what fits: r=1 (842,500); layer 11 only (821,764); "
            "r=5 with a linear head (915,460); layers 8-11 only with a linear head (915,460)",
        ),
        (
            NOTEBOOK,
            FULL,
            100_000,
            f"the setting trains 3,330,820 parameters, 3,230,820 over the budget; expected at most 100,000; "
            f"received {SPENDING}; what fits: r=1 on layers 5-11 only, no biases with a linear head (99,844)",
        ),
        (
            NOTEBOOK,
            FULL,
            3_100,
            f"the setting trains 3,330,820 parameters, 3,327,720 over the budget; expected at most 3,100; "
            f"received {SPENDING}; what fits: a linear head and no adapter (3,076)",
        ),
        (
            NOTEBOOK,
            FULL,
            3_000,
            f"the setting trains 3,330,820 parameters, 3,327,820 over the budget; expected at most 3,000; "
            f"received {SPENDING}; the smallest that works is a budget of 3,076 (linear head, no adapter)",
        ),
        (
            lora(8, "query", "key", "value"),
            FULL,
            1_000_000,
            "the setting trains 1,036,036 parameters, 36,036 over the budget; expected at most 1,000,000; received "
            "full head 593,668 + query 147,456 + key 147,456 + value 147,456; what fits: r=7 (980,740); "
            "layers 1-11 only (999,172); a linear head (445,444)",
        ),
        (
            lora(8, "query", bias="lora_only"),
            LINEAR,
            158_000,
            "the setting trains 159,748 parameters, 1,748 over the budget; expected at most 158,000; received "
            "query 147,456 + biases 9,216 + linear head 3,076; what fits: r=7 (141,316); layers 1-11 only (146,692); "
            "bias none (150,532)",
        ),
        (
            lora(4, "query", rank_pattern={"layer.11.attention.self.query": 8}),
            LINEAR,
            80_000,
            "the setting trains 82,948 parameters, 2,948 over the budget; expected at most 80,000; received "
            "query 67,584 + query 12,288 + linear head 3,076; what fits: ranks capped at 6 (79,876); "
            "layers 1-11 only (76,804)",
        ),
        (
            None,
            FULL,
            100_000,
            "the setting trains 593,668 parameters, 493,668 over the budget; expected at most 100,000; received "
            "full head 593,668; what fits: a low_rank head of rank 62 (99,076); a linear head (3,076)",
        ),
        (
            None,
            HeadSpec("low_rank", 62),
            50_000,
            "the setting trains 99,076 parameters, 49,076 over the budget; expected at most 50,000; received "
            "low_rank head 99,076; what fits: a low_rank head of rank 30 (49,924); a linear head (3,076)",
        ),
    ],
)
def test_the_whole_message(adapter: AdapterSpec | None, head: HeadSpec, budget: int, message: str) -> None:
    with pytest.raises(BudgetError) as error:
        plan(load_config("roberta-base"), labels=4, budget=budget, strategy="manual", adapter=adapter, head=head)
    assert str(error.value) == message


def test_the_settings_it_names_train_what_it_says() -> None:
    config = load_config("roberta-base")

    def trained(adapter: AdapterSpec | None, head: HeadSpec) -> int:
        return count(config, adapter=adapter, head=head, labels=4).trainable

    biased = {"bias": "lora_only"}
    assert trained(lora(1, *ALL_LINEAR, **biased), FULL) == 842_500
    assert trained(lora(16, *ALL_LINEAR, **biased, layers=(11,)), FULL) == 821_764
    assert trained(lora(5, *ALL_LINEAR, **biased), LINEAR) == 915_460
    assert trained(lora(16, *ALL_LINEAR, **biased, layers=(8, 9, 10, 11)), LINEAR) == 915_460
    assert trained(lora(1, *ALL_LINEAR, layers=tuple(range(5, 12))), LINEAR) == 99_844


def test_a_setting_just_within_budget_is_taken() -> None:
    planned = plan(
        load_config("roberta-base"), labels=4, budget=3_330_820, strategy="manual", adapter=NOTEBOOK, head=FULL
    )
    assert planned.left_over == 0
