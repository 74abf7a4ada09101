"""What to do, as data: typed, validated, YAML in and out.

A recipe has four sections: `data`, `model`, `plan` (the budget and what it buys) and `train`. Flags win over the YAML
file, which wins over the recipe it names as its `base`, which wins over the defaults below.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from .errors import RecipeError
from .fields import DataRecipe, ModelRecipe, PlanRecipe, Section, TrainRecipe
from .files import write_text

__all__ = ["SECTIONS", "DataRecipe", "ModelRecipe", "PlanRecipe", "Recipe", "TrainRecipe", "load", "parse", "shipped"]


class Recipe(Section):
    """One run, completely described."""

    name: str = "default"
    data: DataRecipe = DataRecipe()
    model: ModelRecipe = ModelRecipe()
    plan: PlanRecipe = PlanRecipe()
    train: TrainRecipe = TrainRecipe()

    def to_yaml(self) -> str:
        """The resolved recipe, every field spelled out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)

    def save(self, path: str | Path) -> None:
        """Write `to_yaml()` atomically."""
        write_text(path, self.to_yaml())


SECTIONS: dict[str, type[Section]] = {
    "data": DataRecipe,
    "model": ModelRecipe,
    "plan": PlanRecipe,
    "train": TrainRecipe,
}
# What only the strategy `manual` reads.
BY_HAND = ("r", "lora_alpha", "target_modules", "layers", "rank_pattern", "alpha_pattern")
SECTION_OF = {key: section for section, model in SECTIONS.items() for key in model.model_fields}


def shipped() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files(__package__) / "recipes"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def load(source: str | Path | None = None, **overrides: Any) -> Recipe:
    """Resolve a recipe: flags over YAML over its `base` over the defaults.

    Args:
        source: a shipped name (`paper`), a YAML file, or None for `default`.
        **overrides: values by key (`learning_rate=1e-4`), as the flags give them; None means "not given".

    Raises:
        RecipeError: with every problem at once, as `section -> key: expected, received`.
    """
    values, where = _read(source if source is not None else "default")
    return parse(overridden(values, overrides), where)


def overridden(values: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, sections of a recipe, with settings put in by key; None means "not given".

    Who names a rank or its place has planned by hand: that makes the strategy `manual`.

    Raises:
        RecipeError: for a key no section has.
    """
    by_hand = [key for key in BY_HAND if settings.get(key) is not None]
    strategy = settings.get("strategy")
    if by_hand and strategy not in (None, "manual"):
        raise RecipeError(
            f"{by_hand[0]} and strategy {strategy} contradict each other: the strategy chooses it",
            remedy=f"leave out --strategy or --{by_hand[0].replace('_', '-')}",
        )
    settings = {**settings, "strategy": "manual"} if by_hand else settings
    for key, value in settings.items():
        if key not in SECTION_OF:
            raise RecipeError(f"unknown setting {key!r}", expected=_suggest(key, SECTION_OF))
        section = values.setdefault(SECTION_OF[key], {})
        # A section that is no mapping is reported by `parse`, with everything else that is wrong.
        if value is not None and isinstance(section, dict):
            section[key] = value
    return values


def parse(values: Mapping[str, Any], where: str | Path | None = None) -> Recipe:
    """Validate a mapping of sections.

    Raises:
        RecipeError: naming every problem as `section -> key: expected ..., received ...`.
    """
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        # A union reports every member it tried; the first line per place says enough.
        by_place: dict[str, str] = {}
        for detail in error.errors(include_url=False):
            place, problem = _problem(detail)
            by_place.setdefault(place, f"{place}: {problem}")
        raise _invalid(list(by_place.values()), where) from None
    problems = list(_contradictions(recipe))
    if problems:
        raise _invalid(problems, where)
    return recipe


def _invalid(problems: list[str], where: str | Path | None) -> RecipeError:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return RecipeError(f"{count} in the recipe: " + " | ".join(problems), where=where)


def _contradictions(recipe: Recipe) -> list[str]:
    """Settings that are valid one by one and impossible together."""
    problems = []
    if recipe.plan.r < 1:
        problems.append(
            f"plan -> r: expected a rank of at least 1 (or strategy head-only for no adapter), received {recipe.plan.r}"
        )
    size = recipe.data.validation_size
    if size > 1 and isinstance(size, float):
        problems.append(f"data -> validation_size: expected a share below 1 or a whole number of rows, received {size}")
    if recipe.plan.use_rslora and recipe.plan.scaling == "alpha":
        problems.append("plan -> use_rslora: expected scaling alpha/r with use_rslora, received scaling alpha")
    if recipe.plan.strategy == "auto" and recipe.plan.budget == "none":
        problems.append("plan -> strategy: expected manual (or a budget) when the budget is none, received auto")
    names = recipe.data.label_names
    if names is not None and len(set(names)) != len(names):
        problems.append(f"data -> label_names: expected names that differ, received {names}")
    return problems


def _problem(detail: Any) -> tuple[str, str]:
    """One pydantic error as `section -> key` and `expected ..., received ...`."""
    path = [str(part) for part in detail["loc"]]
    # Union members and validators show up as path parts that are no keys of ours.
    keys = path[:2] if path and path[0] in SECTIONS else path[:1]
    place = " -> ".join(keys) or "recipe"
    if detail["type"] == "extra_forbidden":
        known = SECTIONS[path[0]].model_fields if len(path) > 1 and path[0] in SECTIONS else Recipe.model_fields
        return f"{place} -> {path[-1]}" if len(
            path
        ) > 2 else place, f"expected {_suggest(path[-1], known)}, received an unknown key"
    expected = detail["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    if detail["type"] in ("model_type", "model_attributes_type"):
        expected = "a mapping of settings"
    if place == "plan -> layers":
        expected = "all, top:N or layer numbers such as 3,4,5"
    if place == "data -> validation_size":
        expected = "a share such as 0.1 or a number of rows such as 640"
    return place, f"expected {expected}, received {detail['input']!r}"


def _suggest(word: str, known: Any) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"{near[0]} (nearest known name)" if near else "one of " + ", ".join(known)


def _read(source: str | Path) -> tuple[dict[str, Any], str]:
    """The mapping behind a shipped name or a YAML file, merged over its `base`."""
    path = Path(source)
    if str(source) in shipped():
        text, where = (resources.files(__package__) / "recipes" / f"{source}.yaml").read_text("utf-8"), str(source)
    elif path.is_file():
        try:
            text, where = path.read_text("utf-8"), str(path)
        except UnicodeDecodeError as error:
            raise RecipeError("not a UTF-8 text file", where=path, remedy="save the recipe as UTF-8 YAML") from error
    else:
        raise RecipeError(
            f"no such recipe: {source}", expected="one of " + ", ".join(shipped()) + ", or a YAML file that exists"
        )
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = where if mark is None else f"{where}:{mark.line + 1}"
        raise RecipeError("not valid YAML", where=place, received=getattr(error, "problem", None)) from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise RecipeError(
            "not a recipe", where=where, expected="sections data, model, plan, train", received=type(values).__name__
        )
    base = values.pop("base", None)
    if base is None:
        return values, where
    if base not in shipped():
        raise RecipeError("unknown base", where=where, expected="one of " + ", ".join(shipped()), received=repr(base))
    return _merge(_read(base)[0], values), where


def _merge(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for key, value in high.items():
        both = isinstance(value, dict) and isinstance(low.get(key), dict)
        merged[key] = {**low[key], **value} if both else value
    return merged
