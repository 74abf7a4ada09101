"""Locks on folders: one run at a time, and none left behind."""

from __future__ import annotations

import multiprocessing
import os
import threading
from pathlib import Path

import pytest

from pennyweight.errors import StorageError
from pennyweight.storage import locks
from pennyweight.storage.locks import check_locks, hold_over_forks, lock_folder

from .killing import die, killed


def test_a_folder_is_held_by_one_run_at_a_time(tmp_path: Path) -> None:
    with lock_folder(tmp_path / "run"):
        with pytest.raises(StorageError) as caught, lock_folder(tmp_path / "run"):
            pass
        assert str(caught.value) == (
            f"{tmp_path}/run: another run is writing to this folder; wait for it, or choose another --out"
        )
    with lock_folder(tmp_path / "run"):
        pass


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    def work() -> None:
        with lock_folder(tmp_path):
            die()

    killed(work)
    with lock_folder(tmp_path):
        pass


def test_a_second_process_is_refused_what_the_first_has_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_locks(tmp_path)
    monkeypatch.setattr(locks.fcntl, "flock", lambda descriptor, flags: None)  # a file system that grants it to anyone
    with pytest.raises(StorageError) as caught:
        check_locks(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: file locks do not work on this file system: two processes got the same lock; choose a folder on "
        "another file system"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_process_never_finds_a_lock_held_by_a_thread_that_it_lacks() -> None:
    lock = threading.Lock()
    hold_over_forks(lock)
    lock.acquire()
    threading.Timer(0.1, lock.release).start()
    child = multiprocessing.get_context("fork").Process(target=lambda: os._exit(7 if lock.acquire(timeout=30) else 1))
    child.start()
    child.join(60)
    assert child.exitcode == 7
    assert lock.acquire(timeout=30)
    lock.release()  # every later fork of this process takes it, too
