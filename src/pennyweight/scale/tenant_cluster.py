"""`pennyweight train-many --ray`: classifiers are assigned to workers on a Ray cluster, those of lost workers again."""

from __future__ import annotations

import secrets
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InputError, ResourceError
from ..storage.atomic import write_text
from .predict_units import Cluster
from .ray_cluster import RayWorkers, ray_cluster
from .tenant_training import TenantOutcome
from .tenant_worker import TenantHost, TenantWorker
from .tenants import Tenant
from .unit_run import TRIES, CallFailed, CallWatch, WorkerLost, Workers
from .unit_worker import refuse_other_versions, versions_here

Lost = Callable[[Tenant, str], TenantOutcome]
_MARK = ".seen-"  # with a random ending, a file by which workers know the driver's folder


def outcomes_on_ray(
    tasks: Sequence[Tenant],
    folder: Path,
    overwrite: bool,
    cluster: Cluster,
    threads: int,
    lost: Lost,
    placed: Callable[[int], object],
) -> Generator[TenantOutcome, None, None]:
    """Train classifiers by several processes or machines; what comes of each, as it is ready.

    Args:
        tasks: their files and the backbone have the same names on all machines.
        folder: on a file system that all machines share.
        cluster: where, and how many workers; `threads`: of each.
        lost: the outcome of a classifier whose training ended several workers.
        placed: is told how many workers there are.

    Raises:
        InputError: what Ray lacks (see `ray_cluster`); a worker with other versions, or that does not see the folder.
        ResourceError: workers end before they have begun, or none finds a place.
    """
    with ray_cluster(cluster.address, threads, cluster.workers) as places, _marked(folder) as mark:
        count = min(places, len(tasks))
        placed(count)
        workers = RayWorkers(TenantWorker, [folder.absolute(), overwrite, mark], threads)
        yield from deal(workers, deque(tasks), count, folder, lost)


@contextmanager
def _marked(folder: Path) -> Iterator[str]:
    """A file of a new name in the folder; those of killed drivers go, since the folder is locked."""
    for left in folder.glob(f"{_MARK}*"):
        left.unlink()
    mark = folder / f"{_MARK}{secrets.token_hex(8)}"
    write_text(mark, "")
    try:
        yield mark.name
    finally:
        mark.unlink(missing_ok=True)


def deal(
    workers: Workers, waiting: deque[Tenant], count: int, folder: Path, lost: Lost
) -> Generator[TenantOutcome, None, None]:
    """Have all classifiers trained by `count` workers; see `outcomes_on_ray`."""
    calls: dict[Any, tuple[Any, Tenant | None]] = {}
    tries: Counter[str] = Counter()
    false_starts = 0

    def start() -> None:
        worker = workers.start()
        calls[workers.call(worker, "host")] = worker, None

    for _ in range(count):
        start()
    watch = CallWatch(workers, "lower --workers")
    while calls and (waiting or any(tenant is not None for _, tenant in calls.values())):
        ended = watch.ended(calls, placed=any(tenant is not None for _, tenant in calls.values()))
        if ended is None:
            continue
        worker, tenant = calls.pop(ended)
        try:
            value = workers.answer(ended).get()
        except (WorkerLost, CallFailed) as loss:
            workers.stop(worker)
            if tenant is None:
                false_starts += 1
                if false_starts >= TRIES:
                    raise ResourceError(
                        f"a worker ended {TRIES} times before it started", received=str(loss),
                        remedy="check that pennyweight is installed on every machine",
                    ) from loss  # fmt: skip
            else:
                tries[tenant.name] += 1
                if tries[tenant.name] >= TRIES:
                    yield lost(tenant, str(loss))
                else:
                    waiting.appendleft(tenant)
            start()
            continue
        if tenant is None:
            _accept(value, folder)
            false_starts = 0
        else:
            yield value
        if waiting:
            following = waiting.popleft()
            calls[workers.call(worker, "train", following)] = worker, following


def _accept(host: TenantHost, folder: Path) -> None:
    """Let a worker take part.

    Raises:
        InputError: it computes with other versions, or does not see the folder of the classifiers.
    """
    refuse_other_versions(host.node, host.versions, versions_here())
    if not host.sees_folder:
        raise InputError(
            "a machine of the cluster does not see the folder of the classifiers", where=host.node,
            expected=f"{folder} on a file system that all machines share", remedy="choose such a folder with --out",
        )  # fmt: skip
