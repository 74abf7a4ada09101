"""Allocating a budget: which matrices may be adapted, the ranks that a strategy gives them, and why."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from ..errors import BudgetError
from .architecture import LinearLayer, describe, encoder_parameters, linear_modules, size
from .config_fields import Config
from .count import Count, bias_parameters, count, head_shapes
from .reasons import head_price, head_reason, left_over_reason, method_reasons, strategy_reasons
from .specs import XS_ALPHA, AdapterSettings, AdapterSpec, HeadSpec, contradiction, positive_whole, xs_alpha
from .strategies import ATTENTION_ROLES, LORA_FROM_RANK, STRATEGIES, Candidate, Limits, Ranks, auto_rule, spent
from .suggestions import head_over_budget
from .targets import express, resolve_targets

RSLORA_ALPHA = 16.0


@dataclass(frozen=True, kw_only=True)
class PlanOptions(AdapterSettings):
    """The planner's choices; every strategy except `manual` reads them.

    Attributes:
        target_modules: matrices that may be adapted, for `uniform`, `top`, `graded` and `auto`; None for every linear
            layer.
        layers: blocks that may be adapted; None for all.
        min_rank: smallest rank worth having.
        max_rank: largest rank; None for the full rank of the smallest matrix.
        frozen: modules that are not adapted.
        forced: modules that are adapted whatever the strategy prefers.
        alpha: alpha for each rank, so that matrices are scaled alike: lora_alpha = alpha * r.
        least_alpha: and at least this, because the smallest ranks learn too little at the same rate (docs/evidence.md).
            LoRA-XS has an alpha of its own, `specs.xs_alpha`.
    """

    target_modules: tuple[str, ...] | None = None
    layers: tuple[int, ...] | None = None
    min_rank: int = 1
    max_rank: int | None = None
    frozen: tuple[str, ...] = ()
    forced: tuple[str, ...] = ()
    alpha: float = 2.0
    least_alpha: float = 8.0


@dataclass(frozen=True)
class Allocation:
    """A strategy's choice within a budget; see `plan.Plan`."""

    adapter: AdapterSpec | None
    head: HeadSpec
    count: Count
    why: tuple[str, ...]


def allocate(
    config: Config, labels: int, budget: int, strategy: str, head: HeadSpec | None, options: PlanOptions
) -> Allocation:
    """Count the head first, then give the ranks what is left: see `plan.plan`."""
    rule = auto_rule(budget)
    followed = rule.strategy if strategy == "auto" else strategy
    head = head or (rule.head if strategy == "auto" else HeadSpec())
    _check(strategy, options)
    head_size = size(head_shapes(config, head, labels))
    if head_size > budget:
        raise head_over_budget(config, head, labels, budget)
    linears = _adaptable(config, followed, options)
    options, starved = _with_method(linears, budget - head_size, strategy, options)
    if strategy == "auto" and options.adapter == "lora-xs":
        followed = "all-linear"
    candidates = [_candidate(linear, options) for linear in linears]
    limits = _limits(config, candidates, budget - head_size, options)
    _check_forced(candidates, limits, budget)
    ranks = STRATEGIES[followed](candidates, limits)
    if not ranks and followed == "uniform":
        raise _uniform_does_not_fit(candidates, limits, budget)
    adapter = _adapter(config, linears, ranks, options) if ranks else None
    counted = count(config, adapter=adapter, head=head, labels=labels)
    everywhere = len(ranks) == len(candidates)
    why = (
        *strategy_reasons(strategy, followed, candidates, ranks, limits),
        *([] if adapter is None else method_reasons(options, counted, chosen=starved, everywhere=everywhere)),
        head_reason(config, head, labels),
        *head_price(config, head, labels, budget),
        *([] if adapter is None else [_alpha_rule(options)]),
        left_over_reason(followed, candidates, ranks, limits, budget - counted.trainable),
    )
    return Allocation(adapter, head, counted, why)


def _with_method(
    linears: Sequence[LinearLayer], spend: int, strategy: str, options: PlanOptions
) -> tuple[PlanOptions, int | None]:
    """The options with `adapter` decided, and what LoRA would have cost where it was too much."""
    if options.adapter != "auto":
        return options, None
    lora = replace(options, adapter="lora")
    needed = sum(_candidate(linear, lora).price(LORA_FROM_RANK) for linear in linears)
    if strategy != "auto" or not options.is_plain or needed <= spend:
        return lora, None
    return replace(options, adapter="lora-xs"), needed


def _check(strategy: str, options: PlanOptions) -> None:
    positive_whole(options.min_rank, "min_rank")
    if options.max_rank is not None and positive_whole(options.max_rank, "max_rank") < options.min_rank:
        raise contradiction(f"min_rank {options.min_rank}", f"max_rank {options.max_rank}", "no rank is between them")
    if strategy in ("attention", "all-linear") and options.target_modules is not None:
        raise contradiction(f"strategy {strategy}", "target_modules", "the strategy chooses the modules itself")
    if strategy == "top" and options.layers is not None:
        raise contradiction("strategy top", "layers", "the strategy chooses the layers itself")


def _adaptable(config: Config, strategy: str, options: PlanOptions) -> tuple[LinearLayer, ...]:
    """The linear layers a strategy may adapt, frozen ones left out and forced ones added."""
    offered = resolve_targets(config, options.target_modules or ("all-linear",), options.layers)
    if strategy == "attention":
        offered = tuple(linear for linear in offered if linear.role in ATTENTION_ROLES)
    frozen = _names(config, options.frozen, "frozen_modules")
    forced = _names(config, options.forced, "forced_modules", options.layers)
    both = sorted(frozen & forced)
    if both:
        raise contradiction("frozen_modules", "forced_modules", f"both name {both[0]}")
    wanted = ({linear.name for linear in offered} | forced) - frozen
    if not wanted:
        raise contradiction("frozen_modules", "the modules that may be adapted", "no modules are left to adapt")
    return tuple(linear for linear in linear_modules(config) if linear.name in wanted)


def _names(config: Config, entries: Sequence[str], where: str, layers: Sequence[int] | None = None) -> frozenset[str]:
    if not entries:
        return frozenset()
    return frozenset(linear.name for linear in resolve_targets(config, entries, layers, where=where))


def _candidate(linear: LinearLayer, options: PlanOptions) -> Candidate:
    fixed = linear.out_features * (options.use_dora + (options.bias == "lora_only" and linear.bias))
    per_rank = linear.in_features + linear.out_features + options.adaptive_ranks  # one singular value a rank
    core = options.adapter == "lora-xs"
    return Candidate(
        name=linear.name,
        layer=linear.layer,
        role=linear.role,
        per_rank=0 if core else per_rank,
        fixed=fixed,
        full_rank=min(linear.in_features, linear.out_features),
        per_square=int(core),
    )


def _limits(config: Config, candidates: Sequence[Candidate], spend: int, options: PlanOptions) -> Limits:
    if options.bias == "all":
        spend -= bias_parameters(encoder_parameters(config))
    full_rank = min(one.full_rank for one in candidates)
    highest = max(full_rank, options.min_rank)
    max_rank = options.max_rank or highest
    if options.adapter == "lora-xs":
        max_rank = min(max_rank, highest)  # a core larger than its matrix does not exist
    return Limits(
        budget=spend,
        min_rank=options.min_rank,
        max_rank=max_rank,
        forced=_names(config, options.forced, "forced_modules", options.layers),
    )


def _check_forced(candidates: Sequence[Candidate], limits: Limits, budget: int) -> None:
    needed = spent(candidates, dict.fromkeys(limits.forced, limits.min_rank))
    if limits.forced and needed > limits.budget:
        raise BudgetError(
            f"the forced modules do not fit the budget of {budget:,}",
            expected=f"{budget + needed - limits.budget:,} or more, the smallest that works at rank {limits.min_rank}",
            received=f"{budget:,}",
        )


def _uniform_does_not_fit(candidates: Sequence[Candidate], limits: Limits, budget: int) -> BudgetError:
    needed = spent(candidates, {one.name: limits.min_rank for one in candidates})
    return BudgetError(
        f"rank {limits.min_rank} everywhere does not fit the budget of {budget:,}",
        expected=f"{budget + needed - limits.budget:,} or more, the smallest that works",
        received=f"{budget:,}",
        remedy="choose fewer target_modules or layers, or strategy auto, which adapts what fits",
    )


def _adapter(config: Config, linears: Sequence[LinearLayer], ranks: Ranks, options: PlanOptions) -> AdapterSpec:
    chosen = [linear for linear in linears if linear.name in ranks]
    targets, layers = express(config, chosen)
    frequent = Counter(ranks.values())
    base = min(frequent, key=lambda rank: (-frequent[rank], rank))
    rank_pattern = _patterns(config, ranks, base)
    return AdapterSpec(
        r=base,
        lora_alpha=_alpha(options, base),
        target_modules=targets,
        layers=layers,
        rank_pattern=rank_pattern,
        alpha_pattern={
            key: _alpha(options, rank)
            for key, rank in rank_pattern.items()
            if _alpha(options, rank) != _alpha(options, base)
        },
        **{field.name: getattr(options, field.name) for field in fields(AdapterSettings)},
    )


def adapter_with_ranks(config: Config, ranks: Ranks) -> AdapterSpec:
    """The LoRA adapter that has exactly these ranks, W = W0 + BA: alpha is the rank everywhere.

    Args:
        ranks: full name of a linear layer to its rank, 1 or more; at least one.
    """
    chosen = [linear for linear in linear_modules(config) if linear.name in ranks]
    return _adapter(config, chosen, ranks, PlanOptions(alpha=1.0, least_alpha=0.0))


def _patterns(config: Config, ranks: Mapping[str, int], base: int) -> dict[str, int]:
    """Regular expressions for the matrices whose rank is not `base`, one for all whole blocks of a rank.

    They start at the block stack's name, because a bare `output.dense` would also match `attention.output.dense`.
    """
    stack = re.escape(describe(config).stack)
    blocks: dict[int, dict[str, int]] = {}
    for name, rank in ranks.items():
        number, _, path = name[len(describe(config).stack) + 1 :].partition(".")
        blocks.setdefault(int(number), {})[path] = rank
    patterns: dict[str, int] = {}
    for rank in sorted(set(ranks.values()) - {base}, reverse=True):
        whole = [layer for layer, paths in sorted(blocks.items()) if set(paths.values()) == {rank}]
        if whole:
            patterns[rf"{stack}\.{_either(map(str, whole))}\..+"] = rank
        for layer, paths in sorted(blocks.items()):
            some = [re.escape(path) for path, at in paths.items() if at == rank]
            if some and layer not in whole:
                patterns[rf"{stack}\.{layer}\.{_either(some)}"] = rank
    return patterns


def _either(choices: Iterable[str]) -> str:
    listed = list(choices)
    return listed[0] if len(listed) == 1 else f"({'|'.join(listed)})"


def _alpha(options: PlanOptions, rank: int) -> float:
    if options.adapter == "lora-xs":
        return xs_alpha(rank)
    if options.scaling == "alpha":
        return options.alpha
    return RSLORA_ALPHA if options.use_rslora else max(options.alpha * rank, options.least_alpha)


def _alpha_rule(options: PlanOptions) -> str:
    if options.adapter == "lora-xs":
        return f"alpha: {XS_ALPHA:g} sqrt(r), so one learning rate suits all ranks"
    if options.scaling == "alpha":
        return f"alpha: {options.alpha:g} is the scale itself, the same at every rank"
    if options.use_rslora:
        return f"alpha: {RSLORA_ALPHA:g} at every rank, scaled by alpha / sqrt(r)"
    enough = options.least_alpha / options.alpha  # the rank from which the floor does not matter
    below = f"; {options.least_alpha:g} / r below rank {enough:g}" if enough > 1 else ""
    return f"alpha: {options.alpha:g} r, so that a matrix is scaled by {options.alpha:g} whatever its rank{below}"
