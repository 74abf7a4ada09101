"""The reasons for a plan, one sentence each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from .architecture import head_parameters, size
from .config_fields import Config
from .count import Count, head_shapes, layers_in_words
from .specs import AdapterSettings, HeadSpec
from .strategies import LORA_FROM_RANK, Candidate, Limits, spent

_ONE_LINE = {
    "uniform": "one rank everywhere",
    "top": "only the upper layers; everything below them is computed once and cached",
    "graded": "the rank rises with depth, 1 : 2 : 3 by thirds of the layers",
    "attention": "query, key, value and output of attention, the remainder goes to the upper layers",
    "all-linear": "every linear layer, the remainder goes to the upper layers",
}


def strategy_reasons(
    asked: str, followed: str, candidates: Sequence[Candidate], ranks: Mapping[str, int], limits: Limits
) -> Iterator[str]:
    """The strategy in one line, and what became of it."""
    yield f"{asked}: {_ONE_LINE[followed]}"
    if not ranks:
        cheapest = min(one.price(limits.min_rank) for one in candidates)
        left, rank = max(0, limits.budget), limits.min_rank
        yield f"ranks: none, because the cheapest matrix costs {cheapest:,} at rank {rank} and {left:,} is left"
        return
    matrices = Counter(ranks.values())
    yield "ranks: " + ", ".join(
        f"{rank} on {number} {'matrix' if number == 1 else 'matrices'}" for rank, number in sorted(matrices.items())
    )
    if len(ranks) < len(candidates):
        kept = layers_in_words([one.layer for one in candidates if one.name in ranks])
        needed = spent(candidates, {one.name: limits.min_rank for one in candidates})
        yield (
            f"reach: {len(ranks)} of {len(candidates)} matrices, on {kept}; "
            f"rank {limits.min_rank} on all of them would cost {needed:,}"
        )


def method_reasons(settings: AdapterSettings, counted: Count, *, chosen: int | None, everywhere: bool) -> Iterator[str]:
    """Why LoRA-XS was chosen, and how much it trains and stores; nothing for LoRA.

    Args:
        settings: settings of the adapter.
        chosen: what LoRA would have cost at the least rank at which it is preferred; None if nobody chose.
        everywhere: whether all matrices are adapted, so that training passes through every layer.
    """
    if settings.adapter != "lora-xs":
        return
    if chosen is not None:
        yield f"adapter: LoRA-XS, because rank {LORA_FROM_RANK} of LoRA on all matrices would cost {chosen:,}"
        if everywhere:
            yield "time: every layer is trained; --adapter lora is faster at small budgets, but less accurate"
    origin = {
        "svd": "the singular vectors of the frozen weights",
        "gradient": "estimated from gradients on labelled training rows, though not trained",
    }[settings.bases]
    yield f"bases: {origin}; {counted.trainable:,} parameters are trained, {counted.stored:,} stored"


def head_reason(config: Config, head: HeadSpec, labels: int) -> str:
    """The cost of the head, compared with the architecture's own."""
    own = size(head_parameters(config, labels))
    sentence = f"head: {head.kind}, {size(head_shapes(config, head, labels)):,} parameters"
    return sentence if head.kind == "full" else f"{sentence}; the architecture's own would be {own:,}"


def head_price(config: Config, head: HeadSpec, labels: int, budget: int) -> Iterator[str]:
    """Where the head takes more than half of the budget: what a class costs, and what is left for the adapter."""
    needed = size(head_shapes(config, head, labels))
    if 2 * needed <= budget:
        return
    smallest = size(head_shapes(config, HeadSpec(), labels))
    less = "no head is smaller" if needed <= smallest else f"a linear head would cost {smallest:,}"
    yield (
        f"head price: {needed / budget:.0%} of the budget, {smallest // labels:,} for each of {labels:,} classes in "
        f"the output layer, which leaves {budget - needed:,} for the adapter; {less}"
    )


def left_over_reason(
    followed: str, candidates: Sequence[Candidate], ranks: Mapping[str, int], limits: Limits, left_over: int
) -> str:
    """How much of the budget is not used, and what it was too little for."""
    sentence = f"left over: {left_over:,}"
    if not ranks:
        return sentence
    adapted = [one for one in candidates if one.name in ranks]
    if min(ranks.values()) >= limits.max_rank:
        full = min(one.full_rank for one in candidates)
        limit = "the full rank of the smallest matrix" if limits.max_rank == full else "the highest allowed"
        return f"{sentence}; rank {limits.max_rank} is {limit}"
    if followed == "uniform":
        return f"{sentence}; one more rank everywhere costs {sum(one.step(ranks[one.name]) for one in adapted):,}"
    lowest = min(ranks.values())
    raises = [one.step(lowest) for one in adapted if ranks[one.name] == lowest]
    additions = [one.price(limits.min_rank) for one in candidates if one.name not in ranks]
    cheapest = min([*raises, *additions])
    return f"{sentence}; the cheapest further rank costs {cheapest:,}" if cheapest > left_over else sentence
