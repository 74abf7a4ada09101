"""The settings that a trial may choose from. A flag with one value fixes a setting; several (`3,5`) narrow it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ..budget.plan import parse_budget
from ..budget.strategies import auto_rule
from ..errors import RecipeError
from ..recipe import loading as recipes
from ..recipe.schema import BY_HAND, SECTION_OF, Recipe


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, drawn evenly on a log scale."""

    low: float
    high: float


Choice = tuple[Any, ...] | Range


@dataclass(frozen=True)
class Space:
    """The choices, each under the recipe's key for it.

    The ranges lie around what papers on LoRA use (Hu et al. 2021, arXiv:2106.09685, appendix D: rates from 1e-4 to 5e-4
    for RoBERTa), shifted up: fewer trained parameters take a higher rate.
    """

    strategy: Choice = ("all-linear", "top", "graded", "attention", "uniform")
    head: Choice = ("linear", "low_rank", "full")
    learning_rate: Choice = Range(1e-4, 5e-3)
    epochs: Choice = (2, 3, 4)
    pooling: Choice = ("cls", "mean")
    lora_dropout: Choice = (0.0, 0.05, 0.1)
    label_smoothing: Choice = (0.0, 0.05, 0.1)

    def open(self) -> dict[str, Choice]:
        """The settings with several choices, by key."""
        choices = {field.name: getattr(self, field.name) for field in fields(self)}
        return {key: choice for key, choice in choices.items() if isinstance(choice, Range) or len(choice) > 1}

    def fixed(self) -> dict[str, Any]:
        """The settings with a single value, by key."""
        choices = {field.name: getattr(self, field.name) for field in fields(self)}
        return {key: choice[0] for key, choice in choices.items() if not isinstance(choice, Range) and len(choice) == 1}

    def standing(self, recipe: Recipe, budget: str) -> dict[str, Any]:
        """The recipe's own value for each open choice that includes it."""
        found: dict[str, Any] = {}
        for key, choice in self.open().items():
            value = getattr(getattr(recipe, SECTION_OF[key]), key)
            if key == "strategy" and value == "auto":
                value = auto_rule(parse_budget(budget) or 0).strategy
            if choice.low <= value <= choice.high if isinstance(choice, Range) else value in choice:
                found[key] = value
        return found

    def around_epochs(self, usual: int) -> Space:
        """With fewer epochs than usual, as many, and more to choose from."""
        return replace(self, epochs=(round(usual * 2 / 3), usual, round(usual * 4 / 3)))

    def to_json(self) -> dict[str, Any]:
        """Plain values: a list of choices, or the ends of a range."""
        choices = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            key: {"low": choice.low, "high": choice.high} if isinstance(choice, Range) else list(choice)
            for key, choice in choices.items()
        }


def narrow_space(base: Recipe, settings: Mapping[str, Any]) -> tuple[Space, dict[str, Any]]:
    """The space that settings leave open, and the settings that are no part of it.

    Args:
        settings: by key, as flags or keywords give them; for a key of `Space` a list, or text with commas, is several
            values to choose from.

    Raises:
        RecipeError: a value that the recipe refuses.
    """
    space, rest = Space(), {}
    keys = {field.name for field in fields(Space)}
    for key, value in settings.items():
        if key in keys and value is not None:
            values = tuple(dict.fromkeys(_valid(base, key, one) for one in _several(value)))
            if not values:
                raise RecipeError("there is nothing to choose from", where=key, received=repr(value))
            space = replace(space, **{key: values})
        else:
            rest[key] = value
    if "strategy" not in settings and any(rest.get(key) is not None for key in BY_HAND):
        space = replace(space, strategy=("manual",))  # who names ranks has made the plan
    return space, rest


def parse_budgets(text: Any) -> tuple[str, ...]:
    """Budgets as people list them: `200k`, `10k,50k,1M`, or a list of these; `998,404` is one number.

    Raises:
        RecipeError: for one that cannot be read, or `none`: there is nothing to spend.
    """
    found: list[int] = []
    for one in [text] if _is_one_budget(text) else _several(text):
        number = parse_budget(one)
        if number is None:
            raise RecipeError("a search needs a budget", where="budget", expected="a number", received="none")
        found.append(number)
    if not found:
        raise RecipeError("a search needs a budget", where="budget", expected="a number such as 200k")
    return tuple(_written(number) for number in dict.fromkeys(found))


def _written(number: int) -> str:
    """A budget in its shortest form, so that 200k and 200,000 are one study."""
    for size, letter in ((10**6, "M"), (10**3, "k")):
        if number % size == 0:
            return f"{number // size}{letter}"
    return str(number)


def _is_one_budget(text: Any) -> bool:
    if not isinstance(text, str):
        return False
    try:
        parse_budget(text)
    except RecipeError:
        return False
    return True


def _several(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return list(value) if isinstance(value, Iterable) else [value]


def _valid(base: Recipe, key: str, value: Any) -> Any:
    """A value as the recipe reads it."""
    values = recipes.overridden(base.model_dump(), {key: value})
    if key == "strategy":
        values["plan"] = {"strategy": value}  # whether it goes with the rest is seen when a trial is planned
    return getattr(getattr(recipes.parse(values), SECTION_OF[key]), key)
