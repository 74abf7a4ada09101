"""What a launcher says of its processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pennyweight.train.launcher import VARIABLES, ProcessPlace, hidden_launcher, is_follower, launched_place


@pytest.fixture(autouse=True)
def _not_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_torchrun_says_where_a_process_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launched_place() == ProcessPlace(0, 1, 0, 1)
    for name, value in zip(VARIABLES, ("3", "4", "1", "2", "127.0.0.1", "29500"), strict=True):
        monkeypatch.setenv(name, value)
    assert launched_place() == ProcessPlace(3, 4, 1, 2)
    assert is_follower()
    with hidden_launcher():
        assert not any(name in os.environ for name in VARIABLES)
        assert launched_place() == ProcessPlace()
    assert is_follower()


def test_processes_that_cannot_find_each_other_are_refused(
    news: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Any]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = command("train", news / "train.csv", "--out", tmp_path / "run")
    assert (done.code, done.error) == (
        2,
        "the processes cannot find each other; expected the variables that torchrun sets; received RANK unset, "
        "WORLD_SIZE 2, LOCAL_RANK unset, LOCAL_WORLD_SIZE unset, MASTER_ADDR unset, MASTER_PORT unset; start "
        "them with torchrun, or unset WORLD_SIZE to train in one process",
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["train", "x.csv", "--seeds", "2"], "training with several seeds"),
        (["search", "x.csv"], "a search"),
        (["train-many", "x.csv", "--out", "y"], "train-many"),
    ],
)
def test_commands_with_processes_of_their_own_are_refused(
    words: list[str], what: str, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Any]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = command(*words)
    assert (done.code, done.error) == (
        2,
        f"{what} starts its own processes; expected WORLD_SIZE 1 or unset; received WORLD_SIZE 2; start it without "
        "torchrun or accelerate launch",
    )
