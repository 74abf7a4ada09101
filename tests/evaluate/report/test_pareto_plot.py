from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pennyweight.evaluate.report.figures import LIGHT, save_png
from pennyweight.evaluate.report.pareto_plot import Point, pareto

POINTS = [
    Point("small", 1_540, 0.80, (0.77, 0.84), best=True),
    Point("$large$", 998_404, 0.86, (0.82, 0.89), best=True),
    Point("worse", 200_000, 0.79, (0.75, 0.82), best=False, dominated=True),
]


def names(axis: Any) -> set[str]:
    return {text.get_text() for text in axis.texts[:-1] if text.get_text()}  # the last is the note above the picture


def note(axis: Any) -> str:
    return str(axis.texts[-1].get_text())


def test_axes_are_named_and_numbered_and_a_line_leads_over_the_best_runs(tmp_path: Path) -> None:
    figure = pareto(POINTS)
    (axis,) = figure.axes
    assert axis.get_xlabel() == "trainable parameters"
    assert axis.get_ylabel() == "test accuracy (%, 95% interval)"
    assert axis.lines[0].get_xdata().tolist() == [1_540, 998_404]
    assert axis.lines[0].get_drawstyle() == "steps-post"
    assert names(axis) == {"small", "$large$", "worse (dominated)"}
    assert axis.get_legend() is None
    save_png(figure, tmp_path / "pareto.png")
    assert [one.get_text() for one in axis.get_xticklabels() if "k" in one.get_text()][:2] == ["1k", "10k"]
    assert (tmp_path / "pareto.png").read_bytes().startswith(b"\x89PNG")


def test_a_lower_accuracy_alone_is_hollow_and_not_called_dominated() -> None:
    (axis,) = pareto([*POINTS[:2], replace(POINTS[2], dominated=False)]).axes
    assert names(axis) == {"small", "$large$", "worse"}
    assert (
        note(axis)
        == "line: the highest accuracy for each number of parameters; hollow: a lower accuracy, not shown to be worse"
    )
    faces = [bars.lines[0].get_markerfacecolor() for bars in axis.containers]
    assert faces == [LIGHT.first, LIGHT.first, LIGHT.background]


@pytest.mark.parametrize("prices", [(150_000, 230_000), (199_684, 199_684), (49_948, 199_684), (1_000, 900_000)])
def test_there_are_numbers_on_the_axis_however_narrow_it_is(prices: tuple[int, int]) -> None:
    first, second = (replace(POINTS[0], parameters=price) for price in prices)
    figure = pareto([first, replace(second, accuracy=0.81)])
    (axis,) = figure.axes
    low, high = axis.get_xlim()
    assert any(low <= tick <= high for tick in axis.get_xticks())


def test_runs_of_one_price_stand_beside_each_other_and_their_names_do_not_overlap() -> None:
    same = [replace(POINTS[0], name=f"run number {place}", parameters=200_000) for place in range(3)]
    (axis,) = pareto(same).axes
    assert len({bars.lines[0].get_xdata()[0] for bars in axis.containers}) == 3
    assert len({text.get_position() for text in axis.texts[:-1]}) == 3


def test_of_many_runs_only_the_best_have_intervals() -> None:
    many = [replace(POINTS[2], name="", dominated=False, parameters=1_000 * place) for place in range(2, 22)]
    (axis,) = pareto([*POINTS[:2], *many]).axes
    lengths = [np.ptp(bars.lines[2][0].get_segments()[0][:, 1]) for bars in axis.containers]
    assert [length > 0 for length in lengths] == [True, True] + [False] * 20


def test_one_run_alone_is_drawn() -> None:
    (axis,) = pareto(POINTS[:1]).axes
    assert len(axis.containers) == 1
    assert note(axis) == ""


def test_a_run_that_was_lost_does_not_press_the_others_together() -> None:
    lost = Point("lost", 500_000, 0.25, (0.2, 0.3), best=False)
    (axis,) = pareto([*POINTS, lost]).axes
    assert axis.get_ylim()[0] > 50
    assert "lost 25%" in names(axis)
