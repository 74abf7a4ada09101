"""`pennyweight search --ray`: the trials of a search by several processes or machines.

Optuna's study stays in the folder's journal, which a process of its own writes (`study_keeper`). Workers train trials
and report to it (`trial_worker`). A search in one process may continue the folder, and the reverse.
"""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import InputError, Interrupted
from ..recipe.schema import Recipe
from ..search.identity import claim_folder, differing_facts
from ..search.results import SearchResult
from ..search.search import finish_search, prepare_search, refuse_misses
from ..search.study import AssignedTrial, TrialOutcome, check_installed, known_process
from ..search.trial import SearchTask, log_outcome
from ..train.signals import stopped_at_once
from .predict_units import Cluster
from .ray_cluster import LastingActor, RayWorkers, ray_cluster
from .study_keeper import StudyKeeper
from .trial_run import TrialRun
from .trial_worker import TrialHost, TrialWorker
from .unit_worker import refuse_other_versions, versions_here

logger = logging.getLogger(__name__)


def search_on_ray(
    data: Any = None,
    *,
    cluster: Cluster,
    threads: int = 1,
    budget: str | int | list[str] | None = None,
    trials: int = 20,
    out: str | Path,
    recipe: str | Path | Recipe = "default",
    **settings: Any,
) -> SearchResult:
    """Search as `pennyweight.search.search.search`, each trial in one of several processes, on CPUs.

    Args:
        cluster: where, and how many workers.
        threads: of each.
        data, budget, trials, out, recipe, settings: as there. Files and the backbone have the same names on all
            machines; the folder is needed on this one alone.

    Raises:
        InputError: what Ray lacks (see `ray_cluster`); a worker with other versions, texts, backbone or number format;
            and as for `search`.
        ResourceError: settings ended two workers.
        Interrupted: by a signal; the same call continues.
    """
    check_installed()
    folder = Path(out)
    task, wanted = prepare_search(data, folder, budget, recipe, settings, {"device": "cpu", "threads": threads})
    hosts = _Hosts(task)
    try:
        with ray_cluster(cluster.address, threads, cluster.workers) as places, stopped_at_once():
            claim_folder(folder, task.facts)
            with known_process(folder) as process:
                keeper = LastingActor(StudyKeeper, [task, folder.absolute(), process, wanted, trials])
                workers = RayWorkers(TrialWorker, [task, folder.absolute(), keeper], threads)
                run = TrialRun(workers, keeper, hosts.accept, hosts.done)
                try:
                    run.run(min(places, keeper.call("left")))
                except BaseException:
                    with suppress(Exception):  # the error that ended the search is the one to be told
                        run.give_back()
                        keeper.call("collect")
                    raise
                result: SearchResult = keeper.call("collect")
    except KeyboardInterrupt:
        raise Interrupted("stopped by a signal", where=folder, remedy=f"continue with --out {folder}") from None
    if run.lost:
        logger.info(f"replaced {run.lost} workers that died")
    finish_search(result)
    return result


class _Hosts:
    """The driver's side: who may take part, and what is said of trials."""

    def __init__(self, task: SearchTask) -> None:
        self._task = task
        self._versions = versions_here()
        self._first: TrialHost | None = None
        self._misses: Counter[str] = Counter()

    def accept(self, host: TrialHost) -> None:
        """Refuse a worker whose trials are not comparable with those of the others.

        Raises:
            InputError: it has other versions, or finds other texts, another backbone or another number format.
        """
        refuse_other_versions(host.node, host.versions, self._versions)
        if changed := differing_facts(self._task.facts, host.facts):
            raise InputError(
                f"trials of {host.node} would not be comparable: {changed}",
                remedy="give every machine the same files, and give --precision if number formats differ",
            )
        first = self._first = self._first or host
        if host.processor != first.processor:
            logger.warning(
                f"{host.node} computes with {host.processor}, {first.node} with {first.processor}: the same settings "
                "may give results that differ in the last digits"
            )

    def done(self, trial: AssignedTrial, outcome: TrialOutcome) -> None:
        """Say what came of a trial.

        Raises:
            BudgetError: too many settings in a row that do not fit.
        """
        log_outcome(outcome)
        self._misses[trial.budget] = 0 if outcome.fits else self._misses[trial.budget] + 1
        refuse_misses(trial.budget, self._misses[trial.budget])
