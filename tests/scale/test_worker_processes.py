"""What is given to a process must be importable there, so that the work here is the standard library's."""

from __future__ import annotations

import operator
import os
import signal
from functools import partial

import psutil
import pytest

from pennyweight.scale.worker_processes import WorkerProcesses


def lost(task: object, how: str) -> str:
    return f"{task}: {how}"


def test_every_task_is_done_once() -> None:
    workers: WorkerProcesses[int, int] = WorkerProcesses(2, 1, partial, (operator.add, 100), lambda task, how: -1)
    assert sorted(workers.run(range(7))) == list(range(100, 107))


def test_a_process_has_its_number_of_threads_and_this_one_keeps_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    workers: WorkerProcesses[str, str | None] = WorkerProcesses(1, 1, partial, (os.getenv,), lambda task, how: None)
    assert list(workers.run(["OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM"])) == ["1", "false"]
    assert os.environ["OMP_NUM_THREADS"] == "2"


def test_a_task_whose_process_is_killed_is_tried_twice_and_the_others_are_done() -> None:
    workers: WorkerProcesses[int, object] = WorkerProcesses(2, 1, partial, (signal.raise_signal,), lost)
    quiet, deadly = int(signal.SIGURG), int(signal.SIGKILL)
    found = list(workers.run([quiet, deadly, quiet, quiet]))
    assert sorted(map(str, found)) == ["9: its process was killed, perhaps for lack of memory", "None", "None", "None"]


def test_processes_end_with_the_iterator() -> None:
    def children() -> list[psutil.Process]:
        return [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]

    workers: WorkerProcesses[int, int] = WorkerProcesses(2, 1, partial, (operator.neg,), lambda task, how: 0)
    results = workers.run(range(100))
    next(results)
    assert children()
    results.close()
    assert children() == []
