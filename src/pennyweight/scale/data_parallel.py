"""`pennyweight train --ray`: one training by processes on several machines.

Ray does what torchrun does on one machine: it starts the processes and tells them how to find each other. The command
itself is the first of them, so that it locks, saves, shows and stops as it does alone; see `train/process_group.py`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple
from typing import Any

from ..errors import PennyweightError, ResourceError
from ..train.launcher import VARIABLES, ProcessPlace
from .predict_units import Cluster
from .ray_cluster import LOCAL, RayWorkers, ray_cluster
from .unit_run import CallFailed, WorkerLost
from .unit_worker import Answer, refuse_other_versions, versions_here

_LAST_WORD = 5.0  # seconds in which a process that failed says why


class TrainingProcess:
    """One of a training's processes that is not the first."""

    def facts(self) -> Answer:
        """The machine it is on, and its versions."""
        return Answer((_address(), versions_here()))

    def train(self, variables: dict[str, str]) -> Answer:
        """Take part in the training.

        Args:
            variables: as torchrun sets them in the environment.
        """
        from .. import pipeline

        os.environ.update(variables)
        try:
            pipeline.train_beside()
        except PennyweightError as error:
            return Answer(error=type(error).__name__, message=str(error))
        return Answer()


@contextmanager
def training_processes(cluster: Cluster, threads: int = 1) -> Iterator[None]:
    """Inside, `pipeline.train` is the first process of a training on a cluster.

    Args:
        cluster: where, and how many processes, this one included.
        threads: CPUs of each.

    Raises:
        InputError: what Ray lacks, see `ray_cluster`; a machine with other versions.
        ResourceError: a process ended.
        PennyweightError: what one of the others failed of.
    """
    with ray_cluster(cluster.address, threads, cluster.workers) as places:
        size = cluster.workers or places
        workers = RayWorkers(TrainingProcess, (), threads)
        started = [workers.start() for _ in range(size - 1)]
        calls: list[Any] = []
        try:
            here = "127.0.0.1" if cluster.address == LOCAL else _address()
            machines = [here if cluster.address == LOCAL else _machine_of(workers, worker) for worker in started]
            port = _free_port(here)
            for rank, (index, place) in enumerate(zip(*_placed(here, machines), strict=True)):
                variables = dict(zip(VARIABLES, map(str, (*astuple(place), here, port)), strict=True))
                if rank == 0:
                    own = variables
                else:
                    calls.append(workers.call(started[index], "train", variables))
            with _environment(own if size > 1 else {}):
                yield
        except ResourceError as error:
            raise _first_cause(workers, calls) or error from error
        finally:
            for worker in started:
                workers.stop(worker)


def _placed(here: str, machines: list[str]) -> tuple[list[int], list[ProcessPlace]]:
    """Ranks, those of one machine after each other and this one's first: each with its worker's index, -1 for this."""
    order = sorted(range(len(machines)), key=lambda index: (machines[index] != here, machines[index], index))
    hosts = [here, *(machines[index] for index in order)]
    places = [
        ProcessPlace(rank, len(hosts), hosts[:rank].count(host), hosts.count(host)) for rank, host in enumerate(hosts)
    ]
    return [-1, *order], places


def _machine_of(workers: RayWorkers, worker: Any) -> str:
    try:
        address, versions = workers.answer(workers.call(worker, "facts")).get()
    except (WorkerLost, CallFailed) as error:
        raise ResourceError("a process of this training could not start", received=str(error)) from error
    refuse_other_versions(str(address), versions, versions_here())
    return str(address)


def _first_cause(workers: RayWorkers, calls: list[Any]) -> PennyweightError | None:
    """The error of another process, if there is one; this process only saw that it was gone."""
    call = workers.first(calls, _LAST_WORD) if calls else None
    if call is None:
        return None
    try:
        workers.answer(call).get()
    except (WorkerLost, CallFailed) as error:
        return ResourceError(
            "a process of this training ended", received=str(error),
            remedy="continue from the last checkpoint with the same number of processes and --resume",
        )  # fmt: skip
    except ResourceError:
        return None  # it, too, only saw another one go
    except PennyweightError as error:
        return error
    return None


def _address() -> str:
    import ray

    return str(ray.util.get_node_ip_address())


def _free_port(host: str) -> int:
    with socket.socket() as taken:
        taken.bind((host, 0))
        return int(taken.getsockname()[1])


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
