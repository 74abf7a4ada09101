"""Threads that compute one batch each, with one thread inside.

Two batches side by side take less time than one after the other on two threads: a product's threads wait for each other
at its end, and what is not a product often has one thread only. A batch's numbers do not depend on how many are
computed at once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import torch

from ...storage.locks import hold_over_forks
from ...system.forks import may_wait_forever

Result = TypeVar("Result")

_LOCK = threading.Lock()
hold_over_forks(_LOCK)
_POOLS: dict[int, ThreadPoolExecutor] = {}


def run_all(calls: Iterable[Callable[[], Any]]) -> None:
    """Run every call, each in a thread with one computing thread, as many at a time as torch has threads.

    The first error is raised once the calls that have begun are done; the others are not begun.
    """
    waiting, threads = list(calls), torch.get_num_threads()
    if threads == 1:
        for call in waiting:
            call()
        return
    failed = threading.Event()
    futures = [_pool(threads).submit(_inference, call, failed) for call in waiting]
    try:
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
    finally:
        for future in futures:
            future.cancel()
        wait(futures)


@torch.inference_mode()
def _inference(call: Callable[[], Any], failed: threading.Event) -> None:
    """One call; none where another has failed."""
    if failed.is_set():
        return
    try:
        call()
    except BaseException:
        failed.set()
        raise


def _pool(size: int) -> ThreadPoolExecutor:
    with _LOCK:
        if size not in _POOLS:
            ready = threading.Barrier(size + 1)

            def begin() -> None:
                # The number of threads is each thread's own, but what is set last holds for threads yet to come, and
                # for those that have not asked: theirs is set again when they first compute.
                torch.get_num_threads()
                torch.set_num_threads(1)
                ready.wait()

            pool = ThreadPoolExecutor(size, thread_name_prefix="pennyweight-inference", initializer=begin)
            for _ in range(size):
                pool.submit(lambda: None)
            ready.wait()
            torch.set_num_threads(size)
            _POOLS[size] = pool
        return _POOLS[size]


class _Forked:
    """In a forked process: a thread that computes in place of the one that it began with."""

    other: ThreadPoolExecutor | None = None


def in_a_thread_that_computes(work: Callable[[], Result]) -> Result:
    """Do `work`; in place of the thread that a forked process began with, in another (`may_wait_forever` says why)."""
    if not may_wait_forever():
        return work()
    if _Forked.other is None:
        _Forked.other = ThreadPoolExecutor(1, thread_name_prefix="pennyweight-forked")
    threads = torch.get_num_threads()

    def run() -> tuple[Result, int]:
        torch.set_num_threads(threads)
        return work(), torch.get_num_threads()

    found, changed = _Forked.other.submit(run).result()
    if changed != threads:
        torch.set_num_threads(changed)
    return found


def _begin_child() -> None:
    """A child process has none of its parent's threads."""
    _POOLS.clear()
    _Forked.other = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_child)
