"""One command-line flag for every field of the recipe, made from the recipe itself."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import typer
from pydantic.fields import FieldInfo

from .recipe import SECTIONS

Command = Callable[..., None]


def recipe_flags(*sections: str) -> Callable[[Command], Command]:
    """Give a command a flag for each field of these sections; what was given arrives in its `settings`.

    Values stay text here: the recipe validates them, so that flags and YAML fail with the same words.
    """

    def decorate(command: Command) -> Command:
        own = inspect.signature(command)
        kept = [parameter for parameter in own.parameters.values() if parameter.name != "settings"]
        taken = {parameter.name for parameter in kept}
        fields = {
            key: (section, field)
            for section in sections
            for key, field in SECTIONS[section].model_fields.items()
            if key not in taken
        }

        @functools.wraps(command)
        def wrapped(**values: Any) -> None:
            settings = {key: values.pop(key) for key in fields}
            command(**values, settings={key: value for key, value in settings.items() if value is not None})

        flags = [_parameter(key, section, field) for key, (section, field) in fields.items()]
        wrapped.__signature__ = own.replace(parameters=kept + flags)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in kept + flags}
        return wrapped

    return decorate


def _parameter(key: str, section: str, field: FieldInfo) -> inspect.Parameter:
    switch = field.annotation is bool
    flag = f"--{key.replace('_', '-')}"
    default = field.get_default(call_default_factory=True)
    shown = "" if default in (None, [], {}) else f" [default: {_plain(default)}]"
    option = typer.Option(
        None,
        f"{flag}/--no-{flag[2:]}" if switch else flag,
        help=f"{field.description}{shown}",
        show_default=False,
        rich_help_panel=f"Recipe: {section}",
        metavar=None if switch else _metavar(field),
    )
    annotation = bool | None if switch else str | None
    return inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=annotation)


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _metavar(field: FieldInfo) -> str:
    text = str(field.annotation)
    kinds = {"Literal": "NAME", "dict": "NAME=N,...", "list": "A,B,...", "int | float": "N", "float": "X", "int": "N"}
    return next((shown for kind, shown in kinds.items() if kind in text), "TEXT")
