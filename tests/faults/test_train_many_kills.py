"""SIGKILL of `train-many` at random moments, workers or all of it: every folder is a whole classifier or not there."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pennyweight.artifact.saved_files import read_files
from pennyweight.scale.tenants import SUMMARIES

ROWS = 8


def command(manifest: Path, out: Path, workers: int) -> list[str]:
    words = ["train-many", str(manifest), "--out", str(out), "--workers", str(workers), "--precision", "fp32"]
    return [sys.executable, "-m", "pennyweight", *words, "--budget", "5k", "--epochs", "1"]


def check(out: Path) -> list[str]:
    """The classifiers that are there, each of them whole."""
    names = [item.name for item in out.iterdir() if not item.name.startswith(".") and item.name not in SUMMARIES]
    for name in names:
        read_files(out / name)
        assert (out / name / "report.html").is_file()
    return names


def kill_at_random(count: int, manifest: Path, out: Path, chance: random.Random) -> None:
    for number in range(count):
        process = subprocess.Popen(command(manifest, out, 2), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(chance.uniform(3, 12))
        except subprocess.TimeoutExpired:
            # Every other time a worker, and then all of it; its workers end by themselves.
            children = psutil.Process(process.pid).children()
            if number % 2 and children:
                os.kill(chance.choice(children).pid, signal.SIGKILL)
                time.sleep(chance.uniform(0, 3))
            process.kill()
            process.wait()
            assert psutil.wait_procs(children, timeout=30)[1] == []
        if out.exists():
            check(out)


@pytest.mark.faults
@pytest.mark.usefixtures("default_signals")
def test_killed_at_random_and_gone_on_with(
    tmp_path: Path, news: Path, tiny_backbone: Callable[..., Path], figure: Callable[[str], None]
) -> None:
    manifest, out, kills = tmp_path / "manifest.jsonl", tmp_path / "out", 12
    row = {"data": str(news / "train.csv"), "backbone": str(tiny_backbone("bert"))}
    lines = [json.dumps({"name": f"n{number}", "seed": number} | row) for number in range(ROWS)]
    manifest.write_text("\n".join(lines) + "\n", "utf-8")
    kill_at_random(kills, manifest, out, random.Random(0))
    done = subprocess.run(command(manifest, out, 2), capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stderr.count("error:")) == (0, 0), done.stderr
    assert len(check(out)) == ROWS
    assert [item.name for item in out.iterdir() if item.name.endswith(".part")] == []
    again = subprocess.run(
        command(manifest, tmp_path / "undisturbed", 2), capture_output=True, text=True, timeout=600, check=False
    )
    assert again.returncode == 0
    for number in range(ROWS):
        first, second = (tmp_path / which / f"n{number}" / "head.safetensors" for which in ("out", "undisturbed"))
        assert first.read_bytes() == second.read_bytes()
    figure(f"train-many killed {kills} times at random: all {ROWS} classifiers whole, with the bits of a quiet run")
