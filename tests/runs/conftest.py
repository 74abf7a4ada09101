"""Two small runs on a tiny backbone, made once: what reports, comparisons and explanations are tested on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pennyweight as pw
from pennyweight.data import sample


@pytest.fixture(scope="session")
def train_run(tiny_backbone: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function `(name, test=None, **settings) -> run folder`: one epoch on 120 news texts."""

    def train(name: str, test: Any = None, **settings: Any) -> Path:
        folder = tmp_path_factory.mktemp("runs") / name
        table = sample.load("train").select(range(120))
        rows = sample.load("test").select(range(60)) if test is None else test
        defaults = {"epochs": 1, "budget": "none", "r": 2, "target_modules": "query,value", "precision": "fp32"}
        pw.train(table, test=rows, out=folder, backbone=str(tiny_backbone("minilm")), **(defaults | settings))
        return folder

    return train


@pytest.fixture(scope="session")
def run(train_run: Callable[..., Path]) -> Path:
    """A finished run."""
    return train_run("first")


@pytest.fixture(scope="session")
def second_run(train_run: Callable[..., Path]) -> Path:
    """Another on the same test rows, given in another order."""
    table = sample.load("test").select(range(60))
    return train_run(
        "second",
        test=table.select(range(59, -1, -1)),
        strategy="head-only",
        report="short",
        r=None,
        target_modules=None,
    )
