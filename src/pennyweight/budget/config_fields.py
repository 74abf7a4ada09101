"""Reading the fields of a `config.json`; errors name the field that is missing or of the wrong type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import BackboneError

Config = Mapping[str, Any]


def whole(config: Config, name: str, default: int | None = None) -> int:
    """A positive whole number.

    Raises:
        BackboneError: the field is missing and has no default, or holds something else.
    """
    value = config.get(name, default)
    if value is None:
        raise BackboneError(
            "the backbone's config lacks a required field",
            where=f"config -> {name}",
            expected="a positive whole number",
        )
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise unusable(name, "a positive whole number", value)
    return value


def integer(config: Config, name: str, default: int) -> int:
    """A whole number that may be zero or negative where that means "none"."""
    value = config.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise unusable(name, "a whole number", value)
    return value


def number(config: Config, name: str, default: float) -> float:
    """A number above 0."""
    value = config.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise unusable(name, "a number above 0", value)
    return float(value)


def flag(config: Config, name: str, default: bool) -> bool:
    """A switch."""
    value = config.get(name, default)
    if not isinstance(value, bool):
        raise unusable(name, "true or false", value)
    return value


def unusable(name: str, expected: str, value: object) -> BackboneError:
    """The error for a field that holds something else than is expected."""
    return BackboneError(
        "the backbone's config has a value that cannot be used",
        where=f"config -> {name}",
        expected=expected,
        received=repr(value),
    )


def words(value: object) -> tuple[str, ...]:
    """DeBERTa's lists, written `p2c|c2p` in older files and as a list in newer ones."""
    if value is None:
        return ()
    parts = value.split("|") if isinstance(value, str) else list(value) if isinstance(value, (list, tuple)) else []
    return tuple(str(part).strip().lower() for part in parts)


def body(
    config: Config,
    *,
    hidden: str = "hidden_size",
    layers: str = "num_hidden_layers",
    heads: str = "num_attention_heads",
) -> tuple[int, int, int]:
    """Width, blocks and heads; the width must split evenly over the heads."""
    width, depth, parts = whole(config, hidden), whole(config, layers), whole(config, heads)
    if width % parts:
        raise BackboneError(
            f"the backbone's {hidden} is not a multiple of its {heads}",
            where="config",
            expected=f"a multiple of {parts}",
            received=width,
        )
    return width, depth, parts
