"""The linear layers that a setting selects (by PEFT 0.21's rules), and how to express a selection for PEFT."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from ..errors import RecipeError
from .architecture import LinearLayer, describe, linear_modules
from .config_fields import Config
from .specs import AdapterSpec

T = TypeVar("T")

_ATTENTION = frozenset({"query", "key", "value", "qkv", "attention_output"})
GROUPS = {"attention": _ATTENTION, "all-linear": None}  # None: every role

# Names that mean the same role in every architecture, for a module that is called otherwise there: the neutral roles,
# and BERT's names, in which most published recipes are written.
_ROLES: dict[str, frozenset[str]] = {
    "query": frozenset({"query", "qkv"}),
    "key": frozenset({"key", "qkv"}),
    "value": frozenset({"value", "qkv"}),
    "attention_output": frozenset({"attention_output"}),
    "ffn_input": frozenset({"ffn_input"}),
    "ffn_output": frozenset({"ffn_output"}),
    "attention.output.dense": frozenset({"attention_output"}),
    "intermediate.dense": frozenset({"ffn_input"}),
    "output.dense": frozenset({"attention_output", "ffn_output"}),
    "dense": frozenset({"attention_output", "ffn_input", "ffn_output"}),
}


def resolve_targets(
    config: Config,
    target_modules: Sequence[str],
    layers: Sequence[int] | None = None,
    *,
    where: str = "adapter -> target_modules",
) -> tuple[LinearLayer, ...]:
    """The linear layers that `target_modules` names, bottom block first.

    An entry is read as PEFT reads it (a full name, or the tail of one after a dot); only if that matches nothing, as a
    group or as a role. Linear layers outside the blocks are never targets.

    Args:
        config: fields of the backbone's `config.json`.
        target_modules: suffixes, roles or groups.
        layers: blocks to keep; None for all.
        where: the setting to name in an error.

    Raises:
        RecipeError: an entry that matches nothing (the message lists what would), or a layer that does not exist.
    """
    modules = linear_modules(config)
    kept = _kept_layers(config, layers)
    if isinstance(target_modules, str) or not target_modules:
        raise RecipeError(
            "no target module is given", where=where, expected=_choices(modules), received=repr(target_modules)
        )
    chosen: set[str] = set()
    for entry in target_modules:
        matched = {module.name for module in _matches(entry, modules) if module.layer in kept}
        if not matched:
            raise RecipeError(
                "the target module matches nothing", where=where, expected=_choices(modules), received=repr(entry)
            )
        chosen |= matched
    return tuple(module for module in modules if module.name in chosen)


def ranks(config: Config, adapter: AdapterSpec) -> dict[str, int]:
    """Name of every adapted linear layer to its rank.

    Raises:
        RecipeError: see `resolve_targets`; also a pattern that matches no adapted layer, which PEFT would only warn of.
    """
    names = [module.name for module in resolve_targets(config, adapter.target_modules, adapter.layers)]
    for setting, patterns in (("rank_pattern", adapter.rank_pattern), ("alpha_pattern", adapter.alpha_pattern)):
        for key in patterns:
            if not any(pattern_key((key,), name) for name in names):
                raise RecipeError(
                    "the pattern matches no adapted module",
                    where=f"adapter -> {setting}",
                    expected="the end of a name such as " + names[0],
                    received=repr(key),
                )
    return {name: _value(adapter.rank_pattern, name, adapter.r) for name in names}


def scales(config: Config, adapter: AdapterSpec) -> dict[str, float]:
    """Name of every adapted linear layer to the s of W0 + s BA."""
    result = {}
    for name, rank in ranks(config, adapter).items():
        alpha = _value(adapter.alpha_pattern, name, adapter.lora_alpha)
        divisor = 1.0 if adapter.scaling == "alpha" else math.sqrt(rank) if adapter.use_rslora else float(rank)
        result[name] = alpha / divisor
    return result


def pattern_key(patterns: Iterable[str], name: str) -> str | None:
    """The first pattern that matches `name`, as `peft.utils.other.get_pattern_key` decides it; None if none does."""
    return next((key for key in patterns if re.match(rf"(.*\.)?({key})$", name)), None)


def express(config: Config, chosen: Sequence[LinearLayer]) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
    """The shortest `target_modules` and `layers` from which PEFT selects exactly `chosen`.

    Suffixes and whole blocks where that is exact, otherwise full names and no layers.
    """
    names = {module.name for module in chosen}
    blocks = tuple(sorted({module.layer for module in chosen}))
    layers = None if len(blocks) == describe(config).layers else blocks
    suffixes = tuple(dict.fromkeys(module.suffix for module in linear_modules(config) if module.name in names))
    # `output.dense` already ends `attention.output.dense`.
    short = tuple(s for s in suffixes if not any(s != other and s.endswith("." + other) for other in suffixes))
    if {module.name for module in resolve_targets(config, short, layers)} == names:
        return short, layers
    return tuple(module.name for module in linear_modules(config) if module.name in names), None


def lora_arguments(config: Config, adapter: AdapterSpec) -> dict[str, Any]:
    """Keyword arguments for `peft.LoraConfig` that make PEFT build exactly this adapter.

    Roles and groups become the architecture's own names, and with `scaling="alpha"` alpha is multiplied by each rank,
    which PEFT divides by again.
    """
    by_name = ranks(config, adapter)
    targets, layers = express(config, [module for module in linear_modules(config) if module.name in by_name])
    arguments: dict[str, Any] = {
        "r": adapter.r,
        "lora_alpha": adapter.lora_alpha,
        "lora_dropout": adapter.lora_dropout,
        "bias": adapter.bias,
        "use_rslora": adapter.use_rslora,
        "use_dora": adapter.use_dora,
        "target_modules": list(targets),
        "rank_pattern": dict(adapter.rank_pattern),
        "alpha_pattern": dict(adapter.alpha_pattern),
    }
    if adapter.scaling == "alpha":
        arguments["lora_alpha"] = adapter.lora_alpha * adapter.r
        arguments["alpha_pattern"] = _undivided(adapter, by_name)
    if layers is not None:
        arguments["layers_to_transform"] = list(layers)
        # Without the pattern PEFT overlooks `layers.0...` at the root of a bare encoder.
        arguments["layers_pattern"] = describe(config).stack.rpartition(".")[2]
    return arguments


def _undivided(adapter: AdapterSpec, by_name: Mapping[str, int]) -> dict[str, float]:
    """Alpha times rank wherever that differs from the default's."""
    if not adapter.alpha_pattern:
        return {key: adapter.lora_alpha * rank for key, rank in adapter.rank_pattern.items()}
    products = {name: _value(adapter.alpha_pattern, name, adapter.lora_alpha) * rank for name, rank in by_name.items()}
    default = adapter.lora_alpha * adapter.r
    return {re.escape(name): product for name, product in products.items() if product != default}


def _value(patterns: Mapping[str, T], name: str, default: T) -> T:
    key = pattern_key(patterns, name)
    return default if key is None else patterns[key]


def _matches(entry: str, modules: Sequence[LinearLayer]) -> list[LinearLayer]:
    by_name = [module for module in modules if module.name == entry or module.name.endswith("." + entry)]
    if by_name:
        return by_name
    if entry in GROUPS:
        roles = GROUPS[entry]
        return [module for module in modules if roles is None or module.role in roles]
    return [module for module in modules if module.role in _ROLES.get(entry, ())]


def _choices(modules: Sequence[LinearLayer]) -> str:
    suffixes = dict.fromkeys(module.suffix for module in modules)
    return "one of " + ", ".join([*suffixes, *GROUPS])


def _kept_layers(config: Config, layers: Sequence[int] | None) -> frozenset[int]:
    count = describe(config).layers
    if layers is None:
        return frozenset(range(count))
    wrong = [layer for layer in layers if isinstance(layer, bool) or layer not in range(count)]
    if wrong or not layers:
        raise RecipeError(
            "no such layer" if wrong else "no layer is given",
            where="adapter -> layers",
            expected=f"whole numbers from 0 to {count - 1}",
            received=", ".join(map(repr, wrong)) or "none",
        )
    return frozenset(layers)
