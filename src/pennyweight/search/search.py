"""The loop of a search: assign trials, run them, and write the results."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from ..data.input_spec import InputSpec
from ..data.load import load as load_data
from ..data.provenance import absolute_recipe
from ..data.sources import read_python
from ..errors import BudgetError, Interrupted, RecipeError
from ..model.backbone import config_of
from ..recipe.loading import resolve_recipe
from ..recipe.planning import plan_for
from ..recipe.schema import Recipe
from ..train.auto_settings import settle_metric
from ..train.epochs import count_epochs
from ..train.observer import say_to_logging
from .identity import claim_folder, search_facts
from .results import SearchResult, TrialResult, draw, rank_trials, read, write
from .space import Space, narrow_space, parse_budgets
from .study import Journal, check_installed, open_journal
from .trial import SearchTask, log_outcome, run_trial

MOST_MISSES = 200  # settings in a row that do not fit the budget


def search(
    data: Any = None,
    *,
    budget: str | int | list[str] | None = None,
    trials: int = 20,
    out: str | Path,
    recipe: str | Path | Recipe = "default",
    say: Callable[[str], None] | None = None,
    **settings: Any,
) -> SearchResult:
    """Try plans and settings within a budget, and write the best one on the validation texts as a recipe.

    The first trial of a budget is the recipe itself, as far as the choices allow: the table then shows the gain from
    the search. Optuna's TPE proposes the others (Bergstra et al. 2011, "Algorithms for hyper-parameter optimization").
    Trials are ranked by the recipe's `train.metric`, then by validation loss, then by parameters. A trial is stopped
    early when an evaluation is below the median of earlier trials with the same number of epochs at that step. All
    trials use one validation split; a test file is never read. The same call continues the search in the folder, and
    several processes may work on one folder at the same time.

    Args:
        data: labelled texts, as in `pennyweight.train`.
        budget: the largest number of trained parameters, or several (`"10k,50k"`) to search one after another.
        trials: trials per budget, including those already in the folder.
        out: the folder.
        recipe: the recipe for everything that is not searched.
        say: deprecated; receives each logged message.
        **settings: recipe fields by key. One value fixes a field for all trials; for the keys of
            `pennyweight.search.space.Space`, several values (`epochs="2,4"` or a list) are the choices.

    Returns:
        All trials and the best recipe; `out` has them as trials.json, table.csv, pareto.png and best.yaml.

    Raises:
        InputError: Optuna is not installed; the folder has a search with other settings; nothing fits the budget.
        Interrupted: by a signal; the same call continues the search.
        PennyweightError: any error from training, except a loss that is not a number: that trial counts as lost.
    """
    check_installed()
    if trials < 1:
        raise RecipeError("a search takes at least one trial", where="trials", received=trials)
    folder = Path(out)
    task, wanted = prepare_search(data, folder, budget, recipe, settings)
    claim_folder(folder, task.facts)
    with say_to_logging(say, __package__), open_journal(folder, task.recipe.train.seed) as journal:
        try:
            for one in wanted:
                _run_trials(task, journal, one, trials)
        finally:
            result = collect_trials(task, journal, wanted)
            finish_search(result)
    return result


def finish_search(result: SearchResult) -> None:
    """Draw what came of a search, and drop what its trials shared once none is running."""
    if result.trials:
        draw(result)
    if all(trial.state != "running" for trial in result.trials):
        shutil.rmtree(result.folder / ".prefix", ignore_errors=True)


def prepare_search(
    data: Any,
    folder: Path,
    budget: Any,
    recipe: str | Path | Recipe,
    settings: dict[str, Any],
    place: dict[str, Any] | None = None,
) -> tuple[SearchTask, tuple[str, ...]]:
    """The data shared by all trials, and the budgets. Nothing is written yet.

    Args:
        place: device and threads of the trials; not of the best recipe.

    Raises:
        BudgetError: for a budget that nothing fits.
    """
    test = settings.pop("test", None)
    base = resolve_recipe(recipe, {"test": str(test)} if isinstance(test, (str, Path)) else {})
    wanted = parse_budgets(base.plan.budget if budget is None else budget)
    # Trials compare what the training loop makes of their settings.
    auto = [key for key in ("contrastive", "frozen_head") if getattr(base.train, key) == "auto"]
    settings = dict.fromkeys(auto, "off") | settings
    space, rest = narrow_space(base, settings)
    base = absolute_recipe(resolve_recipe(base, rest | space.fixed()), {"train": data})
    if data is not None and not isinstance(data, (str, Path)):
        data = read_python(data, InputSpec.of_recipe(base.data), split="train")
    blind = resolve_recipe(base, {"test": "none"})
    if blind.data.validation is None and not blind.data.validation_size:
        raise RecipeError(
            "a search compares trials by validation texts",
            where="data -> validation_size",
            expected="a share or a number of rows",
            received=0,
        )
    loaded = load_data(blind.data, data)
    rows = len(loaded.validation or ())
    labels = loaded.labels.encode(loaded.train)
    blind, base = (settle_metric(one, labels, loaded.labels.names) for one in (blind, base))
    if base.train.epochs == "auto":
        usual = count_epochs(base.train, len(loaded.train))
        space = space if "epochs" in settings else space.around_epochs(usual)
        blind, base = (resolve_recipe(one, {"epochs": usual}) for one in (blind, base))
    facts = search_facts(resolve_recipe(blind, place or {}), space, loaded.fingerprint())
    task = SearchTask(
        data, blind, base, space, _cache(blind, folder), place or {}, len(loaded.labels.names), rows, facts
    )  # fmt: skip
    for one in wanted:
        affordable(task, one)
    return task, wanted


def _run_trials(task: SearchTask, journal: Journal, budget: str, trials: int) -> None:
    """Run trials of one budget until all are done or being done.

    Raises:
        Interrupted: by a signal. As after any other error, the interrupted trial is tried again by the next process.
    """
    space, misses = affordable(task, budget), 0
    first = space.standing(task.recipe, budget)
    try:
        while (assigned := journal.ask(budget, space.open(), trials, space.fixed(), first)) is not None:
            outcome = run_trial(task, assigned, partial(journal.report, assigned))
            journal.end(assigned, outcome)
            log_outcome(outcome)
            misses = 0 if outcome.fits else misses + 1
            refuse_misses(budget, misses)
            collect_trials(task, journal, (budget,))
    except BaseException as error:
        journal.give_back(budget)
        if isinstance(error, KeyboardInterrupt | Interrupted):
            raise Interrupted(
                "stopped by a signal", where=journal.folder, remedy=f"continue with --out {journal.folder}"
            ) from error
        raise


def refuse_misses(budget: str, misses: int) -> None:
    """Raise `BudgetError` after so many settings in a row that do not fit a budget that the search would not end."""
    if misses >= MOST_MISSES:
        raise BudgetError(f"none of the last {misses} settings drawn fits the budget", received=budget)


def collect_trials(task: SearchTask, journal: Journal, wanted: tuple[str, ...]) -> SearchResult:
    """Read all trials, and write the tables and the best recipes."""
    metric = task.recipe.train.metric
    with journal.alone():
        names = [study.study_name.removeprefix("budget ") for study in journal.storage.get_all_studies()]
        tried: list[TrialResult] = []
        for budget in dict.fromkeys([*wanted, *names]):
            tried += read(journal.study(budget), budget, task.validation, metric)
        done = rank_trials((trial for trial in tried if trial.state == "complete"), metric)
        best = {trial.budget: trial for trial in reversed(done)}
        recipes = {budget: resolve_recipe(task.full, one.settings | {"budget": budget}) for budget, one in best.items()}
        overall = recipes[done[0].budget] if done else None
        numbers = {budget: trial.number for budget, trial in best.items()}
        found = SearchResult(tuple(tried), numbers, overall, task.validation, journal.folder, metric)
        write(found, recipes)
    return found


def affordable(task: SearchTask, budget: str) -> Space:
    """The space without the strategies and heads that fit a budget in no combination.

    Raises:
        BudgetError: none does; the message says the smallest that works.
    """
    heads, strategies = task.space.head, task.space.strategy
    assert isinstance(heads, tuple)
    assert isinstance(strategies, tuple)
    config = config_of(task.recipe.model.backbone, task.recipe.model.revision)
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
    """The cache of frozen layers' outputs; all trials share it unless the recipe says otherwise."""
    if recipe.train.prefix_cache != "auto" or recipe.train.cache_dir is not None:
        return {}
    return {"prefix_cache": "disk", "cache_dir": str(folder.resolve() / ".prefix")}
