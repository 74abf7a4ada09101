"""Recipes in and out of YAML: resolved, merged and validated.

Settings by key, as flags give them, win over the YAML file, which wins over the recipe it names as its `base`, which
wins over the defaults of the schema.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..errors import RecipeError
from ..storage.bounded_yaml import check_bounds
from .conflicts import find_conflicts, find_conflicts_between
from .problems import describe_problem, suggest
from .schema import BY_HAND, BY_STRATEGY, SECTION_OF, SECTIONS, Recipe

MOST_VALUES = 100_000


def shipped() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files(__package__) / "shipped"
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


def resolve_recipe(source: str | Path | Recipe, settings: Mapping[str, Any]) -> Recipe:
    """A recipe by name, file or value, with settings by key over its own; None means "not given".

    Raises:
        RecipeError: as `load`.
    """
    if not isinstance(source, Recipe):
        return load(source, **settings)
    return parse(overridden(source.model_dump(), settings))


def overridden(values: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, sections of a recipe, with settings put in by key; None means "not given".

    Who names a rank or its place has planned by hand: that makes the strategy `manual`, in a YAML file as well.

    Raises:
        RecipeError: for keys no section has, or a strategy that contradicts them.
    """
    unknown = [key for key in settings if key not in SECTION_OF]
    if unknown:
        near = " | ".join(f"{key}: expected {suggest(key, SECTION_OF)}" for key in unknown)
        raise RecipeError(f"unknown setting{'s' if len(unknown) > 1 else ''} {near}")
    by_hand = [key for key in BY_HAND if settings.get(key) is not None]
    strategy = settings.get("strategy")
    if by_hand and strategy not in (None, "manual"):
        flag = by_hand[0].replace("_", "-")
        raise RecipeError(
            f"--{flag} and --strategy {strategy} contradict each other: that strategy chooses {by_hand[0]} itself",
            remedy=f"leave out --strategy or --{flag}",
        )
    bounds = [key for key in BY_STRATEGY if settings.get(key) is not None]
    if by_hand and bounds:
        one, other = (f"--{keys[0].replace('_', '-')}" for keys in (by_hand, bounds))
        raise RecipeError(
            f"{one} and {other} contradict each other: {one} sets the plan, {other} limits a strategy that chooses it",
            remedy=f"leave out {one} or {other}",
        )
    settings = {**settings, "strategy": "manual"} if by_hand else settings
    for key, value in settings.items():
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
    problems: dict[str, str] = {}
    recipe = None
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        # A union reports every member it tried; the first line per place says enough.
        for detail in error.errors(include_url=False):
            place, problem = describe_problem(detail)
            problems.setdefault(place, f"{place}: {problem}")
    for name, model in SECTIONS.items():
        if not any(place.split(" -> ")[0] == name for place in problems):
            problems |= {line: line for line in find_conflicts(model.model_validate(values.get(name, {})))}
    if recipe is not None:
        problems |= {line: line for line in find_conflicts_between(recipe)}
    if recipe is None or problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        count += "" if where else " in the recipe"
        raise RecipeError(f"{count}: " + " | ".join(problems.values()), where=where)
    return recipe


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, of which PyYAML would take the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            own = node.start_mark.index <= key.start_mark.index < node.end_mark.index  # not merged in by <<
            if not own or not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                problem = f"the key {key.value!r} occurs here for the second time"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def differences(recipe: Recipe) -> str:
    """A recipe as YAML on top of the shipped default: only the fields that differ from it."""
    default, own = load("default").model_dump(mode="json"), recipe.model_dump(mode="json")
    found: dict[str, Any] = {"base": "default", "name": recipe.name}
    for section in SECTIONS:
        changed = {key: value for key, value in own[section].items() if value != default[section][key]}
        if changed:
            found[section] = changed
    return str(yaml.safe_dump(found, sort_keys=False, allow_unicode=True))


def describe(name: str) -> str:
    """The purpose of a shipped recipe: the first line of its file."""
    return _shipped_text(name).partition("\n")[0].lstrip("# ")


def _shipped_text(name: str) -> str:
    return (resources.files(__package__) / "shipped" / f"{name}.yaml").read_text("utf-8")


def _read(source: str | Path) -> tuple[dict[str, Any], str]:
    """The mapping behind a shipped name or a YAML file, merged over its `base`."""
    path = Path(source)
    if str(source) in shipped():
        text, where = _shipped_text(str(source)), f"recipe {source}"
    elif os.path.isfile(path):
        try:
            text, where = path.read_text("utf-8"), str(path)
        except UnicodeDecodeError as error:
            raise RecipeError("not a UTF-8 text file", where=path, remedy="save the recipe as UTF-8 YAML") from error
    else:
        near = difflib.get_close_matches(str(source), shipped(), n=1)
        raise RecipeError(
            f"no such recipe: {source}",
            expected="one of " + ", ".join(shipped()) + ", or a YAML file that exists",
            remedy=f"did you mean {near[0]}?" if near else None,
        )
    try:
        check_bounds(text)
        values = _Loader(text).get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that is none, nesting without end
        mark = getattr(error, "problem_mark", None)
        place = where if mark is None else f"{where}:{mark.line + 1}"
        raise RecipeError(f"not valid YAML ({getattr(error, 'problem', None) or error})", where=place) from None
    _check_size(values, where)
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise RecipeError(
            "not a recipe", where=where, expected="sections data, model, plan, train", received=type(values).__name__
        )
    own = values.get("plan")
    if isinstance(own, dict) and "strategy" not in own and any(key in own for key in BY_HAND):
        own["strategy"] = "manual"
    base = values.pop("base", None)
    if base is None:
        return values, where
    if base not in shipped():
        raise RecipeError("unknown base", where=where, expected="one of " + ", ".join(shipped()), received=repr(base))
    return _merge(_read(base)[0], values), where


def _check_size(value: Any, where: str) -> None:
    """By aliases a page of YAML unfolds to more than memory holds, or to something without end."""
    waiting, seen = [value], 0
    while waiting:
        item = waiting.pop()
        seen += 1
        if seen > MOST_VALUES:
            raise RecipeError(
                "the recipe expands to too many values", where=where, expected=f"at most {MOST_VALUES:,} values"
            )
        if isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _merge(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for key, value in high.items():
        both = isinstance(value, dict) and isinstance(low.get(key), dict)
        merged[key] = {**low[key], **value} if both else value
    return merged
