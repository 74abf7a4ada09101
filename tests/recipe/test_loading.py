"""Recipes: flags over YAML over the base, every problem at once, YAML in and out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from pennyweight.errors import RecipeError
from pennyweight.recipe import loading as recipe
from pennyweight.recipe.schema import SECTIONS, Recipe, optional


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(text, "utf-8")
        return path

    return write


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(RecipeError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_shipped_recipes_are_what_they_are_called() -> None:
    assert recipe.shipped() == ["default", "fast", "notebook", "paper", "robust", "small"]
    assert recipe.load() == recipe.load("default")
    for name in recipe.shipped():
        assert recipe.load(name).name == name


def test_the_paper_recipe_is_the_published_one() -> None:
    paper = recipe.load("paper")
    assert (paper.plan.r, paper.plan.lora_alpha, paper.plan.target_modules) == (16, 32, ["query", "key", "value"])
    assert (paper.plan.budget, paper.plan.head, paper.model.backbone) == ("1M", "linear", "roberta-base")
    train = paper.train
    assert (train.learning_rate, train.weight_decay, train.scheduler, train.warmup_ratio) == (2e-4, 0.01, "cosine", 0.1)
    assert (train.batch_size, train.epochs, paper.data.max_length) == (32, 6, 128)


def test_the_notebook_recipe_is_as_the_notebook_ran() -> None:
    book = recipe.load("notebook")
    assert (book.plan.r, book.plan.lora_alpha, book.plan.lora_dropout, book.plan.bias) == (16, 32, 0.03, "lora_only")
    assert book.plan.target_modules == ["query", "key", "value", "output.dense", "intermediate.dense"]
    assert (book.plan.head, book.model.hidden_dropout, book.plan.budget) == ("full", 0.07, "none")
    assert (book.train.scheduler, book.train.warmup_ratio, book.train.epochs) == ("linear", 0.1, 6)
    assert (book.data.validation_size, book.data.split_seed, book.train.batch_size) == (640, 42, 32)


@pytest.mark.parametrize("name", recipe.shipped())
def test_yaml_out_and_in_is_the_same_recipe(name: str, tmp_path: Path) -> None:
    first = recipe.load(name, label_names="A,ü b", layers="0,2", rank_pattern="query=2", max_steps="7")
    first.save(tmp_path / "recipe.yaml")
    assert recipe.load(tmp_path / "recipe.yaml") == first
    # Every field is spelled out, so that a later change of a default does not change a saved run.
    written = yaml.safe_load((tmp_path / "recipe.yaml").read_text("utf-8"))
    assert {key: set(value) for key, value in written.items() if key != "name"} == {
        section: set(model.model_fields) for section, model in SECTIONS.items()
    }


@given(st.floats(1e-6, 1.0), st.integers(1, 10**6), st.sampled_from(["cls", "mean"]), st.text(max_size=3))
@example(rate=1.0, size=1, pooling="cls", separator="\x85")
@example(rate=1.0, size=1, pooling="cls", separator="\u2028")
def test_any_value_survives_yaml(rate: float, size: int, pooling: str, separator: str) -> None:
    first = recipe.load(learning_rate=rate, validation_size=size, pooling=pooling, separator=separator)
    assert recipe.parse(yaml.safe_load(first.to_yaml())) == first


def test_flags_win_over_yaml_over_its_base_over_the_defaults(file: Callable[[str], Path]) -> None:
    path = file("base: fast\ntrain: {epochs: 5, batch_size: 8}\n")
    found = recipe.load(path, batch_size="4")
    assert found.train.batch_size == 4  # the flag
    assert found.train.epochs == 5  # the file
    assert found.plan.strategy == "top"  # its base
    assert found.train.learning_rate == 1e-3  # default, which fast stands on
    assert found.train.weight_decay == 0.01  # the fields
    assert recipe.load(path, batch_size=None).train.batch_size == 8  # None: the flag was not given


def test_values_are_read_as_people_write_them(file: Callable[[str], Path]) -> None:
    found = recipe.load(
        target_modules="query, value", rank_pattern="query=2,value=4", layers="top:3", validation_size="640",
        use_dora="true", budget="500k", label_names="1,2", text_columns="title,body",
    )  # fmt: skip
    assert found.plan.target_modules == ["query", "value"]
    assert found.plan.rank_pattern == {"query": 2, "value": 4}
    assert (found.plan.layers, found.plan.use_dora, found.plan.budget) == ("top:3", True, "500k")
    assert found.data.validation_size == 640
    assert isinstance(found.data.validation_size, int)
    assert recipe.load(layers="0,2").plan.layers == [0, 2]
    assert recipe.load(layers="all").plan.layers is None
    assert recipe.load(validation_size=".25").data.validation_size == 0.25
    path = file("data: {label_names: [1, 2], label_column: 0}\nplan: {layers: 3, budget: 1000000}\n")
    loaded = recipe.load(path)
    assert (loaded.data.label_names, loaded.data.label_column) == (["1", "2"], "0")
    assert (loaded.plan.layers, loaded.plan.budget) == ([3], "1000000")


def test_none_takes_back_what_a_recipe_set(file: Callable[[str], Path]) -> None:
    path = file("train: {max_steps: 3, early_stopping_patience: 2}\ndata: {label_names: [a, b]}\n")
    found = recipe.load(path, max_steps="none", label_names="none")
    assert (found.train.max_steps, found.data.label_names, found.train.early_stopping_patience) == (None, None, 2)
    assert recipe.load(budget="none", strategy="head-only").plan.budget == "none"
    assert optional(SECTIONS["train"], "max_steps")
    assert not optional(SECTIONS["plan"], "bias")
    assert recipe.load(bias="none").plan.bias == "none"


def test_who_names_a_rank_plans_by_hand(file: Callable[[str], Path]) -> None:
    assert recipe.load("fast", r=4).plan.strategy == "manual"
    assert recipe.load("fast").plan.strategy == "top"
    assert recipe.load(file("base: fast\nplan: {target_modules: query}\n")).plan.strategy == "manual"
    assert refusal(lambda: recipe.load(r=4, strategy="top")) == (
        "--r and --strategy top contradict each other: that strategy chooses r itself; leave out --strategy or --r"
    )


def test_what_a_strategy_may_choose_contradicts_planning_by_hand(file: Callable[[str], Path]) -> None:
    assert refusal(lambda: recipe.load(r=4, min_rank=2)) == (
        "--r and --min-rank contradict each other: --r sets the plan, --min-rank limits a strategy that chooses it; "
        "leave out --r or --min-rank"
    )
    assert refusal(lambda: recipe.load("notebook", forced_modules="query")) == (
        "recipe notebook: 1 problem: plan -> forced_modules: expected a strategy that chooses ranks, such as auto, "
        "with forced_modules, received strategy manual"
    )
    assert refusal(lambda: recipe.load(min_rank=8, max_rank=4)) == (
        "recipe default: 1 problem: plan -> min_rank: expected at most max_rank, which is 4, received 8"
    )
    assert refusal(lambda: recipe.load(max_rank=0)) == (
        "recipe default: 1 problem: plan -> max_rank: expected at least 1, received 0"
    )
    narrowed = file("plan: {strategy: top, max_rank: 4, frozen_modules: [query, key]}\n")
    assert recipe.load(narrowed).plan.frozen_modules == ["query", "key"]
    assert recipe.load(narrowed, max_rank="none", frozen_modules="none").plan.frozen_modules is None


def test_every_problem_is_told_at_once(file: Callable[[str], Path]) -> None:
    path = file(
        """
        base: fast
        data: {label_names: [a, a], zzz: 3, min_chars: 0, validation_size: many}
        model: 3
        plan: {r: 0, budget: -3, rank_pattern: query, layers: upper}
        train: {epochs: 1.5, learning_rate: .nan, batchsize: 4, track: foo, group_by_length: maybe, scheduler: cosinus}
        trian: {}
        """
    )
    message = refusal(lambda: recipe.load(path)).replace(str(path), "FILE")
    assert message.split(" | ") == [
        "FILE: 15 problems: data -> validation_size: expected a share such as 0.1 or a number of rows such as 640, "
        "received many",
        "data -> min_chars: expected at least 1, received 0",
        "data -> zzz: expected one of " + ", ".join(SECTIONS["data"].model_fields) + ", received an unknown key",
        "model: expected a mapping of settings, received 3",
        "plan -> budget: expected a number of parameters such as 1M, 500k or 998404, or none, received -3",
        "plan -> r: expected a rank of at least 1 (for no adapter at all: strategy head-only), received 0",
        "plan -> layers: expected all, top:N or layer numbers such as 3,4,5, received upper",
        "plan -> rank_pattern: expected names with ranks, such as query=8,output.dense=4, received ''",
        "train -> epochs: expected auto or at least 1, received 1.5",
        "train -> learning_rate: expected a finite number, received nan",
        "train -> scheduler: expected linear, cosine, cosine_restarts or constant, received cosinus",
        "train -> group_by_length: expected true or false, received maybe",
        "train -> track: expected tensorboard, wandb, mlflow or trackio, received foo",
        "train -> batchsize: expected batch_size (nearest known name), received an unknown key",
        "trian: expected train (nearest known name), received an unknown key",
    ]


def test_contradictions_are_told_beside_other_problems() -> None:
    settings = {"use_rslora": "true", "scaling": "alpha", "validation_size": "1.5", "label_names": "a,a", "epochs": "0"}
    assert refusal(lambda: recipe.load(**settings)) == (
        "recipe default: 4 problems: train -> epochs: expected auto or at least 1, received 0 | "
        "data -> validation_size: expected a share below 1 or a whole number of rows, received 1.5 | "
        "data -> label_names: expected names that differ, received a, a | "
        "plan -> use_rslora: expected scaling alpha/r with use_rslora, received scaling alpha"
    )


@pytest.mark.parametrize("strategy", ["auto", "top", "uniform"])
def test_a_strategy_needs_a_budget_to_spend(strategy: str) -> None:
    assert refusal(lambda: recipe.load(budget="none", strategy=strategy)) == (
        "recipe default: 1 problem: plan -> strategy: expected manual or head-only when the budget is none "
        f"(name a rank with --r, or give a budget), received {strategy}"
    )


@pytest.mark.parametrize("value", ["abc", "-1", "1e6", "", "1 000", "12q", "1,00"])
def test_a_budget_that_cannot_be_read_is_a_problem_of_the_recipe(value: str) -> None:
    assert "plan -> budget: expected a number of parameters such as 1M" in refusal(lambda: recipe.load(budget=value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plan: {r: 4", "FILE:1: not valid YAML (expected ',' or '}', but got '<stream end>')"),
        (
            "base: nope",
            "FILE: unknown base; expected one of default, fast, notebook, paper, robust, small; received 'nope'",
        ),
        ("[1]", "FILE: not a recipe; expected sections data, model, plan, train; received list"),
        ("plan:\n  r: 4\n  r: 8", "FILE:3: not valid YAML (the key 'r' occurs here for the second time)"),
        ("when: 2024-99-99", "FILE: not valid YAML (month must be in 1..12)"),
        ("1: 2", "FILE: 1 problem: 1: expected a key that is a word, received 1"),
        ("name: 3", "FILE: 1 problem: name: expected text, received 3"),
        (
            "train: {seed: 4294967296}",
            "FILE: 1 problem: train -> seed: expected a number below 4294967296, received 4294967296",
        ),
    ],
)  # fmt: skip
def test_a_file_that_is_no_recipe(text: str, message: str, file: Callable[[str], Path]) -> None:
    path = file(text)
    assert refusal(lambda: recipe.load(path)).replace(str(path), "FILE") == message


def test_other_sources_that_are_no_recipe(tmp_path: Path) -> None:
    expected = "expected one of default, fast, notebook, paper, robust, small, or a YAML file that exists"
    assert refusal(lambda: recipe.load("nope")) == f"no such recipe: nope; {expected}"
    (tmp_path / "latin.yaml").write_bytes("name: caf\xe9".encode("latin-1"))
    assert refusal(lambda: recipe.load(tmp_path / "latin.yaml")).endswith(
        "latin.yaml: not a UTF-8 text file; save the recipe as UTF-8 YAML"
    )


def test_unknown_settings_are_named_with_their_neighbours() -> None:
    assert refusal(lambda: recipe.load(epoch=3, batchsize=2)) == (
        "unknown settings epoch: expected epochs (nearest known name) | "
        "batchsize: expected batch_size (nearest known name)"
    )


def test_an_empty_file_is_the_defaults(file: Callable[[str], Path]) -> None:
    assert recipe.load(file("# nothing\n")) == Recipe()


def test_there_is_one_set_of_defaults(file: Callable[[str], Path]) -> None:
    assert Recipe() == recipe.load() == recipe.load("default") == recipe.parse({})
    mine, named = file("train: {epochs: 5}\n"), {"epochs": 5}
    assert recipe.load(mine) == recipe.load("default", **named)
    assert SECTIONS["train"]() == recipe.load("default").train


# What each shipped recipe resolves to, as far as it differs from the fields' defaults, and those that were chosen by
# measurement: a change here changes what people's runs come to.
CHOSEN = {"learning_rate": 1e-3, "lora_dropout": 0.1, "head_dropout": 0.1, "lp_ft": True, "budget": "1M",
          "epochs": "auto"}  # fmt: skip
RESOLVED: dict[str, dict[str, object]] = {
    "default": {},
    "fast": {"strategy": "top", "epochs": 2},
    "robust": {"budget": "200k", "augment": 0.5, "lp_ft": False},
    "small": {"budget": "50k", "epochs": 4},
    "paper": {
        "backbone": "roberta-base", "strategy": "manual", "head_dropout": 0.0, "r": 16, "lora_alpha": 32.0,
        "lora_dropout": 0.0, "target_modules": ["query", "key", "value"], "epochs": 6, "learning_rate": 2e-4,
        "lp_ft": False,
    },
    "notebook": {
        "validation_size": 640, "backbone": "roberta-base", "hidden_dropout": 0.07, "attention_dropout": 0.1,
        "budget": "none", "strategy": "manual", "head": "full", "head_dropout": 0.07, "r": 16, "lora_alpha": 32.0,
        "lora_dropout": 0.03, "target_modules": ["query", "key", "value", "output.dense", "intermediate.dense"],
        "bias": "lora_only", "epochs": 6, "learning_rate": 2e-4, "scheduler": "linear", "seed": 42, "lp_ft": False,
    },
}  # fmt: skip


def flat(one: Recipe) -> dict[str, object]:
    return {key: value for section in SECTIONS for key, value in getattr(one, section).model_dump().items()}


@pytest.mark.parametrize("name", recipe.shipped())
def test_what_a_shipped_recipe_resolves_to(name: str) -> None:
    standing = flat(Recipe())
    assert {key: standing[key] for key in CHOSEN} == CHOSEN
    found = flat(recipe.load(name))
    assert {key: value for key, value in found.items() if value != standing[key]} == RESOLVED[name]


@pytest.mark.parametrize("text", ["a: " + "[" * 10_000 + "]" * 10_000, "- " * 10_000, "{a: " * 5_000, "? " * 5_000])
def test_nesting_without_end_is_refused_where_it_gets_deep(text: str, file: Callable[[str], Path]) -> None:
    path = file(text)
    assert refusal(lambda: recipe.load(path)) == (
        f"{path}:1: not valid YAML (lists and mappings nested more than 20 levels deep)"
    )


def test_differences_from_the_default_give_the_recipe_back(tmp_path: Path) -> None:
    for name in (*recipe.shipped(), None):
        wanted = recipe.load(name) if name else recipe.load("default", epochs=7, text_columns=["a", "b"], budget="20k")
        (tmp_path / "mine.yaml").write_text(recipe.differences(wanted), "utf-8")
        assert recipe.load(tmp_path / "mine.yaml") == wanted
    assert yaml.safe_load(recipe.differences(recipe.load("default", epochs=7))) == {
        "base": "default", "name": "default", "train": {"epochs": 7},
    }  # fmt: skip
