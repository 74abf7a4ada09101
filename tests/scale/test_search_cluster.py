"""A search by several processes ends with the trials asked for, whoever is killed, and mixes no hosts that differ."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest

import pennyweight as pw
from pennyweight.scale import search_cluster as driver
from pennyweight.scale import trial_worker
from pennyweight.scale.predict_units import Cluster
from pennyweight.scale.study_keeper import StudyKeeper
from pennyweight.scale.trial_worker import TrialWorker
from pennyweight.scale.unit_run import CallFailed, WorkerLost
from pennyweight.scale.unit_worker import Answer
from pennyweight.search import trial as trials_module
from pennyweight.search.results import SearchResult
from pennyweight.search.study import WORKERS, counts, open_journal

ROOT = Path(__file__).parents[2]
QUICK = {"precision": "fp32", "batch_size": 16, "epochs": "1,2", "seed": 7, "validation_size": 0.5}
Command = Callable[..., Any]


class InThisProcess:
    """Workers without processes, in Ray's place: they compute when they are asked what came of a call."""

    broken: ClassVar[list[tuple[str, Exception]]] = []  # methods whose next call ends so

    def __init__(self, kind: type[TrialWorker], given: Sequence[Any], threads: int) -> None:
        self._make = lambda: kind(*given)
        self._calls: list[tuple[Any, str, tuple[Any, ...]]] = []

    def start(self) -> list[TrialWorker]:
        return [self._make()]

    def call(self, worker: list[TrialWorker], name: str, *given: Any) -> int:
        self._calls.append((worker, name, given))
        return len(self._calls) - 1

    def first(self, calls: Sequence[int], seconds: float) -> int:
        return min(calls)

    def answer(self, call: int) -> Answer:
        worker, name, given = self._calls[call]
        for number, (method, error) in enumerate(self.broken):
            if method == name:
                del self.broken[number]
                raise error
        found: Answer = getattr(worker[0], name)(*given)
        return found

    def stop(self, worker: list[TrialWorker]) -> None:
        worker.clear()


class Forgetful:
    """A keeper that is begun anew for each call, and repeats it: as if it were killed every time, after the work."""

    def __init__(self, kind: type[StudyKeeper], given: Sequence[Any]) -> None:
        self._make = lambda: kind(*given)

    def call(self, name: str, *given: Any) -> Any:
        first = getattr(self._make(), name)(*given).get()
        again = getattr(self._make(), name)(*given).get()
        if name == "ask":
            assert again == first
        return first


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def cluster(address: str, threads: int, workers: int | None) -> Iterator[int]:
        yield workers or 1

    monkeypatch.setattr(driver, "ray_cluster", cluster)
    monkeypatch.setattr(driver, "RayWorkers", InThisProcess)
    monkeypatch.setattr(driver, "LastingActor", Forgetful)
    monkeypatch.setattr(InThisProcess, "broken", [])


@pytest.fixture
def settings(tiny_backbone: Callable[..., Path]) -> dict[str, Any]:
    return {**QUICK, "backbone": str(tiny_backbone("bert"))}


def outcomes(found: SearchResult) -> list[tuple[Any, ...]]:
    return [(one.budget, one.state, one.settings, one.accuracy, one.trainable) for one in found.trials]


def asked_for(folder: Path, budget: str) -> int:
    """Trials with a result; none may be running."""
    with open_journal(folder, 7) as journal:
        known = journal.study(budget).get_trials(deepcopy=False)
    assert "RUNNING" not in {trial.state.name for trial in known}
    return sum(counts(trial) for trial in known)


def files_of(folder: Path) -> set[str]:
    return {item.name for item in folder.iterdir() if not item.name.startswith(".")}


@pytest.mark.usefixtures("without_ray")
def test_one_worker_tries_what_one_process_tries(news: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    whole = pw.search(news / "train.csv", budget="1k,5k", trials=3, out=tmp_path / "plain", **settings)
    found = driver.search_on_ray(
        news / "train.csv", cluster=Cluster(), budget="1k,5k", trials=3, out=tmp_path / "ray", **settings
    )
    assert outcomes(found) == outcomes(whole)
    assert found.best == whole.best
    assert files_of(tmp_path / "ray") == files_of(tmp_path / "plain")
    assert not (tmp_path / "ray" / WORKERS).exists()
    assert not (tmp_path / "ray" / ".prefix").exists()
    # How it was searched is no part of the best recipe.
    assert (tmp_path / "ray" / "best.yaml").read_text() == (tmp_path / "plain" / "best.yaml").read_text()
    more = pw.search(news / "train.csv", budget="5k", trials=4, out=tmp_path / "ray", **settings)  # it goes on alone
    assert len([one for one in more.trials if one.budget == "5k" and one.state == "complete"]) == 4


@pytest.mark.usefixtures("without_ray")
def test_what_lost_workers_tried_is_tried_again(
    news: Path, settings: dict[str, Any], tmp_path: Path, command: Command
) -> None:
    whole = pw.search(news / "train.csv", budget="5k", trials=3, out=tmp_path / "plain", **settings)
    InThisProcess.broken[:] = [("host", CallFailed("bug")), ("run", WorkerLost("gone"))]
    flags = [part for key, value in settings.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    done = command(
        "search", news / "train.csv", "--budget", "5k", "--trials", 3, "--out", tmp_path / "s", "--ray", "local",
        "--workers", 2, *flags,
    )  # fmt: skip
    assert (done.code, "2 workers that died" in done.err) == (0, True), done.err
    assert asked_for(tmp_path / "s", "5k") == 3
    assert "5k trial 2: validation accuracy" in done.err
    tried = json.loads((tmp_path / "s" / "trials.json").read_text())["trials"]
    assert next(one["settings"] for one in tried if one["state"] == "complete") == whole.trials[0].settings
    assert {one["state"] for one in tried} <= {"complete", "does not fit"}


@pytest.mark.usefixtures("without_ray")
def test_settings_that_end_two_workers_end_the_search_by_name(
    news: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"cluster": Cluster(), "budget": "5k", "trials": 2, "out": tmp_path / "s", **settings}
    InThisProcess.broken[:] = [("run", WorkerLost("out of memory"))] * 2
    with pytest.raises(pw.errors.ResourceError) as caught:
        driver.search_on_ray(news / "train.csv", **asked)
    said = str(caught.value)
    assert said.startswith("budget 5k, strategy graded, ")
    assert "a worker ended 2 times while it trained these settings; received out of memory; give workers more" in said
    assert asked_for(tmp_path / "s", "5k") == 0
    InThisProcess.broken[:] = [("host", WorkerLost("no memory"))] * 2
    with pytest.raises(pw.errors.ResourceError, match="a worker ended 2 times before it had read the texts; received"):
        driver.search_on_ray(news / "train.csv", **asked)
    driver.search_on_ray(news / "train.csv", **asked)
    assert asked_for(tmp_path / "s", "5k") == 2


@pytest.mark.usefixtures("without_ray")
def test_a_signal_gives_back_what_is_being_tried(
    news: Path, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {"cluster": Cluster(), "budget": "5k", "trials": 2, "out": tmp_path / "s", **settings}
    with monkeypatch.context() as patched:

        def stopped(*given: Any, **more: Any) -> None:
            raise KeyboardInterrupt

        patched.setattr(trials_module, "train", stopped)
        with pytest.raises(pw.errors.Interrupted, match="stopped by a signal; continue with --out"):
            driver.search_on_ray(news / "train.csv", **asked)
    assert not (tmp_path / "s" / WORKERS).exists()
    whole = pw.search(news / "train.csv", budget="5k", trials=2, out=tmp_path / "plain", **settings)
    assert outcomes(driver.search_on_ray(news / "train.csv", **asked)) == outcomes(whole)
    # Nothing is left to do: no worker is started.
    InThisProcess.broken[:] = [("ready", WorkerLost("gone"))]
    assert outcomes(driver.search_on_ray(news / "train.csv", **asked)) == outcomes(whole)


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"versions": {"torch": "1.0"}}, " has other versions; expected "),
        ({"facts": {"number format": "bf16"}}, "number format: was 'fp32', is 'bf16'; give every machine the same "),
        ({"facts": {"data": "other"}}, " would not be comparable: data: was "),
    ],
)
def test_workers_that_differ_are_refused(
    change: dict[str, Any], said: str, news: Path, settings: dict[str, Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    host = TrialWorker._host

    def other(worker: TrialWorker) -> trial_worker.TrialHost:
        found = host(worker)
        return replace(found, **{key: {**getattr(found, key), **value} for key, value in change.items()})

    monkeypatch.setattr(TrialWorker, "_host", other)
    with pytest.raises(pw.errors.InputError) as caught:
        driver.search_on_ray(
            news / "train.csv", cluster=Cluster(), budget="5k", trials=1, out=tmp_path / "s", **settings
        )
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("without_ray")
def test_where_the_folder_is_not_seen_trials_share_no_files(
    news: Path, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    train = trials_module.train

    def watched(data: Any, **more: Any) -> Any:
        seen.append((more["recipe"].train.cache_dir, more["recipe"].train.device, more["recipe"].train.threads))
        return train(data, **more)

    monkeypatch.setattr(trials_module, "train", watched)
    asked: dict[str, Any] = {"cluster": Cluster(), "budget": "5k", "trials": 1, **settings, "head": "linear"}
    driver.search_on_ray(news / "train.csv", out=tmp_path / "s", **asked)
    monkeypatch.setattr(TrialWorker, "_sees_folder", lambda worker: False)
    driver.search_on_ray(news / "train.csv", out=tmp_path / "t", **asked)
    assert seen == [(str((tmp_path / "s" / ".prefix").resolve()), "cpu", 1), (None, "cpu", 1)]


def test_flags_that_contradict_say_so(news: Path, tmp_path: Path, command: Command) -> None:
    for flags, said in {
        ("--workers", 2): "--workers and --worker-threads are for several processes; add --ray local",
        ("--ray", "local", "--device", "cuda"): "with --ray, workers compute on CPUs; received --device cuda; leave it "
        "out",
        ("--ray", "local", "--threads", 2): "with --ray, --worker-threads sets the number of threads; leave out "
        "--threads",
    }.items():
        done = command("search", news / "train.csv", "--out", tmp_path / "s", *flags)
        assert (done.code, done.error) == (2, said)
    assert not (tmp_path / "s").exists()


def test_without_ray_it_says_what_to_install(
    news: Path, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(pw.errors.InputError, match=r"^--ray needs Ray; run `pip install 'pennyweight\[ray\]'`$"):
        driver.search_on_ray(news / "train.csv", cluster=Cluster(), budget="5k", out=tmp_path / "s", **settings)
    assert not (tmp_path / "s").exists()


# --- with Ray ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_ray(tmp_path: Path) -> dict[str, str]:
    """The environment of a command that uses Ray: a home of its own, for the token."""
    pytest.importorskip("ray", reason="Ray is not installed")
    home = tmp_path / "home"
    home.mkdir()
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HOME": str(home), "RAY_TMPDIR": "/tmp"}


def begin(environment: dict[str, str], news: Path, out: Path, trials: int, settings: dict[str, Any]) -> Any:
    flags = [part for key, value in settings.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    words = ["search", str(news / "train.csv"), "--budget", "5k", "--trials", str(trials), "--out", str(out), *flags]
    return subprocess.Popen(
        [sys.executable, "-m", "pennyweight", *words, "--ray", "local", "--workers", "2"],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def processes_of(driver_id: int, kind: str) -> list[psutil.Process]:
    """The processes below a driver that hold an actor of a class, in Ray's words for them."""
    below = psutil.Process(driver_id).children(recursive=True)
    return [each for each in below if "".join(each.cmdline()[:1]).startswith(f"ray::{kind}")]


def test_the_study_survives_the_death_of_its_keeper(
    with_ray: dict[str, str], news: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    """Killed once in the middle of the search; Ray begins it anew, and the search ends with what was asked for."""
    out, killed = tmp_path / "s", 0
    process = begin(with_ray, news, out, 8, settings)
    while process.poll() is None and not killed:
        time.sleep(0.05)
        with suppress(psutil.NoSuchProcess):
            if (out / "trials.json").exists():
                for keeper in processes_of(process.pid, "StudyKeeper"):
                    keeper.kill()
                    killed += 1
    said = process.communicate(timeout=200)[1]
    assert (process.returncode, killed) == (0, 1), said
    assert asked_for(out, "5k") == 8
    listed = json.loads((out / "trials.json").read_text("utf-8"))["trials"]
    assert {one["state"] for one in listed} <= {"complete", "pruned", "does not fit"}


@pytest.mark.acceptance
@pytest.mark.usefixtures("default_signals")
def test_keepers_workers_and_drivers_killed_at_random(
    with_ray: dict[str, str], news: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    """Twenty kills, of all that takes part: the study ends with exactly the trials that were asked for."""
    out, trials, chance = tmp_path / "s", 60, random.Random(0)
    kills, code, said = {"StudyKeeper": 0, "TrialWorker": 0, "driver": 0}, -1, ""
    while code or sum(kills.values()) < 20:
        if not code:
            trials += 20  # a fast machine was done before the twentieth
        process = begin(with_ray, news, out, trials, settings)
        while process.poll() is None and sum(kills.values()) < 20:
            time.sleep(chance.uniform(0.5, 4))
            # Whatever was killed least: on a slow machine there is not a worker at every moment.
            kind = min(kills, key=lambda name: (kills[name], chance.random()))
            with suppress(psutil.NoSuchProcess, IndexError):
                if kind == "driver":
                    process.kill()
                else:
                    chance.choice(processes_of(process.pid, kind)).kill()
                kills[kind] += 1
        said, code = process.communicate(timeout=300)[1], process.returncode
        # Two kills over the same settings, or before a worker has begun, end the search by name; the next one goes on.
        assert code in (0, -signal.SIGKILL) or "a worker ended 2 times" in said, said
        assert code or asked_for(out, "5k") == trials
    assert min(kills.values()) > 1, kills
    listed = json.loads((out / "trials.json").read_text("utf-8"))["trials"]
    assert sum(one["state"] != "does not fit" for one in listed) == trials
