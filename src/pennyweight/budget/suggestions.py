"""The error for a setting over the budget: its parameters, the excess, its parts, and the nearest settings that fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from ..errors import BudgetError, RecipeError
from .architecture import describe, head_parameters, size
from .config_fields import Config
from .count import Count, count, head_shapes, layers_in_words
from .specs import AdapterSpec, HeadSpec
from .strategies import largest
from .targets import ranks, resolve_targets

LINEAR = HeadSpec("linear")


def over_budget(
    config: Config, counted: Count, adapter: AdapterSpec | None, head: HeadSpec, labels: int, budget: int
) -> BudgetError:
    """The error for a counted setting that trains more than `budget` parameters."""
    parts = sorted(counted.parts, key=lambda part: -part.parameters)
    return BudgetError(
        f"the setting trains {counted.trainable:,} parameters, {counted.trainable - budget:,} over the budget",
        expected=f"at most {budget:,}",
        received=" + ".join(f"{_named(part.name, part.kind)} {part.parameters:,}" for part in parts),
        remedy=_remedy(config, adapter, head, labels, budget),
    )


def head_over_budget(config: Config, head: HeadSpec, labels: int, budget: int) -> BudgetError:
    """The error for a head that alone is more than `budget` parameters."""
    needed = size(head_shapes(config, head, labels))
    return BudgetError(
        f"the {head.kind} head alone trains {needed:,} parameters, {needed - budget:,} over the budget",
        expected=f"at most {budget:,}",
        remedy=_remedy(config, None, head, labels, budget),
    )


def smallest(config: Config, labels: int) -> int:
    """Parameters of the smallest classifier there is: a linear head and no adapter."""
    return size(head_shapes(config, LINEAR, labels))


def _named(name: str, kind: str) -> str:
    return f"{name} head" if kind == "head" else name


def _remedy(config: Config, adapter: AdapterSpec | None, head: HeadSpec, labels: int, budget: int) -> str:
    if budget < smallest(config, labels):
        return f"the smallest that works is a budget of {smallest(config, labels):,} (linear head, no adapter)"
    fitting = _smaller_heads(config, head, labels, budget)
    if adapter is not None:
        fitting = _smaller_adapters(config, adapter, head, labels, budget)
    return "what fits: " + "; ".join(fitting)


def _smaller_adapters(config: Config, adapter: AdapterSpec, head: HeadSpec, labels: int, budget: int) -> Iterator[str]:
    """The nearest settings that fit, each counted: one thing changed where that is enough, otherwise more."""

    def changed(spec: AdapterSpec, with_head: HeadSpec) -> Iterator[tuple[AdapterSpec, str]]:
        def fits(smaller: AdapterSpec) -> bool:
            return trained(smaller, with_head) <= budget

        for change in (_lower_rank(spec, fits), _fewer_layers(config, spec, fits), _no_bias(spec, fits)):
            if change is not None:
                yield change

    def trained(spec: AdapterSpec, with_head: HeadSpec) -> int:
        return count(config, adapter=spec, head=with_head, labels=labels).trainable

    found = [f"{words} ({trained(spec, head):,})" for spec, words in changed(adapter, head)]
    if head.kind != "linear":
        if trained(adapter, LINEAR) <= budget:
            found.append(f"a linear head ({trained(adapter, LINEAR):,})")
        else:
            smaller = changed(adapter, LINEAR)
            found += [f"{words} with a linear head ({trained(spec, LINEAR):,})" for spec, words in smaller]
    if not found:
        found += _last_resort(config, adapter, labels, budget)
    yield from found or [f"a linear head and no adapter ({smallest(config, labels):,})"]


def _last_resort(config: Config, adapter: AdapterSpec, labels: int, budget: int) -> list[str]:
    """With a linear head and no biases: a lower rank, otherwise rank 1 in fewer layers."""
    bare = replace(adapter, bias="none")

    def trained(spec: AdapterSpec) -> int:
        return count(config, adapter=spec, head=LINEAR, labels=labels).trainable

    def fits(spec: AdapterSpec) -> bool:
        return trained(spec) <= budget

    lower = _lower_rank(bare, fits)
    fewer = _fewer_layers(config, _held_to(bare, 1), fits)
    if lower is None and fewer is not None:
        lower = fewer[0], f"r=1 on {fewer[1]}"
    with_bias = ", no biases" if adapter.bias != "none" else ""
    return [] if lower is None else [f"{lower[1]}{with_bias} with a linear head ({trained(lower[0]):,})"]


def _smaller_heads(config: Config, head: HeadSpec, labels: int, budget: int) -> Iterator[str]:
    def needs(smaller: HeadSpec) -> int:
        return size(head_shapes(config, smaller, labels))

    dense = describe(config).own_head.dense
    width = min(head_parameters(config, labels)[f"{dense}.weight"])
    if head.kind != "linear":
        rank = largest(width, lambda k: needs(HeadSpec("low_rank", k)) <= budget)
        if rank:
            yield f"a low_rank head of rank {rank} ({needs(HeadSpec('low_rank', rank)):,})"
        if needs(LINEAR) <= budget:
            yield f"a linear head ({needs(LINEAR):,})"


def _lower_rank(adapter: AdapterSpec, fits: Callable[[AdapterSpec], bool]) -> tuple[AdapterSpec, str] | None:
    """The largest rank that fits."""
    highest = max([adapter.r, *adapter.rank_pattern.values()])
    rank = largest(highest - 1, lambda r: fits(_held_to(adapter, r)))
    words = f"ranks capped at {rank}" if adapter.rank_pattern else f"r={rank}"
    return (_held_to(adapter, rank), words) if rank else None


def _held_to(adapter: AdapterSpec, rank: int) -> AdapterSpec:
    """The adapter with no rank above `rank`."""
    patterns = {key: min(at, rank) for key, at in adapter.rank_pattern.items()}
    return replace(adapter, r=min(adapter.r, rank), rank_pattern=patterns)


def _fewer_layers(
    config: Config, adapter: AdapterSpec, fits: Callable[[AdapterSpec], bool]
) -> tuple[AdapterSpec, str] | None:
    """The most upper layers that fit."""
    layers = sorted({module.layer for module in resolve_targets(config, adapter.target_modules, adapter.layers)})
    try:
        ranks(config, replace(adapter, layers=tuple(layers[-1:])))
    except RecipeError:  # a target or a pattern names a layer of its own, so the layers are not free to change
        return None
    number = largest(len(layers) - 1, lambda n: fits(replace(adapter, layers=tuple(layers[-n:]))))
    if not number:
        return None
    kept = tuple(layers[-number:])
    return replace(adapter, layers=kept), f"{layers_in_words(kept)} only"


def _no_bias(adapter: AdapterSpec, fits: Callable[[AdapterSpec], bool]) -> tuple[AdapterSpec, str] | None:
    without = replace(adapter, bias="none")
    return (without, "bias none") if adapter.bias != "none" and fits(without) else None
