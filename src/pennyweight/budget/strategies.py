"""Ranks for every matrix, given a number of parameters to spend.

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
class Item:
    """A matrix on offer.

    Attributes:
        name: full name of the linear layer.
        layer: its block.
        role: what it does there.
        step: parameters one more rank costs, in_features + out_features.
        fixed: parameters being adapted costs at any rank (a bias, DoRA's magnitudes).
        cap: its full rank, above which a rank adds parameters but no freedom.
    """

    name: str
    layer: int
    role: str
    step: int
    fixed: int
    cap: int


@dataclass(frozen=True)
class Purse:
    """What a strategy may do.

    Attributes:
        spend: parameters for the adapter.
        low: smallest rank worth having.
        high: largest rank allowed.
        forced: names that are adapted whatever the strategy prefers.
    """

    spend: int
    low: int
    high: int
    forced: frozenset[str] = frozenset()


class Strategy(Protocol):
    """Chooses a rank for each matrix it adapts; an empty choice means that nothing fits."""

    def __call__(self, items: Sequence[Item], purse: Purse) -> Ranks: ...


@dataclass(frozen=True)
class AutoRule:
    """What `auto` does up to a budget.

    Attributes:
        up_to: the largest budget the rule is for, None for the rest.
        strategy: a name in `STRATEGIES`.
        head: the head it buys.
    """

    up_to: int | None
    strategy: str
    head: HeadSpec


AUTO: tuple[AutoRule, ...] = (
    AutoRule(20_000, "graded", HeadSpec("linear")),  # what little there is, at the top (docs/evidence.md)
    AutoRule(None, "all-linear", HeadSpec("linear")),
)
TOP_SHARE = 0.5  # the share of the blocks that `top` adapts
BANDS = (1, 2, 3)  # how the ranks of `graded` relate, from the lowest third of the blocks to the highest
ATTENTION_ROLES = frozenset({"query", "key", "value", "qkv", "attention_output", "position_key", "position_query"})
# Which matrices to prefer in a block when not all of it can be bought: Hu et al. 2021, table 5, find query and value
# the best pair.
_PREFERRED = ("value", "query", "qkv", "ffn_output", "attention_output", "ffn_input", "key")


def spent(items: Iterable[Item], ranks: Mapping[str, int]) -> int:
    """Parameters that `ranks` costs."""
    return sum(ranks[item.name] * item.step + item.fixed for item in items if item.name in ranks)


def uniform(items: Sequence[Item], purse: Purse) -> Ranks:
    """One rank everywhere; what a whole rank cannot use is left over."""
    rank = _even_rank(items, purse)
    return dict.fromkeys((item.name for item in items), rank) if rank >= purse.low else {}


def fill(items: Sequence[Item], purse: Purse) -> Ranks:
    """One rank everywhere and one more in the upper blocks; fewer blocks, from the bottom, when that does not fit."""
    ranks = uniform(items, purse)
    if ranks:
        return _raise_upper(items, ranks, purse)
    kept = _whole_blocks(items, purse)
    if not any(item.name not in purse.forced for item in kept):
        kept = [*kept, *_some_matrices(items, kept, purse)]
    return _raise_upper(kept, uniform(kept, purse), purse) if kept else {}


def top(items: Sequence[Item], purse: Purse) -> Ranks:
    """Only the upper blocks, filled: everything below is computed once and cached."""
    blocks = sorted({item.layer for item in items})
    lowest = blocks[len(blocks) - max(1, round(len(blocks) * TOP_SHARE))] if blocks else 0
    return fill([item for item in items if item.layer >= lowest or item.name in purse.forced], purse)


def graded(items: Sequence[Item], purse: Purse) -> Ranks:
    """Ranks rising with depth, 1 : 2 : 3 by thirds of the blocks; fewer blocks when that does not fit."""
    blocks = sorted({item.layer for item in items})
    for first in range(len(blocks)):
        upper = blocks[first:]
        kept = [item for item in items if item.layer in upper or item.name in purse.forced]
        weight = {layer: BANDS[len(BANDS) * place // len(upper)] for place, layer in enumerate(upper)}
        weights = {item.name: weight.get(item.layer, BANDS[0]) for item in kept}
        unit = _graded_unit(kept, weights, purse)
        if unit >= purse.low:
            ranks = {item.name: min(purse.high, unit * weights[item.name]) for item in kept}
            return _raise_bands(kept, ranks, purse)
    return fill(items, purse)


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


def _even_rank(items: Sequence[Item], purse: Purse) -> int:
    """The largest rank all items can have together, 0 for none."""
    if not items:
        return 0
    left = purse.spend - sum(item.fixed for item in items)
    return max(0, min(purse.high, left // sum(item.step for item in items)))


def _whole_blocks(items: Sequence[Item], purse: Purse) -> list[Item]:
    """The forced items, and as many blocks from the top as fit at the lowest rank."""
    kept = [item for item in items if item.name in purse.forced]
    for layer in sorted({item.layer for item in items}, reverse=True):
        wider = [*kept, *(item for item in items if item.layer == layer and item.name not in purse.forced)]
        if _even_rank(wider, purse) < purse.low:
            break
        kept = wider
    return kept


def _some_matrices(items: Sequence[Item], kept: Sequence[Item], purse: Purse) -> list[Item]:
    """When not one block fits: the matrices that spend the most at the lowest rank, uppermost first."""
    taken = {item.name for item in kept}
    left = purse.spend - spent(kept, dict.fromkeys(taken, purse.low))
    offered = _by_preference(item for item in items if item.name not in taken)
    return _best_subset(offered, left, lambda item: purse.low * item.step + item.fixed)


def _raise_upper(items: Sequence[Item], ranks: Ranks, purse: Purse) -> Ranks:
    """Spend the remainder on one more rank, from the top."""
    offered = [item for item in items if ranks[item.name] < purse.high]
    raised = _from_the_top(offered, purse.spend - spent(items, ranks), lambda item: item.step)
    return ranks | {item.name: ranks[item.name] + 1 for item in raised}


def _graded_unit(items: Sequence[Item], weights: Mapping[str, int], purse: Purse) -> int:
    """The rank of the lowest band: the largest that fits, 0 for none."""
    left = purse.spend - sum(item.fixed for item in items)
    price = sum(item.step * weights[item.name] for item in items)
    return max(0, min(purse.high, left // price)) if price else 0


def _raise_bands(items: Sequence[Item], ranks: Ranks, purse: Purse) -> Ranks:
    """Spend the remainder by moving the bands' borders down: matrices take the next band's rank, from the top.

    Where that leaves less than three different ranks, the highest band's upper matrices get one more.
    """
    levels = sorted(set(ranks.values()))
    following = dict(pairwise(levels))
    offered = [item for item in items if ranks[item.name] in following]
    left = purse.spend - spent(items, ranks)
    raised = _from_the_top(offered, left, lambda item: (following[ranks[item.name]] - ranks[item.name]) * item.step)
    moved = ranks | {item.name: following[ranks[item.name]] for item in raised}
    highest = max(moved.values())
    if len(set(moved.values())) == len(BANDS) or highest == purse.high:
        return moved
    upper = [item for item in items if moved[item.name] == highest]
    raised = _from_the_top(upper, purse.spend - spent(items, moved), lambda item: item.step)
    return moved | {item.name: highest + 1 for item in raised}


def _from_the_top(offered: Sequence[Item], left: int, price: Callable[[Item], int]) -> list[Item]:
    """Whole blocks while they fit, then the single matrices below that spend the most of what is left.

    Those are sought in as few blocks as leave too little for any other, so that the plan stays short.
    """
    bought: list[Item] = []
    blocks = sorted({item.layer for item in offered}, reverse=True)
    for place, layer in enumerate(blocks):
        block = [item for item in offered if item.layer == layer]
        if sum(map(price, block)) > left:
            below = _by_preference(item for item in offered if item.layer <= layer)
            for lowest in blocks[place:]:
                single = _best_subset([item for item in below if item.layer >= lowest], left, price)
                after = left - sum(map(price, single))
                if all(price(item) > after for item in below if item not in single):
                    break
            return bought + single
        bought += block
        left -= sum(map(price, block))
    return bought


def _by_preference(items: Iterable[Item]) -> list[Item]:
    """Upper blocks first, and in a block the matrices that help most."""
    order = {role: place for place, role in enumerate(_PREFERRED)}
    return sorted(items, key=lambda item: (-item.layer, order.get(item.role, len(order)), item.name))


def _best_subset(items: Sequence[Item], left: int, price: Callable[[Item], int]) -> list[Item]:
    """The items that together spend the most of `left`; of equals, the first in order.

    Few different prices make few different sums, so every reachable sum is kept with the first choice that made it.
    """
    reachable: dict[int, tuple[Item, ...]] = {0: ()}
    for item in items:
        for total, chosen in list(reachable.items()):
            reached = total + price(item)
            if reached <= left:
                reachable.setdefault(reached, (*chosen, item))
    return list(reachable[max(reachable)])
