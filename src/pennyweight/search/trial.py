"""One trial: train its settings in memory, and tell the study how good they were on the validation texts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
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
from .study import AssignedTrial, Journal

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SearchTask:
    """What every trial shares.

    Attributes:
        data: the labelled texts; None where the recipe names them.
        recipe: without a test file, so that no trial can read it.
        full: the same with it, for the best recipe.
        space: the choices.
        settings: of every trial, beside its own: where the shared cache is.
        labels: number of classes.
        validation: number of validation texts.
    """

    data: Any
    recipe: Recipe
    full: Recipe
    space: Space
    settings: dict[str, Any]
    labels: int
    validation: int


def run_trial(task: SearchTask, journal: Journal, assigned: AssignedTrial, budget: str) -> bool:
    """Run one trial to its end and tell the study. False when its plan does not fit the budget."""
    import optuna
    from optuna.trial import TrialState

    study, trial = journal.study(budget), assigned.trial
    recipe = resolve_recipe(task.recipe, task.settings | assigned.settings | {"budget": budget})
    try:
        plan = plan_for(recipe, config_of(recipe.model.backbone, recipe.model.revision), task.labels)
    except BudgetError:
        # Told as pruned, so that the sampler learns to stay away; it does not count as one of the trials asked for.
        trial.set_user_attr("fits", False)
        trial.set_user_attr("state", "does not fit")
        study.tell(trial, state=TrialState.PRUNED)
        return False
    trial.set_user_attr("trainable", plan.count.trainable)
    name = f"{budget} trial {trial.number}"
    try:
        metrics = train(task.data, recipe=recipe, observer=_Pruner(trial, recipe.train)).metrics
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
        logger.info(f"{name}: stopped early, below the median ({_in_words(assigned.settings)})")
        return True
    except PennyweightError as error:
        if type(error) is not PennyweightError:
            raise
        trial.set_user_attr("state", "diverged")  # the loss is no longer a number: the rate was too high
        study.tell(trial, state=TrialState.PRUNED)
        logger.info(f"{name}: {error}")
        return True
    best, metric = metrics["train"]["best"], recipe.train.metric
    seconds = _seconds(metrics["train"])
    trial.set_user_attr("seconds", round(seconds, 3))
    trial.set_user_attr("accuracy", float(best["accuracy"]))
    trial.set_user_attr("loss", float(best["validation_loss"]))
    study.tell(trial, rank(best, metric)[0])
    logger.info(
        f"{name}: validation {METRICS[metric]} {shown_score(score_of(best, metric), metric)}, "
        f"{plan.count.trainable:,} parameters, {seconds:.1f} s ({_in_words(assigned.settings)})"
    )
    return True


@dataclass(frozen=True)
class _Pruner:
    """Tells the pruner of each evaluation. Trials are compared with those of as many epochs only: the learning rate
    of a longer one is still high where a shorter one's has fallen."""

    trial: Any
    recipe: TrainRecipe

    def step(self, step: int, total: int, loss: float, rate: float, texts: int, seconds: float) -> None: ...

    def evaluation(self, record: dict[str, Any]) -> None:
        import optuna

        self.trial.report(rank(record, self.recipe.metric)[0], step=self.recipe.epochs * 10**9 + record["step"])
        if self.trial.should_prune():
            raise optuna.TrialPruned


def _seconds(trained: Mapping[str, Any]) -> float:
    """Seconds of training, those for computing the frozen prefix included."""
    prefix = trained["prefix"]
    return float(trained["seconds"] + (prefix["seconds"] if prefix else 0.0))


def _in_words(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in settings.items()
    )
