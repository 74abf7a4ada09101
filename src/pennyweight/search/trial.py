"""One trial: train its settings in memory, and say how good they were on the validation texts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import BudgetError, PennyweightError
from ..model.backbone import config_of
from ..pipeline import train
from ..recipe.loading import resolve_recipe
from ..recipe.planning import plan_for
from ..recipe.schema import Recipe, TrainRecipe
from ..train.state import rank, score_of
from .results import METRICS, shown_score
from .space import Space
from .study import AssignedTrial, TrialOutcome

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SearchTask:
    """The data shared by all trials.

    Attributes:
        data: the labelled texts; None if the recipe names them.
        recipe: without a test file, so that no trial can read it.
        full: the same with it, for the best recipe.
        space: the choices.
        settings: settings of every trial in addition to its own: the shared cache's folder.
        place: of every trial, too: device and threads, where the recipe's are not used.
        labels: number of classes.
        validation: number of validation texts.
        facts: what makes trials comparable, see `identity.search_facts`.
    """

    data: Any
    recipe: Recipe
    full: Recipe
    space: Space
    settings: dict[str, Any]
    place: dict[str, Any]
    labels: int
    validation: int
    facts: dict[str, Any]


def run_trial(task: SearchTask, assigned: AssignedTrial, report: Callable[[float, int], bool]) -> TrialOutcome:
    """Run one trial to its end.

    Args:
        report: told each evaluation, as the study maximizes it, and its step; whether the trial is to stop.
    """
    budget, notes = assigned.budget, dict[str, Any]()
    recipe = resolve_recipe(task.recipe, task.settings | task.place | assigned.settings | {"budget": budget})
    try:
        plan = plan_for(recipe, config_of(recipe.model.backbone, recipe.model.revision), task.labels)
    except BudgetError:
        # Told as pruned, so that the sampler learns to stay away; it does not count as one of the trials asked for.
        return TrialOutcome(notes={"fits": False, "state": "does not fit"})
    notes["trainable"] = plan.count.trainable
    name = f"{budget} trial {assigned.number}"
    try:
        metrics = train(task.data, recipe=recipe, observer=_Pruner(report, recipe.train)).metrics
    except _StoppedEarly:
        return TrialOutcome(
            notes=notes, said=f"{name}: stopped early, below the median ({_in_words(assigned.settings)})"
        )
    except PennyweightError as error:
        if type(error) is not PennyweightError:
            raise
        notes["state"] = "diverged"  # the loss is no longer a number: the rate was too high
        return TrialOutcome(notes=notes, said=f"{name}: {error}")
    best, metric = metrics["train"]["best"], recipe.train.metric
    seconds = _seconds(metrics["train"])
    notes |= {
        "seconds": round(seconds, 3), "accuracy": float(best["accuracy"]), "loss": float(best["validation_loss"]),
    }  # fmt: skip
    said = (
        f"{name}: validation {METRICS[metric]} {shown_score(score_of(best, metric), metric)}, "
        f"{plan.count.trainable:,} parameters, {seconds:.1f} s ({_in_words(assigned.settings)})"
    )
    return TrialOutcome(rank(best, metric)[0], notes, said)


def log_outcome(outcome: TrialOutcome) -> None:
    """Log what is to be said of a trial."""
    if outcome.said:
        logger.info(outcome.said)


class _StoppedEarly(Exception):
    """Others were better."""


@dataclass(frozen=True)
class _Pruner:
    """Reports each evaluation. Trials are compared with those of as many epochs only: the learning rate of a longer one
    is still high where a shorter one's has fallen."""

    report: Callable[[float, int], bool]
    recipe: TrainRecipe

    def step(self, step: int, total: int, loss: float, rate: float, texts: int, seconds: float) -> None: ...

    def evaluation(self, record: dict[str, Any]) -> None:
        if self.report(rank(record, self.recipe.metric)[0], self.recipe.epochs * 10**9 + record["step"]):
            raise _StoppedEarly


def _seconds(trained: Mapping[str, Any]) -> float:
    """Seconds of training, those for computing the frozen prefix included."""
    prefix = trained["prefix"]
    return float(trained["seconds"] + (prefix["seconds"] if prefix else 0.0))


def _in_words(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in settings.items()
    )
