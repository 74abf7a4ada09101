from pathlib import Path

from pennyweight.evaluate.report.figures import save_png
from pennyweight.evaluate.report.pareto_plot import Point, pareto

POINTS = [
    Point("small", 1_540, 0.80, (0.77, 0.84), best=True),
    Point("$large$", 998_404, 0.86, (0.82, 0.89), best=True),
    Point("worse", 200_000, 0.79, (0.75, 0.82), best=False),
]


def test_axes_are_named_and_the_undominated_runs_joined(tmp_path: Path) -> None:
    figure = pareto(POINTS)
    (axis,) = figure.axes
    assert axis.get_xlabel() == "trainable parameters"
    assert axis.get_ylabel() == "test accuracy (%, 95% interval)"
    joined, single = axis.containers
    assert joined.lines[0].get_xdata().tolist() == [1_540, 998_404]
    assert single.lines[0].get_linestyle() == "None"
    assert {one.get_text() for one in axis.texts} == {"small", "$large$", "worse"}
    save_png(figure, tmp_path / "pareto.png")
    assert [one.get_text() for one in axis.get_xticklabels() if "k" in one.get_text()][:2] == ["1k", "10k"]
    assert (tmp_path / "pareto.png").read_bytes().startswith(b"\x89PNG")


def test_one_run_alone_is_drawn() -> None:
    assert len(pareto(POINTS[:1]).axes[0].containers) == 1


def test_a_run_that_was_lost_does_not_press_the_others_together() -> None:
    lost = Point("lost", 500_000, 0.25, (0.2, 0.3), best=False)
    (axis,) = pareto([*POINTS, lost]).axes
    assert axis.get_ylim()[0] > 50
    assert {text.get_text() for text in axis.get_legend().get_texts()} == {"undominated", "dominated", "below 65%"}
