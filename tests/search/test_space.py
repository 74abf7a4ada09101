"""What a search may try, and how settings narrow it."""

from __future__ import annotations

from typing import Any

import pytest

from pennyweight.errors import RecipeError
from pennyweight.recipe import loading as recipe
from pennyweight.search.space import Range, Space, narrow_space, parse_budgets

BASE = recipe.load()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("200k", ("200k",)),
        ("10k,50k, 1M", ("10k", "50k", "1M")),
        (["10k", 50_000], ("10k", "50k")),
        ("998,404", ("998404",)),
        ("200k,200000", ("200k",)),
        (1_000_000, ("1M",)),
    ],
)
def test_budgets_read_as_people_list_them(text: Any, found: tuple[str, ...]) -> None:
    assert parse_budgets(text) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("none", "budget: a search needs a budget; expected a number; received none"),
        ("", "budget: a search needs a budget; expected a number such as 200k"),
        (
            "10k,many",
            "budget: the budget cannot be read; expected a number of parameters such as 1M, 500k or 998404, or none; "
            "received 'many'",
        ),
    ],
)
def test_budgets_that_are_none(text: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        parse_budgets(text)
    assert str(error.value) == message


def test_one_value_fixes_and_several_narrow() -> None:
    space, rest = narrow_space(
        BASE, {"epochs": "2", "learning_rate": "1e-3,2e-3", "pooling": ["mean"], "batch_size": "8"}
    )
    assert (space.epochs, space.learning_rate, space.pooling) == ((2,), (1e-3, 2e-3), ("mean",))
    assert space.head == Space().head
    assert rest == {"batch_size": "8"}
    assert space.fixed() == {"epochs": 2, "pooling": "mean"}
    assert set(space.open()) == {"strategy", "head", "learning_rate", "lora_dropout", "label_smoothing"}
    assert isinstance(narrow_space(BASE, {})[0].learning_rate, Range)


def test_who_names_ranks_has_made_the_plan() -> None:
    assert narrow_space(BASE, {"r": "4"})[0].strategy == ("manual",)
    assert narrow_space(BASE, {"r": "4", "strategy": "top"})[0].strategy == ("top",)  # refused when it becomes a recipe


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": "2,0"}, "train -> epochs: expected auto or at least 1, received 0"),
        ({"strategy": "best"}, "plan -> strategy: expected manual, auto, uniform, top, graded, attention, all-linear"),
        ({"head": ""}, "head: there is nothing to choose from; received ''"),
    ],
)
def test_values_are_held_to_the_recipe(settings: dict[str, str], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        narrow_space(BASE, settings)
    assert message in str(error.value)


def test_the_choices_of_epochs_lie_around_the_usual_number() -> None:
    assert [Space().around_epochs(usual).epochs for usual in (3, 10, 12)] == [(2, 3, 4), (7, 10, 13), (8, 12, 16)]
