"""A worker of `train-many --ray`, which trains one classifier after the other. It knows nothing of Ray."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from .tenant_training import TenantTrainer
from .tenants import Tenant
from .unit_worker import Answer, answer_of, versions_here


@dataclass(frozen=True)
class TenantHost:
    """A worker: the name of its machine, the versions of what computes, and whether it sees the driver's folder."""

    node: str
    versions: dict[str, str]
    sees_folder: bool


class TenantWorker:
    """Trains classifiers into a folder that all machines share.

    Args:
        folder: as for `TenantTrainer`; `overwrite`: too.
        mark: name of a file there, which a folder of the same name on another disk does not have.
    """

    def __init__(self, folder: Path, overwrite: bool, mark: str) -> None:
        self._mark = folder / mark
        self._trainer = TenantTrainer(folder, overwrite=overwrite)

    def ready(self) -> Answer:
        """Nothing; that it comes says that the worker has a place and has begun."""
        return Answer()

    def host(self) -> Answer:
        """Say what the worker is: `TenantHost`."""
        return answer_of(lambda: TenantHost(socket.gethostname(), versions_here(), self._mark.is_file()))

    def train(self, tenant: Tenant) -> Answer:
        """Train a classifier, unless that is done: `TenantOutcome`."""
        return answer_of(lambda: self._trainer(tenant))
