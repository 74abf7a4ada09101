"""The examples run from an empty folder, as their README says, and end with what they promise."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
TESTED = {"contest.sh", "few_shot.py", "multi_label.py", "ray_predict.sh", "serving.sh", "serving_client.py"}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """As in an activated environment: `pennyweight` and `python3` are this Python's, of this working tree."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, arguments in (("pennyweight", "-m pennyweight"), ("python3", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n', "utf-8")
        (programs / name).chmod(0o755)
    return os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "HF_HUB_OFFLINE": "1",
        "TERM": "dumb",
    }


def run(name: str, folder: Path, environment: dict[str, str], *arguments: str) -> str:
    """What the example prints, started in an empty folder."""
    folder.mkdir(exist_ok=True)
    program = [sys.executable] if name.endswith(".py") else ["bash"]
    done = subprocess.run(
        [*program, EXAMPLES / name, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_example_is_tested_and_has_its_line_in_the_readme() -> None:
    there = {file.name for file in EXAMPLES.iterdir() if file.suffix in (".py", ".sh")}
    listed = set(re.findall(r"\]\((\w+\.(?:py|sh))\)", (EXAMPLES / "README.md").read_text("utf-8")))
    assert there == listed == TESTED


@pytest.mark.acceptance
def test_the_contest_ends_with_a_checked_submission_within_the_budget(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    printed = run("contest.sh", tmp_path / "empty", environment)
    assert "submission.csv: 12 rows, every id once, labels in range" in printed
    metrics = json.loads((tmp_path / "empty" / "runs" / "contest" / "metrics.json").read_text("utf-8"))
    assert metrics["trainable"] <= 1_000_000


@pytest.mark.acceptance
def test_multi_label_prints_each_label_with_its_threshold(tmp_path: Path, environment: dict[str, str]) -> None:
    printed = run("multi_label.py", tmp_path / "empty", environment)
    assert len(re.findall(r"^  \w+ +[\d.]+%   predicted from +[\d.]+%$", printed, re.MULTILINE)) == 10


@pytest.mark.acceptance
def test_few_shot_trains_on_eight_texts_a_class(tmp_path: Path, environment: dict[str, str]) -> None:
    printed = run("few_shot.py", tmp_path / "empty", environment)
    assert printed.startswith("trained on 32 texts\n")
    metrics = json.loads((tmp_path / "empty" / "runs" / "few" / "metrics.json").read_text("utf-8"))
    assert "few_labels" in metrics["train"]


@pytest.mark.acceptance
def test_serving_is_asked_by_curl_and_by_python(tmp_path: Path, environment: dict[str, str]) -> None:
    pytest.importorskip("fastapi", reason="needs pennyweight[serve]")
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    if not any(importlib.util.find_spec(name) for name in ("httpx", "httpx2")):
        pytest.skip("no httpx in this environment")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    printed = run("serving.sh", tmp_path / "empty", environment, str(port))
    (line,) = (line for line in printed.splitlines() if line.startswith('{"classifier":"tickets"'))
    assert [one["label"] for one in json.loads(line)["predictions"]] == ["delivery", "billing"]
    assert "which words speak for account:" in printed


@pytest.mark.acceptance
def test_two_processes_of_ray_label_a_folder(tmp_path: Path, environment: dict[str, str]) -> None:
    pytest.importorskip("ray", reason="needs pennyweight[ray]; `make scale` installs it")
    run("ray_predict.sh", tmp_path / "empty", environment)
    manifest = json.loads((tmp_path / "empty" / "labelled" / "manifest.json").read_text("utf-8"))
    assert sum(part["rows"] for part in manifest["parts"]) == 36
