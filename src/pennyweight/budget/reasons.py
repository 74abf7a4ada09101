"""Why a plan is as it is, a sentence each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from .architecture import head_parameters, size
from .config_fields import Config
from .count import head_shapes, layers_in_words
from .specs import HeadSpec
from .strategies import Item, Purse, spent

_ONE_LINE = {
    "uniform": "one rank everywhere",
    "top": "only the upper layers; everything below them is computed once and cached",
    "graded": "the rank rises with depth, 1 : 2 : 3 by thirds of the layers",
    "attention": "query, key, value and output of attention, the remainder to the upper layers",
    "all-linear": "every linear layer on offer, the remainder to the upper layers",
}


def strategy_reasons(
    asked: str, followed: str, items: Sequence[Item], ranks: Mapping[str, int], purse: Purse
) -> Iterator[str]:
    """The strategy in one line, and what became of it."""
    yield f"{asked}: {_ONE_LINE[followed]}"
    if not ranks:
        cheapest = min(purse.low * item.step + item.fixed for item in items)
        left = max(0, purse.spend)
        yield f"ranks: none, for the cheapest matrix costs {cheapest:,} at rank {purse.low} and {left:,} is left"
        return
    matrices = Counter(ranks.values())
    yield "ranks: " + ", ".join(
        f"{rank} on {number} {'matrix' if number == 1 else 'matrices'}" for rank, number in sorted(matrices.items())
    )
    if len(ranks) < len(items):
        kept = layers_in_words([item.layer for item in items if item.name in ranks])
        needed = spent(items, {item.name: purse.low for item in items})
        yield (
            f"reach: {len(ranks)} of {len(items)} matrices, on {kept}; "
            f"rank {purse.low} on all of them would cost {needed:,}"
        )


def head_reason(config: Config, head: HeadSpec, labels: int) -> str:
    """What the head costs, beside what the architecture's own would."""
    own = size(head_parameters(config, labels))
    sentence = f"head: {head.kind}, {size(head_shapes(config, head, labels)):,} parameters"
    return sentence if head.kind == "full" else f"{sentence}; the architecture's own would be {own:,}"


def left_over_reason(
    followed: str, items: Sequence[Item], ranks: Mapping[str, int], purse: Purse, left_over: int
) -> str:
    """How much of the budget is not used, and what it was too little for."""
    sentence = f"left over: {left_over:,}"
    if not ranks:
        return sentence
    adapted = [item for item in items if item.name in ranks]
    if min(ranks.values()) >= purse.high:
        full = min(item.cap for item in items)
        limit = "the full rank of the smallest matrix" if purse.high == full else "the highest allowed"
        return f"{sentence}; rank {purse.high} is {limit}"
    if followed == "uniform":
        return f"{sentence}; one more rank everywhere costs {sum(item.step for item in adapted):,}"
    lowest = min(ranks.values())
    raises = [item.step for item in adapted if ranks[item.name] == lowest]
    additions = [purse.low * item.step + item.fixed for item in items if item.name not in ranks]
    cheapest = min([*raises, *additions])
    return f"{sentence}; the cheapest further rank costs {cheapest:,}" if cheapest > left_over else sentence
