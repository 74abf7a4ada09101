"""The results of a search: every trial with its price, the Pareto picture, and the best recipe."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..data.html_table import html_text
from ..evaluate.metrics.intervals import wilson
from ..evaluate.metrics.pareto_front import pareto_front
from ..evaluate.report.figures import save_png
from ..evaluate.report.pareto_plot import Point, pareto
from ..evaluate.report.text_table import TERMINAL, text_table
from ..recipe.schema import Recipe
from ..storage.atomic import write_text
from ..storage.json_files import write_json

SHOWN = 10  # rows of the printed table
METRICS = {"accuracy": "accuracy", "macro_f1": "macro F1", "micro_f1": "micro F1", "loss": "loss"}


@dataclass(frozen=True)
class TrialResult:
    """One trial.

    Attributes:
        number: from 0, in its budget.
        state: `complete`, `pruned` (stopped early, below the median), `does not fit`, `diverged` or `running`.
        settings: what was chosen, by the recipe's keys.
        score: the best by the recipe's metric on the validation texts; None before the first evaluation.
        accuracy: of that evaluation, in [0, 1]; None if only the score is known, of a trial that was not finished.
        interval: Wilson's of the accuracy, 95%.
        trainable: trained parameters; None if the plan did not fit.
        seconds: training and computing the frozen prefix, evaluations aside; None if it was not finished.
        loss: validation loss of the best evaluation; None if it was not finished.
    """

    number: int
    budget: str
    state: str
    settings: dict[str, Any]
    accuracy: float | None
    interval: tuple[float, float] | None
    trainable: int | None
    seconds: float | None
    score: float | None = None
    loss: float | None = None


@dataclass(frozen=True)
class SearchResult:
    """The results of a search.

    Attributes:
        trials: all trials, by budget and number.
        best: for each budget with a complete trial, the number of its best, as `rank_trials` has it.
        recipe: the best recipe of all; None without a complete trial.
        validation: number of texts the accuracy was measured on.
        folder: the folder with all files.
        metric: the recipe's, by which trials are compared.
    """

    trials: tuple[TrialResult, ...]
    best: dict[str, int]
    recipe: Recipe | None
    validation: int
    folder: Path
    metric: str = "accuracy"

    def to_json(self) -> dict[str, Any]:
        """Plain values, as in trials.json."""
        frontier = self.frontier()
        return {
            "measured": "validation",
            "metric": self.metric,
            "validation": self.validation,
            "best": self.best,
            "trials": [asdict(trial) | {"pareto": trial in frontier} for trial in self.trials],
        }

    def frontier(self) -> tuple[TrialResult, ...]:
        """The complete trials that none beats in both accuracy and parameters."""
        done = [trial for trial in self.trials if trial.state == "complete"]
        front = pareto_front([one.accuracy or 0.0 for one in done], [one.trainable or 0 for one in done])
        return tuple(one for one, kept in zip(done, front.tolist(), strict=True) if kept)

    def _repr_html_(self) -> str:
        return html_text(str(self))

    def __str__(self) -> str:
        """A plain text table of the best trials, the best first."""
        ranked = rank_trials((trial for trial in self.trials if trial.state == "complete"), self.metric)
        if not ranked:
            return "no trial was finished"
        keys = list(dict.fromkeys(key for trial in ranked for key in trial.settings))
        own = {"accuracy": [], "loss": ["loss"]}.get(self.metric, [f"{METRICS[self.metric]} %"])
        header = ["trial", *own, "accuracy %", "95% interval", "parameters", "seconds", "budget", *keys]
        rows = [
            [str(trial.number), *_cells(trial, self.metric), *(_shown(trial.settings.get(key)) for key in keys)]
            for trial in ranked[:SHOWN]
        ]
        states = [trial.state for trial in self.trials]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        note = f"{len(self.trials)} trials: {counts}; measured on {self.validation:,} validation texts"
        return "\n".join([text_table(header, rows, left=0, width=TERMINAL), "", note])


def rank_trials(trials: Iterable[TrialResult], metric: str = "accuracy") -> list[TrialResult]:
    """The best by the metric first; of equals the one of lowest validation loss, of fewest parameters, the earliest."""

    def place(one: TrialResult) -> tuple[float, float, int, int]:
        behind = math.inf if one.score is None else one.score if metric == "loss" else -one.score
        return behind, math.inf if one.loss is None else one.loss, one.trainable or 0, one.number

    return sorted(trials, key=place)


def shown_score(score: float, metric: str) -> str:
    """A score as people read it."""
    return f"{score:.4f}" if metric == "loss" else f"{score:.2%}"


def read(study: Any, budget: str, validation: int, metric: str = "accuracy") -> list[TrialResult]:
    """The trials of a budget's study; those that were given back are left out."""
    found = []
    for trial in study.get_trials(deepcopy=False):
        if trial.state.name in ("FAIL", "WAITING"):
            continue
        values = list(trial.intermediate_values.values())
        told = trial.value if trial.state.name == "COMPLETE" else max(values, default=None)
        score = -told if told is not None and metric == "loss" else told
        accuracy = trial.user_attrs.get("accuracy", told if metric == "accuracy" else None)
        found.append(
            TrialResult(
                number=trial.number,
                budget=budget,
                state=trial.user_attrs.get("state", trial.state.name.lower()),
                settings=trial.user_attrs.get("settings", trial.params),
                accuracy=accuracy,
                interval=None if accuracy is None else wilson(round(accuracy * validation), validation),
                trainable=trial.user_attrs.get("trainable"),
                seconds=trial.user_attrs.get("seconds"),
                score=score,
                loss=trial.user_attrs.get("loss"),
            )
        )
    return found


def write(found: SearchResult, recipes: dict[str, Recipe]) -> None:
    """Write trials.json, table.csv, and the best recipes: best.yaml, and one for each of several budgets."""
    write_json(found.folder / "trials.json", found.to_json())
    write_text(found.folder / "table.csv", _csv(found.trials))
    if found.recipe is not None:
        found.recipe.save(found.folder / "best.yaml")
    if len(recipes) > 1:
        for budget, recipe in recipes.items():
            recipe.save(found.folder / f"best-{budget}.yaml")


def draw(found: SearchResult) -> None:
    """Draw pareto.png of the complete trials, if there are any."""
    frontier = found.frontier()
    points = [
        # Only the front is named: names on all would cover the picture.
        Point(_named(one) if one in frontier else "", one.trainable, one.accuracy, one.interval, best=one in frontier)
        for one in found.trials
        if one.state == "complete" and one.trainable and one.accuracy is not None and one.interval is not None
    ]
    if points:
        save_png(pareto(points, measured="validation", others="not compared by a test"), found.folder / "pareto.png")


def _named(trial: TrialResult) -> str:
    return " ".join(str(trial.settings[key]) for key in ("strategy", "head") if key in trial.settings)


def _csv(trials: Sequence[TrialResult]) -> str:
    keys = list(dict.fromkeys(key for trial in trials for key in trial.settings))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    own = ("budget", "trial", "state", "accuracy", "low", "high", "score", "loss", "trainable", "seconds")
    writer.writerow([*own, *keys])
    for one in trials:
        low, high = one.interval or ("", "")
        figures = (one.accuracy, low, high, one.score, one.loss, one.trainable, one.seconds)
        chosen = (one.settings.get(key) for key in keys)
        writer.writerow([one.budget, one.number, one.state, *map(_blank, (*figures, *chosen))])
    return text.getvalue()


def _blank(value: Any) -> Any:
    return "" if value is None else value


def _cells(trial: TrialResult, metric: str) -> list[str]:
    assert trial.accuracy is not None
    assert trial.interval is not None
    assert trial.score is not None
    low, high = trial.interval
    return [
        *([] if metric == "accuracy" else [shown_score(trial.score, metric).rstrip("%")]),
        f"{100 * trial.accuracy:.2f}", f"{100 * low:.1f} to {100 * high:.1f}", f"{trial.trainable or 0:,}",
        f"{trial.seconds or 0:.1f}", trial.budget,
    ]  # fmt: skip


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
