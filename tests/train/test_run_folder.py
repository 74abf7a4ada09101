"""Who may use a run's folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_the_processes_of_a_launcher_are_refused(
    news: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Any]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = command("train", news / "train.csv", "--out", tmp_path / "run")
    assert (done.code, done.error) == (
        2,
        "training runs in one process; expected WORLD_SIZE 1 or unset; received WORLD_SIZE 2; start it without "
        "torchrun or accelerate launch",
    )
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert "training runs in one process" not in command("train", news / "none.csv", "--out", tmp_path / "run").error
