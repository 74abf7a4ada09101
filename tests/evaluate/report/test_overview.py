"""What stands on top of a report."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from pennyweight.budget.backbone_config import load_config
from pennyweight.evaluate.metrics.classification import score
from pennyweight.evaluate.report.overview import Dot, RankMap, dot_plot, dots, rank_map, rank_picture, top_confusions
from pennyweight.recipe.loading import resolve_recipe
from pennyweight.recipe.planning import plan_for


def test_dots_stand_by_their_share_the_best_first() -> None:
    labels = np.arange(60) % 3
    metrics = score(labels, np.eye(3)[np.where(np.arange(60) < 12, (labels + 1) % 3, labels)], list("abc"))
    (own,) = dots(metrics, {}, ())
    assert (own.share, own.own) == (0.8, True)
    assert own.interval == metrics.accuracy_interval
    page = dot_plot([Dot("<b>", 0.9, (0.85, 1.2)), own], "Accuracy")
    assert "<b>" not in page
    assert page.index("left:90.0%") < page.index("left:80.0%")
    assert 'style="left:85.0%;width:15.0%"' in page  # cut at 100%
    assert 'aria-label="Accuracy with 95% intervals: &lt;b&gt; 90.0%, this classifier 80.0%"' in page


def test_the_map_has_a_cell_a_matrix_and_the_ranks_of_the_plan() -> None:
    config = load_config("roberta-base")
    recipe = resolve_recipe("default", {"backbone": "roberta-base", "budget": "300k", "strategy": "top"})
    plan = plan_for(recipe, config, 4)
    found = rank_map(plan, config)
    assert found is not None
    assert len(found.ranks) == 12
    assert len(found.modules) == 6
    known = {rank for row in found.ranks for rank in row if rank is not None}
    assert known == {part.r for part in plan.count.parts if part.kind == "adapter"}
    assert found.ranks[0] == (None,) * 6  # only upper layers are adapted
    page = rank_picture(found)
    assert page.count("<rect") == 72
    assert page.index("layer 11") < page.index("layer 0<")
    assert len(re.findall(r'class="on\d">', page)) == sum(rank is not None for row in found.ranks for rank in row)
    assert rank_map(replace(plan, adapter=None), config) is None


def test_ranks_that_differ_little_have_shades_that_differ() -> None:
    def shades(*ranks: int | None) -> list[str]:
        return re.findall(r'class="shade(\d)"', rank_picture(RankMap(("query",), tuple((rank,) for rank in ranks))))

    assert shades(5, 4, None) == ["0", "2", "4"]  # the highest layer first
    assert shades(8, 8) == ["4", "4"]
    assert shades(16, 8, 1) == ["1", "2", "4"]


def test_confusions_are_counted_by_pair() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    predicted = np.array([1, 1, 0, 2, 1, 0, 2, 2])
    found = top_confusions(score(labels, np.eye(3)[predicted], list("abc")))
    assert [(one.true, one.predicted, one.count, one.of) for one in found] == [
        ("a", "b", 2, 4), ("b", "a", 1, 2), ("a", "c", 1, 4),
    ]  # fmt: skip
