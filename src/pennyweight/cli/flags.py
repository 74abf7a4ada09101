"""Flags: one for every field of the recipe, made from the recipe itself, and those that several commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from ..errors import InputError
from ..recipe.loading import load, shipped
from ..recipe.schema import SECTIONS, FileFormat, Recipe

Command = Callable[..., Any]
# Other spellings of a field's flag: `predict` has a --format of its own, and `from` is no name in Python.
ALIASES = {"format": ("--input-format",), "start_from": ("--from",)}
Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
Markup = Literal["keep", "strip", "drop"]
Format = FileFormat

MODEL = typer.Argument(..., help="A run folder or saved classifier.")
RECIPE = typer.Option("default", "--recipe", help=f"{', '.join(shipped())}, or a YAML file such as RUN/recipe.yaml.")
JSON = typer.Option(False, "--json", help="Print JSON.")
BACKBONE = typer.Option(None, "--backbone", help="Current path of the backbone, if it was moved.")
DEVICE = typer.Option("auto", "--device", help="Where to compute.")
PRECISION = typer.Option(None, "--precision", help="Number format of matrix products; as trained if not given.")
ADAPTER_SCALE = typer.Option(
    1.0, "--adapter-scale", help="Factor on the adapter's update: 0 is the frozen encoder, 1 as trained."
)
PRIOR = typer.Option(
    None, "--prior", metavar="balanced|em|A=X,B=Y", help="Class shares in these texts, if they differ from training."
)
TEXT_COLUMNS = typer.Option(
    None, "--text-columns", help="Text columns, joined in this order; as in training if not given."
)
SEPARATOR = typer.Option(None, "--separator", help="Text placed between text columns; as in training if not given.")
MARKUP = typer.Option(None, "--markup", help="What to do with HTML markup; as in training if not given.")
SPLIT = typer.Option("test", "--split", help="Split to read from a hub dataset or a saved DatasetDict.")
ID_COLUMN = typer.Option(None, "--id-column", help="Column with the ids; the one called id if not given.")
INPUT_FORMAT = typer.Option(
    None,
    "--format",
    "--input-format",
    metavar="FORMAT",
    help=f"Format of the data files ({', '.join(get_args(Format))}); detected if not given.",
)
HEADER = typer.Option(
    None,
    "--header/--no-header",
    help="Whether a CSV or TSV file starts with a row of column names; detected if not given.",
    show_default=False,
)
ENCODING = typer.Option(
    None, "--encoding", help="Character encoding of a text file, such as cp1252; UTF-8 if not given."
)
RAY = typer.Option(
    None, "--ray", metavar="local|auto|HOST:PORT", help="Use several processes on CPUs, here or on a Ray cluster."
)
WORKERS = typer.Option(
    None, "--workers", min=1, help="With --ray: number of processes; as many as fit on the free CPUs if not given."
)
WORKER_THREADS = typer.Option(None, "--worker-threads", min=1, help="With --ray: threads per process [default: 1].")
LABEL_COLUMN = typer.Option(None, "--label-column", help="Label column; as in training if not given.")


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
        def wrapped(**values: Any) -> Any:
            settings = {key: values.pop(key) for key in fields}
            return command(**values, settings={key: value for key, value in settings.items() if value is not None})

        flags = [_parameter(key, section, field) for key, (section, field) in fields.items()]
        wrapped.__signature__ = own.replace(parameters=kept + flags)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in kept + flags}
        return wrapped

    return decorate


def _parameter(key: str, section: str, field: FieldInfo) -> inspect.Parameter:
    switch = bool in (field.annotation, *get_args(field.annotation))
    flag = f"--{key.replace('_', '-')}"
    default = getattr(getattr(_default(), section), key)  # what holds when nothing is given
    option = typer.Option(
        None,
        *([f"{flag}/--no-{flag[2:]}"] if switch else [flag, *ALIASES.get(key, ())]),
        help=field.description
        if default is None or default in ([], {})
        else f"{field.description} [default: {_plain(default)}]",
        show_default=False,
        rich_help_panel=f"Recipe: {section}",
        # Two spellings and all choices would not fit a line.
        metavar=None if switch else key.upper() if key in ALIASES else metavar(field.annotation),
    )
    annotation = bool | None if switch else str | None
    return inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=annotation)


@functools.cache
def _default() -> Recipe:
    return load("default")


def _plain(value: Any) -> str:
    """A default as one would write it behind the flag."""
    if isinstance(value, bool):
        return "on" if value else "off"
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if text.strip() else repr(text)


def metavar(annotation: Any) -> str:
    """The values of a flag, for its help: all choices, or the kind of value."""
    words = choices(annotation)
    text = str(annotation)
    if words:
        kind = "|NAME=X,..." if "dict" in text else "|N" if takes_number(annotation) else ""
        return "|".join(words) + (",..." if "list" in text else "") + kind
    kinds = {
        "dict[str, typing.Annotated[str": "LABEL=NAME,...",
        "dict": "NAME=N,...",
        "LayerNumbers": "N,N,...",
        "list": "A,B,...",
        "float": "X",
        "int": "N",
    }
    return next((shown for kind, shown in kinds.items() if kind in text), "TEXT")


def choices(annotation: Any) -> list[str]:
    """The words a value may be, where these are given one by one."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [word for inner in get_args(annotation) for word in choices(inner)]


def takes_number(annotation: Any) -> bool:
    """Whether a value may be a whole number, beside its words."""
    return annotation is int or any(map(takes_number, get_args(annotation)))


def split_words(words: str | None) -> list[str] | None:
    """The words of a flag that takes several, separated by commas; None if it was not given."""
    return [word.strip() for word in words.split(",") if word.strip()] if words else None


def refuse_two_sources(data: str | None, settings: dict[str, Any]) -> None:
    """Refuse training data given as an argument and as a flag.

    Raises:
        InputError: for both.
    """
    if data is not None and "train" in settings:
        raise InputError("training data given twice", received=f"{data} and --train {settings['train']}")
