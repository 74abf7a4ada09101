"""Classifiers dealt to workers of a cluster; a stand-in for Ray runs them in this process, and one test asks Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import pennyweight as pw
from pennyweight.errors import InputError, ResourceError
from pennyweight.recipe.loading import resolve_recipe
from pennyweight.scale.tenant_cluster import deal
from pennyweight.scale.tenant_training import TenantOutcome
from pennyweight.scale.tenant_worker import TenantHost, TenantWorker
from pennyweight.scale.tenants import Tenant
from pennyweight.scale.unit_run import WorkerLost
from pennyweight.scale.unit_worker import Answer, versions_here


@dataclass(eq=False)
class Trains:
    """A worker that says it has trained what it is given."""

    number: int

    def host(self) -> Answer:
        return Answer(TenantHost("here", versions_here(), True))

    def train(self, tenant: Tenant) -> Answer:
        return Answer(TenantOutcome(tenant.name, "trained"))


@dataclass(eq=False)
class Call:
    worker: Any
    name: str
    given: tuple[Any, ...]


class InThisProcess:
    """Workers without Ray; `dies` says which calls meet a worker's death."""

    def __init__(self, kind: Callable[[int], Any] = Trains, dies: Callable[[int, str], bool] | None = None) -> None:
        self._kind, self._dies = kind, dies or (lambda worker, what: False)
        self.started, self.stopped = 0, 0

    def start(self) -> Any:
        self.started += 1
        return self._kind(self.started)

    def call(self, worker: Any, name: str, *given: Any) -> Any:
        return Call(worker=worker, name=name, given=given)

    def first(self, calls: Sequence[Any], seconds: float) -> Any:
        return calls[0]

    def answer(self, call: Any) -> Answer:
        if self._dies(call.worker.number, call.given[0].name if call.given else call.name):
            raise WorkerLost("killed")
        found: Answer = getattr(call.worker, call.name)(*call.given)
        return found

    def stop(self, worker: Any) -> None:
        self.stopped += 1


@pytest.fixture
def tenants() -> deque[Tenant]:
    return deque(Tenant(name, f"manifest.csv:{name}", resolve_recipe("default", {})) for name in "abcdef")


def lost(tenant: Tenant, how: str) -> TenantOutcome:
    return TenantOutcome(tenant.name, "failed", how)


def test_every_classifier_is_trained_once(tenants: deque[Tenant], tmp_path: Path) -> None:
    workers = InThisProcess()
    found = list(deal(workers, tenants, 3, tmp_path, lost))
    assert sorted(one.name for one in found) == list("abcdef")
    assert (workers.started, workers.stopped) == (3, 0)


def test_a_lost_worker_is_replaced_and_what_it_trained_is_dealt_again(tenants: deque[Tenant], tmp_path: Path) -> None:
    died: set[str] = set()

    def dies(worker: int, what: str) -> bool:
        first = what in "be" and what not in died
        died.add(what)
        return first

    workers = InThisProcess(dies=dies)
    found = list(deal(workers, tenants, 2, tmp_path, lost))
    assert sorted((one.name, one.state) for one in found) == [(name, "trained") for name in "abcdef"]
    assert (workers.started, workers.stopped) == (4, 2)


def test_a_classifier_that_ends_two_workers_is_listed_and_the_others_go_on(
    tenants: deque[Tenant], tmp_path: Path
) -> None:
    found = list(deal(InThisProcess(dies=lambda worker, what: what == "c"), tenants, 2, tmp_path, lost))
    assert sorted((one.name, one.state) for one in found) == [
        (name, "failed" if name == "c" else "trained") for name in "abcdef"
    ]


def test_a_worker_that_begins_late_is_no_reason_to_end_a_long_run(tenants: deque[Tenant], tmp_path: Path) -> None:
    died: set[str] = set()

    def dies(worker: int, what: str) -> bool:
        begins = worker in (1, 4) and what == "host"  # at the start, and again in the place of the third
        trains = worker == 3 and what == "c" and what not in died
        died.add(what)
        return begins or trains

    workers = InThisProcess(dies=dies)
    found = list(deal(workers, tenants, 2, tmp_path, lost))
    assert sorted((one.name, one.state) for one in found) == [(name, "trained") for name in "abcdef"]


def test_workers_that_never_begin_end_it(tenants: deque[Tenant], tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="a worker ended 2 times before it started; received killed"):
        list(deal(InThisProcess(dies=lambda worker, what: what == "host"), tenants, 2, tmp_path, lost))


@pytest.mark.parametrize("other", ["versions", "folder"])
def test_a_machine_that_differs_must_not_take_part(other: str, tenants: deque[Tenant], tmp_path: Path) -> None:
    class Elsewhere(Trains):
        def host(self) -> Answer:
            found: TenantHost = super().host().get()
            changed = {"versions": found.versions | {"torch": "1.0"}} if other == "versions" else {"sees_folder": False}
            return Answer(replace(found, **changed))

    with pytest.raises(InputError, match=r"other versions|does not see the folder"):
        list(deal(InThisProcess(Elsewhere), tenants, 1, tmp_path, lost))


def test_a_worker_says_what_it_sees(tmp_path: Path) -> None:
    (tmp_path / "mark").touch()
    (tmp_path / "of the same name").mkdir()
    assert TenantWorker(tmp_path, False, "mark").host().get().sees_folder
    for other in ("missing", "of the same name"):
        assert not TenantWorker(tmp_path / other, False, "mark").host().get().sees_folder


def test_through_ray_the_classifiers_are_those_of_one_process(
    news: Path, tiny_backbone: Callable[..., Path], tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    lines = [f"{name},{news / 'train.csv'},{seed}" for seed, name in enumerate("ab")]
    (tmp_path / "manifest.csv").write_text("name,data,seed\n" + "\n".join(lines) + "\n", "utf-8")
    flags = [
        "--backbone",
        tiny_backbone("bert"),
        "--budget",
        "5k",
        "--epochs",
        "1",
        "--precision",
        "fp32",
        "--threads",
        "1",
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    environment |= {"HOME": str(tmp_path), "RAY_TMPDIR": "/tmp"}
    for out, more in (("ray", ["--ray", "local"]), ("plain", [])):
        words = ["train-many", tmp_path / "manifest.csv", "--out", tmp_path / out, "--workers", "1", *flags, *more]
        done = subprocess.run(
            [sys.executable, "-m", "pennyweight", *map(str, words)], env=environment, capture_output=True, text=True,
            timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "ray" / "summary.json").read_text("utf-8"))["workers"] == 1
    assert not list((tmp_path / "ray").glob(".seen-*"))
    texts = ["The bank and the rate.", "The striker and the cup."]
    for name in "ab":
        both = [pw.load(tmp_path / out / name).predict_proba(texts).tolist() for out in ("ray", "plain")]
        assert both[0] == both[1]
