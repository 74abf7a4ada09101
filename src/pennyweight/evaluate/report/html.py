"""The self-contained report.html: no network, no script, light and dark, every text escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ...budget.plan_table import PlanTable
from ...storage.atomic import write_text
from ..baselines.comparison import BaselineRow
from ..baselines.verdict import verdict
from ..metrics.calibration import Calibration
from ..metrics.classification import Metrics
from ..metrics.intervals import Interval
from ..metrics.ordinal import Ordinal
from ..metrics.paired_tests import Comparison, p_in_words
from ..metrics.selective import Abstention
from ..metrics.shift import Shift
from ..misclassified import Misclassified
from ..slices import Slice
from . import figures
from .overview import RankMap, dot_plot, dots, rank_picture, top_confusions
from .shift_plot import heat_map
from .svg import PAGE, inline_svg

TEMPLATES = Path(__file__).parent / "page"


@dataclass(frozen=True)
class ReportInput:
    """All a report can show; of what is None the section is left out.

    Attributes:
        title: what was trained on what.
        metrics: the figures; `intervals`: theirs, by the names in metrics.json.
        rows: which texts they are of ("test" or "validation").
        baselines: from `compare_with_baselines`; the verdict on top follows from them.
        data: facts about the data; values are plain, lists or mappings of such.
        splits: name of a split to its facts, the same for each; shown as a table where there is `data`.
        audit: sentences of the data audit, shown under `data`.
        history: as in `figures.curves`.
        slices: heading to rows, such as {"source": by_column(...), "length": by_number(...)}.
        command: the exact command; recipe: its YAML.
        seconds: what took how long; the keys "training" and "predicting", which is of the texts measured on, are also
            shown on top.
        shift: figures of corrupted texts and of other files.
        created: when, in words.
        drawn: whether there are pictures; without them the confusion matrix is a table.
        ranks: ranks of the adapted matrices; size: bytes of the saved files; folder: the run's folder, for commands.
        about: backbone and training texts in words, under the title; source: the file that was measured on.
        decision: what was done about the head's biases after training; adjusted: whether that changed any.
        pair: whether the classifier reads pairs of texts.
        note: a sentence for the verdict.
    """

    title: str
    metrics: Metrics
    intervals: Mapping[str, Interval] | None = None
    rows: str = "test"
    baselines: Sequence[BaselineRow] | None = None
    plan: PlanTable | None = None
    data: Mapping[str, object] | None = None
    splits: Mapping[str, Mapping[str, object]] | None = None
    audit: Sequence[str] | None = None
    history: Sequence[Mapping[str, Any]] | None = None
    calibration: Calibration | None = None
    abstention: Abstention | None = None
    ordinal: Ordinal | None = None
    slices: Mapping[str, Sequence[Slice]] | None = None
    misclassified: Sequence[Misclassified] | None = None
    mislabelled: Sequence[Misclassified] | None = None
    command: str | None = None
    recipe: str | None = None
    seconds: Mapping[str, float] | None = None
    machine: Mapping[str, object] | None = None
    versions: Mapping[str, str] | None = None
    shift: Shift | None = None
    created: str | None = None
    drawn: bool = True
    ranks: RankMap | None = None
    size: int | None = None
    folder: str | None = None
    about: str = ""
    decision: str | None = None
    adjusted: bool = False
    pair: bool = False
    note: str = ""
    source: str = ""


@cache
def environment() -> Any:
    """Jinja2's environment of the pages here, made once: compiling a template takes as long as filling it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=False
    )
    filters = (_against, _clip, _count, _duration, _durations, _interval, _percent, _plain, _size, _words)
    made.filters["short"] = figures.short
    made.filters.update({one.__name__.removeprefix("_"): one for one in filters})
    return made


def render(report: ReportInput) -> str:
    """The whole page as one string of HTML."""
    template = environment().get_template("multi_label.html" if report.metrics.multi_label else "report.html")
    headline = verdict(report.metrics, report.intervals or {}, report.baselines or ()).with_note(report.note)
    labels = list(zip(report.metrics.per_class, report.metrics.thresholds or (), strict=False))
    page: str = template.render(
        r=report, verdict=headline, labels=labels, pictures=_pictures(report) | _overview(report),
        confusions=top_confusions(report.metrics),
    )  # fmt: skip
    # A lone surrogate, which JSON lets through, has no place in UTF-8.
    return page.encode("utf-8", "replace").decode("utf-8")


def write_html(path: str | Path, report: ReportInput) -> None:
    """Write the report as one file, whole or not at all.

    Raises:
        StorageError: when the disk is full or the folder cannot be written.
    """
    write_text(path, render(report))


def _pictures(report: ReportInput) -> dict[str, Any]:
    from markupsafe import Markup

    def drawn(figure: Any, name: str, description: str) -> Markup:
        return Markup(inline_svg(figure, name, description))  # escaped by matplotlib, except what inline_svg escapes

    about = f"{len(report.metrics.names)} classes; rows: true class, columns: predicted class"
    pictures: dict[str, Any] = dict.fromkeys(("confusion", "curves", "reliability", "risk", "shift"))
    if not report.drawn:
        return pictures
    if report.metrics.confusion is not None:
        matrix = figures.confusion(report.metrics.confusion, report.metrics.names, PAGE)
        pictures["confusion"] = drawn(matrix, "confusion", f"Confusion matrix of {about}")
    if report.history and len(report.history) > 1:  # one evaluation is a point, not a curve
        words = "Training and validation loss over the training steps"
        pictures["curves"] = drawn(figures.curves(report.history, PAGE), "curves", words)
    if report.calibration:
        after = None if report.calibration.reason else report.calibration.after
        diagram = figures.reliability_diagram(report.calibration.before, after, PAGE)
        pictures["reliability"] = drawn(diagram, "reliability", "Accuracy against confidence, in groups of equal size")
    if report.abstention:
        curve = report.abstention.curve
        figure = figures.risk_coverage_curve(curve.coverage, curve.risk, PAGE)
        pictures["risk"] = drawn(figure, "risk", "Error rate against coverage, the share of texts that get a label")
    if report.shift and report.shift.rows:
        words = "Accuracy by corruption and severity"
        pictures["shift"] = drawn(heat_map(report.shift, PAGE), "shift", words)
    return pictures


def _overview(report: ReportInput) -> dict[str, Any]:
    """The pictures on top, which are drawn without matplotlib and so in every report."""
    from markupsafe import Markup

    compared = dots(report.metrics, report.intervals or {}, report.baselines or ())
    figure = "Micro F1" if report.metrics.multi_label else "Accuracy"
    return {
        "dots": Markup(dot_plot(compared, figure)) if report.baselines else None,  # names are escaped there
        "ranks": None if report.ranks is None else Markup(rank_picture(report.ranks)),
    }


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}"


def _interval(interval: Interval) -> str:
    return f"{_percent(interval[0])} to {_percent(interval[1])}"


def _count(number: int) -> str:
    return f"{number:,}"


def _duration(seconds: float) -> str:
    if seconds < 59.95:  # what rounds to 60.0 is a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _durations(seconds: Mapping[str, float]) -> dict[str, str]:
    return {name: _duration(value) for name, value in seconds.items()}


def _plain(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 50_000 else f"{count / 1e3:.1f} kB"


def _words(key: str) -> str:
    """A key of metrics.json as a label: `peak_memory_mb` as `peak memory, MB`."""
    units = {"mb": "MB", "joules": "joules", "seconds": "seconds"}
    *name, last = str(key).split("_")
    return f"{' '.join(name)}, {units[last]}" if name and last in units else " ".join([*name, last])


def _clip(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _against(comparison: Comparison) -> str:
    low, high = (100 * end for end in comparison.interval)
    said = "better" if comparison.second_is_better else "worse" if comparison.first_is_better else "tied"
    chance = "" if comparison.p is None else ", " + p_in_words(comparison.p).replace(" ", "\N{NO-BREAK SPACE}")
    return f"{said}: {100 * comparison.difference:+.1f} points, {low:+.1f} to {high:+.1f}{chance}"
