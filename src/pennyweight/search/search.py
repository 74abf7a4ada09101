"""The loop: ask for settings, train them in memory, tell how good they were on the validation texts."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from ..data.input_spec import InputSpec
from ..data.load import load as load_data
from ..data.sources import read_python
from ..errors import BudgetError, Interrupted, PennyweightError, RecipeError
from ..pipeline import train
from ..recipe.loading import Recipe, TrainRecipe, resolve_recipe
from ..recipe.planning import describe_backbone, plan_for
from ..train.observer import say_to_logging
from ..train.state import rank, score_of
from .identity import claim, facts_of
from .results import METRICS, Found, Tried, by_rank, draw, read, shown_score, write
from .space import Space, budgets, narrowed
from .study import Journal, Turn, check_installed, opened

logger = logging.getLogger(__name__)

MOST_MISSES = 200  # settings in a row that do not fit the budget


@dataclass(frozen=True)
class Task:
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


def search(
    data: Any = None,
    *,
    budget: str | int | list[str] | None = None,
    trials: int = 20,
    out: str | Path,
    recipe: str | Path | Recipe = "default",
    say: Callable[[str], None] | None = None,
    **settings: Any,
) -> Found:
    """Try plans and settings within a budget; what is best on the validation texts is written as a recipe.

    The first trial of a budget is the recipe as it stands, as far as the choices allow, so that the table says what
    searching has gained. The others are proposed by Optuna's TPE (Bergstra et al. 2011, "Algorithms for hyper-parameter
    optimization"). Trials are compared by the recipe's `train.metric`; of equals the one of lowest validation loss is
    the best, then the one of fewest parameters. One is stopped early when an evaluation is below the median of former
    trials with as many epochs at that step. All use one validation split; a test file is never read. The folder holds
    the trials: the same call goes on with them, and several processes may work on one folder at a time.

    Args:
        data: labelled texts, as in `pennyweight.train`.
        budget: the largest number of trained parameters, or several (`"10k,50k"`), each searched on its own.
        trials: how many for each budget, those already in the folder included.
        out: the folder.
        recipe: what is not searched comes from this recipe.
        say: deprecated; receives what is logged, a message at a time.
        **settings: fields of the recipe by key. One value fixes it for all trials; for the keys of
            `pennyweight.searching.space.Space`, several (`epochs="2,4"` or a list) are what to choose from.

    Returns:
        All trials and the best recipe, which `out` holds too: trials.json, table.csv, pareto.png, best.yaml.

    Raises:
        InputError: Optuna is not installed; the folder holds a search of something else; nothing fits the budget.
        Interrupted: by a signal; the same call goes on.
        PennyweightError: whatever training raises, a loss that is no number aside: that trial counts as lost.
    """
    check_installed()
    if trials < 1:
        raise RecipeError("a search takes at least one trial", where="trials", received=trials)
    folder = Path(out)
    source, test = data, settings.pop("test", None)
    base = resolve_recipe(recipe, {"test": str(test)} if isinstance(test, (str, Path)) else {})
    wanted = budgets(base.plan.budget if budget is None else budget)
    space, rest = narrowed(base, settings)
    base = _with_paths(resolve_recipe(base, rest | space.fixed()), source)
    if source is not None and not isinstance(source, (str, Path)):
        source = read_python(source, InputSpec.of_recipe(base.data), split="train")
    blind = resolve_recipe(base, {"test": "none"})
    if blind.data.validation is None and not blind.data.validation_size:
        raise RecipeError(
            "a search chooses by validation texts",
            where="data -> validation_size",
            expected="a share or a number of rows",
            received=0,
        )
    found = load_data(blind.data, source)
    task = Task(source, blind, base, space, _cache(blind, folder), len(found.labels.names), len(found.validation or ()))
    for one in wanted:
        _affordable(task, one)  # a budget that nothing fits is told before anything is written
    claim(folder, facts_of(blind, space, found.fingerprint()))
    with say_to_logging(say, __package__), opened(folder, blind.train.seed) as journal:
        try:
            for one in wanted:
                _work(task, journal, one, trials)
        finally:
            result = _collect(task, journal, wanted)
            if result.trials:
                draw(result)
    if all(trial.state != "running" for trial in result.trials):
        shutil.rmtree(folder / ".prefix", ignore_errors=True)
    return result


def _work(task: Task, journal: Journal, budget: str, trials: int) -> None:
    """Run trials of one budget until all are done or being done.

    Raises:
        Interrupted: by a signal. As after any other error, what was being tried is tried again by who goes on.
    """
    space, misses = _affordable(task, budget), 0
    first = space.standing(task.recipe, budget)
    try:
        while (turn := journal.ask(budget, space.open(), trials, space.fixed(), first)) is not None:
            misses = 0 if _try(task, journal, turn, budget) else misses + 1
            if misses >= MOST_MISSES:
                raise BudgetError(f"of the last {misses} settings drawn, none fits the budget", received=budget)
            _collect(task, journal, (budget,))
    except BaseException as error:
        journal.give_back(budget)
        if isinstance(error, KeyboardInterrupt | Interrupted):
            raise Interrupted(
                "stopped by a signal", where=journal.folder, remedy=f"go on with --out {journal.folder}"
            ) from error
        raise


def _try(task: Task, journal: Journal, turn: Turn, budget: str) -> bool:
    """Run one trial to its end and tell the study. False when its plan does not fit the budget."""
    import optuna
    from optuna.trial import TrialState

    study, trial = journal.study(budget), turn.trial
    wanted = resolve_recipe(task.recipe, task.settings | turn.settings | {"budget": budget})
    try:
        plan = plan_for(wanted, describe_backbone(wanted), task.labels)
    except BudgetError:
        # Told as pruned, so that the sampler learns to stay away; it is none of the trials asked for.
        trial.set_user_attr("fits", False)
        trial.set_user_attr("state", "does not fit")
        study.tell(trial, state=TrialState.PRUNED)
        return False
    trial.set_user_attr("trainable", plan.count.trainable)
    name = f"{budget} trial {trial.number}"
    try:
        metrics = train(task.data, recipe=wanted, observer=_Watch(trial, wanted.train)).metrics
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
        logger.info(f"{name}: stopped early, below the median ({_in_words(turn.settings)})")
        return True
    except PennyweightError as error:
        if type(error) is not PennyweightError:
            raise
        trial.set_user_attr("state", "diverged")  # the loss is no longer a number: the rate was too high
        study.tell(trial, state=TrialState.PRUNED)
        logger.info(f"{name}: {error}")
        return True
    prefix = metrics["train"]["prefix"]
    seconds = metrics["train"]["seconds"] + (prefix["seconds"] if prefix else 0.0)
    trial.set_user_attr("seconds", round(seconds, 3))
    best, metric = metrics["train"]["best"], wanted.train.metric
    trial.set_user_attr("accuracy", float(best["accuracy"]))
    trial.set_user_attr("loss", float(best["validation_loss"]))
    study.tell(trial, rank(best, metric)[0])
    logger.info(
        f"{name}: validation {METRICS[metric]} {shown_score(score_of(best, metric), metric)}, "
        f"{plan.count.trainable:,} parameters, {seconds:.1f} s "
        f"({_in_words(turn.settings)})"
    )
    return True


@dataclass(frozen=True)
class _Watch:
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


def _collect(task: Task, journal: Journal, wanted: tuple[str, ...]) -> Found:
    """Read all trials, and write the tables and the best recipes."""
    metric = task.recipe.train.metric
    with journal.alone():
        names = [study.study_name.removeprefix("budget ") for study in journal.storage.get_all_studies()]
        tried: list[Tried] = []
        for budget in dict.fromkeys([*wanted, *names]):
            tried += read(journal.study(budget), budget, task.validation, metric)
        done = by_rank((trial for trial in tried if trial.state == "complete"), metric)
        best = {trial.budget: trial for trial in reversed(done)}
        recipes = {budget: resolve_recipe(task.full, one.settings | {"budget": budget}) for budget, one in best.items()}
        overall = recipes[done[0].budget] if done else None
        numbers = {budget: trial.number for budget, trial in best.items()}
        found = Found(tuple(tried), numbers, overall, task.validation, journal.folder, metric)
        write(found, recipes)
    return found


def _affordable(task: Task, budget: str) -> Space:
    """The space without the strategies and heads that fit a budget in no combination.

    Raises:
        BudgetError: none does; the message says the smallest that works.
    """
    heads, strategies = task.space.head, task.space.strategy
    assert isinstance(heads, tuple)
    assert isinstance(strategies, tuple)
    config = describe_backbone(task.recipe)
    fitting, refused = set(), []
    for head, strategy in product(heads, strategies):
        try:
            plan_for(
                resolve_recipe(task.recipe, {"budget": budget, "head": head, "strategy": strategy}), config, task.labels
            )
            fitting.add((head, strategy))
        except BudgetError as error:
            refused.append(error)
    if not fitting:
        raise refused[0]
    return replace(
        task.space,
        head=tuple(one for one in heads if any(one == head for head, _ in fitting)),
        strategy=tuple(one for one in strategies if any(one == strategy for _, strategy in fitting)),
    )


def _cache(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """What frozen layers compute is shared by all trials, unless the recipe says otherwise."""
    if recipe.train.prefix_cache != "auto" or recipe.train.cache_dir is not None:
        return {}
    return {"prefix_cache": "disk", "cache_dir": str(folder.resolve() / ".prefix")}


def _with_paths(recipe: Recipe, data: Any) -> Recipe:
    """Sources by absolute path, so that the best recipe trains from anywhere."""
    sources = {key: getattr(recipe.data, key) for key in ("train", "test", "validation", "mix", "ood")}
    if isinstance(data, (str, Path)):
        sources["train"] = str(data)
    places = {key: str(Path(name).resolve()) for key, name in sources.items() if name and os.path.exists(name)}
    return resolve_recipe(recipe, {key: name for key, name in sources.items() if name} | places)


def _in_words(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in settings.items()
    )
