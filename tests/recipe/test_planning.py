"""From a recipe to a plan: what its fields make of the planner's options."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pennyweight as pw
from pennyweight.budget import strategies
from pennyweight.budget.plan import Plan
from pennyweight.budget.specs import HeadSpec
from pennyweight.budget.strategies import AutoRule
from pennyweight.budget.targets import ranks
from pennyweight.errors import RecipeError
from pennyweight.model.backbone import config_of
from pennyweight.recipe.loading import resolve_recipe
from pennyweight.recipe.planning import pin_plan, plan_for

Command = Callable[..., Any]


def adapted(plan: Plan) -> dict[str, int]:
    assert plan.adapter is not None
    return ranks(config_of("roberta-base"), plan.adapter)


def planned(**settings: Any) -> Plan:
    return pw.plan(labels=4, backbone="roberta-base", budget="300k", **settings)


def test_ranks_stay_between_the_smallest_and_the_largest() -> None:
    free = adapted(planned(strategy="graded"))
    assert (min(free.values()), max(free.values())) == (1, 3)
    narrow = adapted(planned(strategy="graded", min_rank=2, max_rank=4))
    assert min(narrow.values()) >= 2
    assert max(narrow.values()) <= 4
    assert len(narrow) < len(free)


def test_frozen_modules_are_left_alone_and_forced_ones_adapted() -> None:
    names = adapted(planned(frozen_modules="output.dense,intermediate.dense", strategy="top", forced_modules="query"))
    assert not any("dense" in name for name in names)
    assert sum(name.endswith(".query") for name in names) == 12
    assert sum(name.endswith(".key") for name in names) == 6


def test_the_strategy_chooses_the_head_where_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = (AutoRule(400_000, "attention", HeadSpec("low_rank", 4)), AutoRule(None, "graded", HeadSpec("full")))
    monkeypatch.setattr(strategies, "AUTO", rules)
    assert planned(head="auto").head == HeadSpec("low_rank", 4)
    assert planned().head == HeadSpec("linear", 8)
    assert pw.plan(labels=4, backbone="roberta-base", budget="1M", head="auto").head == HeadSpec("full")
    assert planned(head="auto", strategy="top").head.kind == "linear"
    assert planned(head="auto", r=1).head.kind == "linear"
    assert planned(head="auto", strategy="head-only").head.kind == "linear"


def test_the_recipe_of_a_plan_spells_out_what_was_chosen() -> None:
    wanted = resolve_recipe(
        "default", {"backbone": "roberta-base", "head": "auto", "max_rank": 2, "forced_modules": "query"}
    )
    config = config_of(wanted.model.backbone)
    first = plan_for(wanted, config, 4)
    spelled = pin_plan(wanted, first)
    assert (spelled.plan.head, spelled.plan.max_rank, spelled.plan.forced_modules) == ("linear", None, None)
    assert plan_for(spelled, config, 4).count == first.count


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"frozen_modules": "q_proj"},
            "frozen_modules: the target module matches nothing; expected one of query, key, value, "
            "attention.output.dense, intermediate.dense, output.dense, attention, all-linear; received 'q_proj'",
        ),
        (
            {"frozen_modules": "attention", "forced_modules": "value"},
            "frozen_modules and forced_modules contradict each other: both name "
            "encoder.layer.0.attention.self.value; drop one of the two",
        ),
        (
            {"frozen_modules": "all-linear"},
            "frozen_modules and the modules that may be adapted contradict each other: no modules are left to adapt; "
            "drop one of the two",
        ),
    ],
)
def test_modules_that_are_unknown_or_contradict(settings: dict[str, Any], message: str, command: Command) -> None:
    with pytest.raises(RecipeError) as error:
        planned(**settings)
    assert str(error.value) == message
    flags = [part for key, value in settings.items() for part in (f"--{key.replace('_', '-')}", value)]
    done = command("plan", "--backbone", "roberta-base", "--labels", "4", *flags)
    assert (done.code, done.out, done.error) == (2, "", message)


def test_auto_takes_lora_xs_where_lora_would_not_reach_rank_2() -> None:
    rank_2 = 2 * 12 * (4 * 2 * 768 + 2 * (768 + 3072)) + 3_076
    for budget, method in ((rank_2 - 1, "lora-xs"), (rank_2, "lora")):
        made = pw.plan(labels=4, backbone="roberta-base", budget=budget)
        assert made.adapter is not None
        assert made.adapter.method == method
        assert made.count.trainable <= budget
        assert len(adapted(made)) == 72
    small = pw.plan(labels=4, backbone="roberta-base", budget="50k")
    assert sum(1 for line in small.why if line.startswith("adapter: LoRA-XS, because rank 2 of LoRA")) == 1
    assert any(line.startswith("time: every layer is trained; --adapter lora is faster") for line in small.why)
    least = pw.plan(labels=4, backbone="roberta-base", budget=3_080)
    assert (least.adapter.method if least.adapter else "none", len(adapted(least))) == ("lora-xs", 4)
    assert not any("every layer" in line for line in least.why)
    assert small.count.stored > small.count.trainable == 3_076 + sum(rank**2 for rank in adapted(small).values())
    again = plan_for(pin_plan(resolve_recipe("default", {"backbone": "roberta-base", "budget": "50k"}), small),
                     config_of("roberta-base"), 4)  # fmt: skip
    assert (again.adapter, again.count) == (small.adapter, small.count)


@pytest.mark.parametrize(
    "settings",
    [{"adapter": "lora"}, {"strategy": "graded"}, {"use_dora": True}, {"bias": "lora_only"}, {"adaptive_ranks": True}],
)
def test_auto_leaves_lora_where_something_else_is_asked_for(settings: dict[str, Any]) -> None:
    made = pw.plan(labels=4, backbone="roberta-base", **{"budget": "50k"} | settings)
    assert made.adapter is not None
    assert made.adapter.adapter == "lora"


def test_forced_modules_that_cost_more_than_the_budget_say_what_would_do(command: Command) -> None:
    asked = ("plan", "--backbone", "roberta-base", "--labels", "4", "--forced-modules", "query", "--adapter", "lora")
    done = command(*asked, "--budget", "20k")
    assert done.code == 2
    assert done.error == (
        "the forced modules do not fit the budget of 20,000; "
        "expected 21,508 or more, the smallest that works at rank 1; received 20,000"
    )
    assert command(*asked, "--budget", "21508").code == 0


@pytest.mark.usefixtures("rendered")
def test_plan_draws_itself(command: Command, tmp_path: Path) -> None:
    done = command("plan", "--budget", "200k", "--plot", tmp_path / "plan.png")
    assert done.code == 0, done.err
    assert done.out.startswith("part")
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
    assert command("plan", "--budget", "200k", "--plot", tmp_path / "plan.svg").code == 0
    drawn = (tmp_path / "plan.svg").read_text("utf-8")
    assert all(part in drawn for part in ("attention.", "output.", "dense"))  # names are broken at the full stops


def test_a_picture_that_cannot_be_written_is_told_before_anything_is_planned(command: Command, tmp_path: Path) -> None:
    done = command("plan", "--backbone", tmp_path / "absent", "--plot", "plan.gif")
    assert (done.code, done.out) == (2, "")
    assert done.error == (
        "plan.gif: unknown form of picture; expected a name ending in .png or .svg; received plan.gif"
    )


def test_planning_and_drawing_need_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['pennyweight', 'plan', '--budget', '200k', '--plot', 'plan.png']\n"
        "from pennyweight.cli.app import main\nmain()\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "plan.png").is_file()
