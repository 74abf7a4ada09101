"""Threads that compute one batch each."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest
import torch

from pennyweight.model.inference.workers import run_all


@pytest.fixture(params=[1, 2, 3], ids=lambda threads: f"{threads} threads")
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_every_call_is_run_with_one_computing_thread(threads: int) -> None:
    found: dict[int, tuple[int, bool]] = {}

    def call(number: int) -> None:
        found[number] = torch.get_num_threads(), torch.is_inference_mode_enabled() or threads == 1

    run_all(partial(call, number) for number in range(20))
    assert found == {number: (1, True) for number in range(20)}
    assert torch.get_num_threads() == threads  # the caller's
    run_all([])


def test_an_error_reaches_the_caller_and_calls_that_have_not_begun_never_do(threads: int) -> None:
    begun: list[int] = []
    failed = threading.Event()

    def call(number: int) -> None:
        begun.append(number)
        if number == 0:
            failed.set()
            raise ValueError("of the first call")
        failed.wait(60)
        time.sleep(0.01)  # the error needs a moment to get out of its call

    with pytest.raises(ValueError, match=r"^of the first call$"):
        run_all([partial(call, number) for number in range(1000)])
    assert len(begun) < 1000
    so_far = len(begun)
    again: list[int] = []
    run_all([partial(again.append, number) for number in range(10)])  # the threads are of use as before
    assert sorted(again) == list(range(10))
    assert len(begun) == so_far
    assert torch.get_num_threads() == threads


def test_several_callers_at_once(threads: int) -> None:
    found: list[list[int]] = [[] for _ in range(4)]
    callers = [
        threading.Thread(target=run_all, args=([partial(mine.append, number) for number in range(50)],))
        for mine in found
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert [sorted(mine) for mine in found] == [list(range(50))] * 4


FORKS = """
import os, torch
from pennyweight.model.inference.workers import run_all
torch.set_num_threads(2)
before = []
run_all([lambda: before.append(1)] * 4)
child = os.fork()
if child == 0:
    after = []
    run_all([lambda: after.append(1)] * 4)
    os._exit(0 if len(after) == 4 else 1)
_, status = os.waitpid(child, 0)
run_all([lambda: before.append(1)] * 4)
print(len(before), os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="there is no fork here")
def test_a_forked_child_has_threads_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKS], capture_output=True, text=True, timeout=120)
    assert (done.stdout.split(), done.returncode) == (["8", "0"], 0), done.stderr


FORKS_AFTER_OPENMP = """
import os, torch
from pennyweight.model.inference.workers import in_a_thread_that_computes
torch.set_num_threads(2)
def compute():
    return float(torch.ones(1 << 20).add_(1).sum())
before = in_a_thread_that_computes(compute)
child = os.fork()
if child == 0:
    def fewer():
        found = compute(), torch.get_num_threads()
        torch.set_num_threads(1)
        return found
    found = in_a_thread_that_computes(fewer)
    os._exit(0 if found == (before, 2) and torch.get_num_threads() == 1 else 1)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="there is no fork here")
def test_a_forked_child_computes_although_its_parent_did() -> None:
    words = [sys.executable, "-W", "ignore", "-c", FORKS_AFTER_OPENMP]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert (done.stdout.split(), done.returncode) == (["0"], 0), done.stderr
