"""Many classifiers on one backbone: `pennyweight train-many`."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import InputError, Interrupted
from ..recipe.loading import resolve_recipe
from ..recipe.schema import SECTIONS, Recipe
from ..storage.atomic import recover
from ..storage.locks import lock_folder
from ..train.signals import stopped_at_once
from .predict_units import Cluster
from .tenant_cluster import outcomes_on_ray
from .tenant_summary import ManySummary, write_summary
from .tenant_training import TenantOutcome, TenantTrainer, with_threads
from .tenants import Tenant, read_manifest
from .worker_processes import TRIES, WorkerProcesses

logger = logging.getLogger(__name__)

Told = Callable[[TenantOutcome, int, int], object]


# Of the fields that `train` takes otherwise. Pictures take longer to draw than such a classifier takes to train;
# comparing candidates, LoRA-XS with its bases for each, and up to 12 epochs take several times what LoRA in the upper
# layers does.
QUICK = {
    "report": "tables", "prefix_precision": "auto", "contrastive": "off", "frozen_head": "off", "adapter": "lora",
    "epochs": 3,
}  # fmt: skip


@dataclass
class _Processes:
    """How many processes train; on a cluster that is known once they have found a place."""

    count: int

    def placed(self, count: int) -> None:
        """Note how many there are."""
        self.count = count


def train_many(
    manifest: str | Path,
    *,
    out: str | Path,
    recipe: str | Path | Recipe = "default",
    workers: int | None = None,
    ray: str | None = None,
    overwrite: bool = False,
    told: Told | None = None,
    **settings: Any,
) -> ManySummary:
    """Train a classifier for each row of a manifest, each in a folder of its own below `out`.

    A backbone is loaded once in each process. A classifier is written whole or not at all, and one that is finished
    is left as it is, so that the same call continues after an interruption. What one row's training fails of is listed,
    and the others continue.

    Args:
        manifest: see `tenants.read_manifest`.
        out: gets `NAME/` for each row, and `summary.html`, `summary.csv` and `summary.json` of all.
        recipe: recipe of all rows, where they do not say otherwise.
        workers: processes; the number of cores if not given. One trains in this process.
        ray: a Ray cluster to spread them over: `local`, `auto` or `HOST:PORT`; see `tenant_cluster`.
        overwrite: train again what is finished and was trained with other settings or texts.
        told: called after each row with its outcome, how many are done, and how many there are.
        **settings: any field of the recipe by its key, over the recipe and below the rows. Fields that are given
            neither here nor in the recipe nor in a row are as in `QUICK`.

    Raises:
        InputError: anything wrong with the manifest, before anything is trained.
        StorageError: the folder cannot be written, or another process is writing there.
        Interrupted: by SIGINT, SIGTERM or SIGHUP; the summary is written all the same.
    """
    tenants = read_manifest(manifest, _base_recipe(recipe, settings))
    folder = Path(out)
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise InputError("the folder of the classifiers is a file", where=folder, remedy="choose another --out")
    tasks, count, threads = _share_out(tenants, workers, None if ray is None else 1)
    began = time.perf_counter()
    outcomes: dict[str, TenantOutcome] = {}
    processes = _Processes(count)
    with lock_folder(folder), stopped_at_once():
        recover(folder)
        try:
            spread = None if ray is None else Cluster(ray, workers)
            with closing(_outcomes(tasks, folder, overwrite, processes, threads, spread)) as found:
                for outcome in found:
                    outcomes[outcome.name] = outcome
                    logger.info(f"{outcome} ({len(outcomes):,} of {len(tasks):,})")
                    if told is not None:
                        told(outcome, len(outcomes), len(tasks))
        except (KeyboardInterrupt, Interrupted):
            write_summary(_summary(folder, tenants, outcomes, processes.count, began))
            raise Interrupted(
                f"stopped by a signal after {len(outcomes):,} of {len(tasks):,} classifiers", where=folder,
                remedy="run the same command again to continue",
            ) from None  # fmt: skip
        summary = _summary(folder, tenants, outcomes, processes.count, began)
        write_summary(summary)
    return summary


def _base_recipe(recipe: str | Path | Recipe, settings: dict[str, Any]) -> Recipe:
    """What holds for all rows unless they say otherwise: `QUICK`, where neither the recipe nor a setting says more."""
    base = resolve_recipe(recipe, settings)
    said = recipe if isinstance(recipe, Recipe) else base
    given = {key for section in SECTIONS for key in getattr(said, section).model_fields_set} | set(settings)
    return resolve_recipe(base, {key: value for key, value in QUICK.items() if key not in given})


def _share_out(tenants: list[Tenant], workers: int | None, threads: int | None) -> tuple[list[Tenant], int, int | None]:
    """The rows in the order of their training, the number of processes, and the threads of each; None for the usual."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(workers or cores, len(tenants))
    threads = threads or (None if count == 1 else max(1, cores // count))
    # Those of one backbone follow each other: it is loaded once.
    groups: dict[tuple[str, str | None], list[Tenant]] = {}
    for tenant in tenants:
        groups.setdefault((tenant.recipe.model.backbone, tenant.recipe.model.revision), []).append(tenant)
    return [with_threads(tenant, threads) for group in groups.values() for tenant in group], count, threads


def _outcomes(
    tasks: list[Tenant],
    folder: Path,
    overwrite: bool,
    processes: _Processes,
    threads: int | None,
    spread: Cluster | None,
) -> Generator[TenantOutcome, None, None]:
    """The results of the rows as they are ready; with one process, it is this one."""
    make = partial(TenantTrainer, folder, overwrite=overwrite)
    if spread is not None:
        yield from outcomes_on_ray(tasks, folder, overwrite, spread, threads or 1, _lost, processes.placed)
    elif processes.count == 1:
        yield from map(make(), tasks)
    else:
        yield from WorkerProcesses(processes.count, threads or 1, make, (), _lost).run(tasks)


def _lost(tenant: Tenant, how: str) -> TenantOutcome:
    return TenantOutcome(tenant.name, "failed", f"{how}, {TRIES} times")


def _summary(
    folder: Path, tenants: list[Tenant], outcomes: dict[str, TenantOutcome], workers: int, began: float
) -> ManySummary:
    done = tuple(outcomes[tenant.name] for tenant in tenants if tenant.name in outcomes)
    left = tuple(tenant.name for tenant in tenants if tenant.name not in outcomes)
    return ManySummary(folder, done, left, workers, time.perf_counter() - began)
