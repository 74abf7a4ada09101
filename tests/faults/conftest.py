"""A fork server, a toy to train, and a summary that prints what the fault tests counted."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

Ask = Callable[..., dict[str, Any]]

# Times, and what depends on the moment.
PASSING = {"seconds", "texts_per_second", "tokenize_seconds", "machine", "reused"}


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The figures that the fault tests counted, whatever the verbosity."""
    for line in config.stash.get(FIGURES, []):
        terminalreporter.write_line(f"faults: {line}")


FIGURES = pytest.StashKey[list[str]]()

KINDS: dict[str, dict[str, Any]] = {
    "fast": {"encoder": "fast"},
    "reference": {"encoder": "reference"},
    "prefix": {"encoder": "fast", "layers": "top:1", "prefix_cache": "memory"},
    "bf16": {"encoder": "fast", "precision": "bf16", "scheduler": "cosine_restarts", "num_cycles": 2},
}


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say a figure in the terminal's summary."""
    lines = request.config.stash.setdefault(FIGURES, [])
    return lines.append


@pytest.fixture(scope="session")
def fast_folder() -> Iterator[Path]:
    """A folder in memory where there is one: what is tested is the order of writes, not the disk."""
    parent = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="pennyweight-faults-", dir=parent if os.access(parent, os.W_OK) else None))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def ask() -> Iterator[Ask]:
    """Give the fork server a task: `ask("train", kill_after=0.5, out=...)`; what it does not know goes to the task."""
    own = {"kill_after", "kill_at", "watch", "events", "memory", "file_size", "user"}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(Path(__file__).parent / "server.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ
        | {"PYTHONPATH": str(Path(__file__).parents[2] / "src"), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert "ready" in json.loads(process.stdout.readline())

    def ask(do: str, **arguments: Any) -> dict[str, Any]:
        task = {key: value for key, value in arguments.items() if key in own}
        task |= {"do": do, "with": {key: value for key, value in arguments.items() if key not in own}}
        process.stdin.write(json.dumps(task, default=str) + "\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        return json.loads(process.stdout.readline())  # type: ignore[union-attr]

    yield ask
    process.stdin.close()
    process.wait()
    process.stdout.close()


@pytest.fixture(scope="session")
def toy(tiny_backbone: Callable[..., Path], fast_folder: Path) -> dict[str, Any]:
    """Settings of a run of about a second that has everything: dropout, accumulation, evaluations, patience."""
    chance = random.Random(0)
    words = {"a": "bank rate shares forecast fell", "b": "cup striker final play match", "c": "probe chip moon power"}
    data = fast_folder / "toy.jsonl"
    with data.open("w") as handle:
        for number in range(96):
            label = "abc"[number % 3]
            text = " ".join(chance.choices([*words[label].split(), "the", "a", "of"], k=chance.randint(3, 24)))
            handle.write(json.dumps({"text": text, "label": label}) + "\n")
    return {
        "data": str(data),
        "backbone": str(tiny_backbone("bert", num_hidden_layers=3)),
        "strategy": "manual",
        "budget": "none",
        "r": 2,
        "lora_dropout": 0.1,
        "head_dropout": 0.1,
        "epochs": 3,
        "batch_size": 8,
        "gradient_accumulation_steps": 2,
        "eval_steps": 4,
        "save_steps": 3,
        "early_stopping_patience": 4,
        "learning_rate": 5e-3,
        "validation_size": 0.2,
        "device": "cpu",
        "precision": "fp32",
        "report": "short",
    }


def outcome(folder: Path) -> dict[str, Any]:
    """What must be the same, bit for bit, however often a run was interrupted."""
    metrics = _lasting(json.loads((folder / "metrics.json").read_text()))
    return {
        "adapter": _digest(folder / "adapter" / "adapter_model.safetensors"),
        "head": _digest(folder / "head.safetensors"),
        "answers": _digest(folder / "answers.safetensors"),
        "metrics": metrics,
    }


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lasting(held) for key, held in value.items() if key not in PASSING}
    return [_lasting(held) for held in value] if isinstance(value, list) else value


@pytest.fixture(scope="session", name="outcome")
def _outcome() -> Callable[[Path], dict[str, Any]]:
    """`outcome`, for tests, which cannot import this file."""
    return outcome


@pytest.fixture(scope="session")
def kinds() -> dict[str, dict[str, Any]]:
    """Runs that take different ways through the training."""
    return KINDS


@pytest.fixture(scope="session")
def whole(ask: Ask, toy: dict[str, Any], fast_folder: Path) -> Callable[[str], tuple[Any, float]]:
    """The outcome of each kind of run, never interrupted, and its seconds."""
    known: dict[str, tuple[Any, float]] = {}

    def of(kind: str) -> tuple[Any, float]:
        if kind not in known:
            folder = fast_folder / f"whole-{kind}"
            answer = ask("train", out=folder, **toy | KINDS[kind])
            assert answer["code"] == 0, answer
            known[kind] = outcome(folder), answer["seconds"]
        return known[kind]

    return of


@pytest.fixture(scope="session")
def saved(whole: Callable[[str], Any], fast_folder: Path) -> Path:
    """The folder of a finished run, with its classifier: to be copied, not to be changed."""
    whole("fast")
    return fast_folder / "whole-fast"


@pytest.fixture(scope="session")
def clean(saved: Path, fast_folder: Path) -> Path:
    """The classifier's own files, as they would be handed on."""
    manifest = json.loads((saved / "pennyweight.json").read_text())
    folder = fast_folder / "clean"
    for name in [*manifest["sha256"], "pennyweight.json"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(saved / name, folder / name)
    return folder
