"""Strategies: how a number of parameters becomes a rank for each matrix.

A strategy takes the matrices it may adapt and what it may spend, and returns a rank for each matrix it adapts. It
never spends more, and uses at most three different ranks, so that a person can read the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from .specs import HeadSpec

Ranks = dict[str, int]


@dataclass(frozen=True)
class Candidate:
    """A matrix that a strategy may adapt.

    Attributes:
        name: full name of the linear layer.
        layer: its block.
        role: what it does there.
        per_rank: parameters that cost as much for each rank, in_features + out_features of LoRA.
        fixed: parameters that adapting it costs at any rank (a bias, DoRA's magnitudes).
        full_rank: above it a rank adds parameters but no freedom.
        per_square: parameters for each square of the rank: 1 for LoRA-XS, whose cores are (r, r).
    """

    name: str
    layer: int
    role: str
    per_rank: int
    fixed: int
    full_rank: int
    per_square: int = 0

    def price(self, rank: int) -> int:
        """Parameters that adapting it at a rank costs."""
        return rank * self.per_rank + rank**2 * self.per_square + self.fixed

    def step(self, rank: int, higher: int | None = None) -> int:
        """Parameters that raising it from a rank to a higher one costs, the next if not given."""
        return self.price(rank + 1 if higher is None else higher) - self.price(rank)


@dataclass(frozen=True)
class Limits:
    """Limits that a strategy must observe.

    Attributes:
        budget: parameters for the adapter.
        min_rank: smallest rank worth having.
        max_rank: largest rank allowed.
        forced: names that are adapted whatever the strategy prefers.
    """

    budget: int
    min_rank: int
    max_rank: int
    forced: frozenset[str] = frozenset()


class Strategy(Protocol):
    """Chooses a rank for each matrix it adapts; an empty choice means that nothing fits."""

    def __call__(self, candidates: Sequence[Candidate], limits: Limits) -> Ranks: ...


@dataclass(frozen=True)
class AutoRule:
    """The strategy and head that `auto` uses up to a budget.

    Attributes:
        up_to: the largest budget the rule is for, None for the rest.
        strategy: a name in `STRATEGIES`.
        head: the head it chooses.
    """

    up_to: int | None
    strategy: str
    head: HeadSpec


AUTO: tuple[AutoRule, ...] = (
    AutoRule(20_000, "graded", HeadSpec("linear")),  # what little there is, at the top (docs/evidence.md)
    AutoRule(None, "all-linear", HeadSpec("linear")),
)
# `auto` takes LoRA-XS where LoRA does not reach this rank on every linear layer (docs/log.md; benchmarks/methods.py).
LORA_FROM_RANK = 2
TOP_SHARE = 0.5  # the share of the blocks that `top` adapts
BANDS = (1, 2, 3)  # how the ranks of `graded` relate, from the lowest third of the blocks to the highest
ATTENTION_ROLES = frozenset({"query", "key", "value", "qkv", "attention_output", "position_key", "position_query"})
# Which matrices to prefer in a block when the budget does not reach for all of it: Hu et al. 2021, table 5, find query
# and value the best pair.
_PREFERRED = ("value", "query", "qkv", "ffn_output", "attention_output", "ffn_input", "key")


def spent(candidates: Iterable[Candidate], ranks: Mapping[str, int]) -> int:
    """Parameters that `ranks` costs."""
    return sum(one.price(ranks[one.name]) for one in candidates if one.name in ranks)


def largest(high: int, fits: Callable[[int], bool]) -> int:
    """The largest number from 1 to `high` that fits, 0 for none; what fits at a number fits below it."""
    low = 0
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low


def uniform(candidates: Sequence[Candidate], limits: Limits) -> Ranks:
    """One rank everywhere; what a whole rank cannot use is left over."""
    rank = _even_rank(candidates, limits)
    return dict.fromkeys((one.name for one in candidates), rank) if rank >= limits.min_rank else {}


def fill(candidates: Sequence[Candidate], limits: Limits) -> Ranks:
    """One rank everywhere and one more in the upper blocks; fewer blocks, from the bottom, when that does not fit."""
    ranks = uniform(candidates, limits)
    if ranks:
        return _raise_upper(candidates, ranks, limits)
    kept = _whole_blocks(candidates, limits)
    if not any(one.name not in limits.forced for one in kept):
        kept = [*kept, *_some_matrices(candidates, kept, limits)]
    return _raise_upper(kept, uniform(kept, limits), limits) if kept else {}


def top(candidates: Sequence[Candidate], limits: Limits) -> Ranks:
    """Only the upper blocks, filled: everything below is computed once and cached."""
    blocks = sorted({one.layer for one in candidates})
    lowest = blocks[len(blocks) - max(1, round(len(blocks) * TOP_SHARE))] if blocks else 0
    return fill([one for one in candidates if one.layer >= lowest or one.name in limits.forced], limits)


def graded(candidates: Sequence[Candidate], limits: Limits) -> Ranks:
    """Ranks rising with depth, 1 : 2 : 3 by thirds of the blocks; fewer blocks when that does not fit."""
    blocks = sorted({one.layer for one in candidates})
    for first in range(len(blocks)):
        upper = blocks[first:]
        kept = [one for one in candidates if one.layer in upper or one.name in limits.forced]
        weight = {layer: BANDS[len(BANDS) * place // len(upper)] for place, layer in enumerate(upper)}
        weights = {one.name: weight.get(one.layer, BANDS[0]) for one in kept}
        unit = _graded_unit(kept, weights, limits)
        if unit >= limits.min_rank:
            ranks = {one.name: min(limits.max_rank, unit * weights[one.name]) for one in kept}
            return _raise_bands(kept, ranks, limits)
    return fill(candidates, limits)


STRATEGIES: dict[str, Strategy] = {
    "uniform": uniform,
    "top": top,
    "graded": graded,
    "attention": fill,
    "all-linear": fill,
}


def auto_rule(budget: int) -> AutoRule:
    """The rule of `AUTO` for a budget."""
    return next(rule for rule in AUTO if rule.up_to is None or budget <= rule.up_to)


def _even_rank(candidates: Sequence[Candidate], limits: Limits) -> int:
    """The largest rank all candidates can have together, 0 for none."""
    if not candidates:
        return 0
    return largest(limits.max_rank, lambda rank: sum(one.price(rank) for one in candidates) <= limits.budget)


def _whole_blocks(candidates: Sequence[Candidate], limits: Limits) -> list[Candidate]:
    """The forced candidates, and as many blocks from the top as fit at the lowest rank."""
    kept = [one for one in candidates if one.name in limits.forced]
    for layer in sorted({one.layer for one in candidates}, reverse=True):
        wider = [
            *kept,
            *(one for one in candidates if one.layer == layer and one.name not in limits.forced),
        ]
        if _even_rank(wider, limits) < limits.min_rank:
            break
        kept = wider
    return kept


def _some_matrices(candidates: Sequence[Candidate], kept: Sequence[Candidate], limits: Limits) -> list[Candidate]:
    """When not one block fits: the matrices that spend the most at the lowest rank, uppermost first."""
    taken = {one.name for one in kept}
    left = limits.budget - spent(kept, dict.fromkeys(taken, limits.min_rank))
    offered = _by_preference(one for one in candidates if one.name not in taken)
    return _best_subset(offered, left, lambda one: one.price(limits.min_rank))


def _raise_upper(candidates: Sequence[Candidate], ranks: Ranks, limits: Limits) -> Ranks:
    """Spend the remainder on one more rank, from the top."""
    offered = [one for one in candidates if ranks[one.name] < limits.max_rank]
    left = limits.budget - spent(candidates, ranks)
    raised = _from_the_top(offered, left, lambda one: one.step(ranks[one.name]))
    return ranks | {one.name: ranks[one.name] + 1 for one in raised}


def _graded_unit(candidates: Sequence[Candidate], weights: Mapping[str, int], limits: Limits) -> int:
    """The rank of the lowest band: the largest that fits, 0 for none."""

    def fits(unit: int) -> bool:
        return sum(one.price(unit * weights[one.name]) for one in candidates) <= limits.budget

    return largest(limits.max_rank, fits) if candidates else 0


def _raise_bands(candidates: Sequence[Candidate], ranks: Ranks, limits: Limits) -> Ranks:
    """Spend the remainder by moving the bands' borders down: matrices take the next band's rank, from the top.

    Where that leaves less than three different ranks, the highest band's upper matrices get one more.
    """
    levels = sorted(set(ranks.values()))
    following = dict(pairwise(levels))
    offered = [one for one in candidates if ranks[one.name] in following]
    left = limits.budget - spent(candidates, ranks)
    raised = _from_the_top(offered, left, lambda one: one.step(ranks[one.name], following[ranks[one.name]]))
    moved = ranks | {one.name: following[ranks[one.name]] for one in raised}
    highest = max(moved.values())
    if len(set(moved.values())) == len(BANDS) or highest == limits.max_rank:
        return moved
    upper = [one for one in candidates if moved[one.name] == highest]
    raised = _from_the_top(upper, limits.budget - spent(candidates, moved), lambda one: one.step(highest))
    return moved | {one.name: highest + 1 for one in raised}


def _from_the_top(offered: Sequence[Candidate], left: int, price: Callable[[Candidate], int]) -> list[Candidate]:
    """Whole blocks while they fit, then the single matrices below that spend the most of what is left.

    Those are sought in as few blocks as leave too little for any other, so that the plan stays short.
    """
    chosen: list[Candidate] = []
    blocks = sorted({one.layer for one in offered}, reverse=True)
    for place, layer in enumerate(blocks):
        block = [one for one in offered if one.layer == layer]
        if sum(map(price, block)) > left:
            below = _by_preference(one for one in offered if one.layer <= layer)
            for lowest in blocks[place:]:
                single = _best_subset([one for one in below if one.layer >= lowest], left, price)
                after = left - sum(map(price, single))
                if all(price(one) > after for one in below if one not in single):
                    break
            return chosen + single
        chosen += block
        left -= sum(map(price, block))
    return chosen


def _by_preference(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Upper blocks first, and in a block the matrices that help most."""
    order = {role: place for place, role in enumerate(_PREFERRED)}
    return sorted(candidates, key=lambda one: (-one.layer, order.get(one.role, len(order)), one.name))


def _best_subset(candidates: Sequence[Candidate], left: int, price: Callable[[Candidate], int]) -> list[Candidate]:
    """The candidates that together spend the most of `left`; of equals, the first in order.

    Few different prices make few different sums, so every reachable sum is kept with the first choice that made it.
    """
    reachable: dict[int, tuple[Candidate, ...]] = {0: ()}
    for one in candidates:
        for total, chosen in list(reachable.items()):
            reached = total + price(one)
            if reached <= left:
                reachable.setdefault(reached, (*chosen, one))
    return list(reachable[max(reachable)])
