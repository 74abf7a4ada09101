"""What every strategy keeps to, over random offers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennyweight.budget.strategies import STRATEGIES, Candidate, Limits, Strategy, auto_rule, spent

OFFERS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from([10, 16, 34]), st.sampled_from([0, 5]), st.sampled_from([0, 1])),
    min_size=1,
    max_size=20,
).map(
    lambda rows: [
        Candidate(f"m{place}", layer, ("query", "value", "ffn_output")[place % 3], step, fixed, 32, square)
        for place, (layer, step, fixed, square) in enumerate(rows)
    ]
)


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(candidates=OFFERS, spend=st.integers(-50, 6000), low=st.integers(1, 4), span=st.integers(0, 30), data=st.data())
def test_promises(
    strategy: Strategy, candidates: list[Candidate], spend: int, low: int, span: int, data: st.DataObject
) -> None:
    forced = frozenset(data.draw(st.sets(st.sampled_from([one.name for one in candidates]), max_size=2)))
    if spent(candidates, dict.fromkeys(forced, low)) > spend:
        forced = frozenset()
    ranks = strategy(candidates, Limits(spend, low, low + span, forced))
    assert spent(candidates, ranks) <= max(spend, 0)
    assert all(low <= rank <= low + span for rank in ranks.values())
    assert len(set(ranks.values())) <= 3
    if ranks or strategy is not STRATEGIES["uniform"]:
        assert forced <= set(ranks)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(candidates=OFFERS, spend=st.integers(0, 6000))
def test_filling_leaves_less_than_any_further_rank_costs(candidates: list[Candidate], spend: int) -> None:
    ranks = STRATEGIES["all-linear"](candidates, Limits(spend, 1, 1000))
    left = spend - spent(candidates, ranks)
    adapted = [one for one in candidates if one.name in ranks]
    if adapted:
        lowest = min(ranks.values())
        assert all(one.step(lowest) > left for one in adapted if ranks[one.name] == lowest)
    else:
        assert all(one.price(1) > left for one in candidates)


def test_graded_never_falls_from_block_to_block() -> None:
    candidates = [Candidate(f"m{layer}", layer, "query", 10, 0, 99) for layer in range(9)]
    for spend in range(0, 3000, 37):
        ranks = STRATEGIES["graded"](candidates, Limits(spend, 1, 99))
        in_order = [ranks[one.name] for one in candidates if one.name in ranks]
        assert in_order == sorted(in_order)


def test_graded_spends_what_one_band_leaves_on_a_further_rank() -> None:
    # Rank 2 in the last block leaves 15 of 55; no lower band can take it, so one matrix of two gets a third rank.
    candidates = [Candidate(f"m{place}", 0, "query", 10, 0, 99) for place in range(2)]
    assert STRATEGIES["graded"](candidates, Limits(55, 1, 99)) == {"m0": 3, "m1": 2}
    assert STRATEGIES["graded"](candidates, Limits(55, 1, 2)) == {"m0": 2, "m1": 2}


def test_every_budget_has_a_rule() -> None:
    for budget in (1, 10_000, 10**12):
        assert auto_rule(budget).strategy in STRATEGIES
