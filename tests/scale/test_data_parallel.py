"""One training by processes that Ray starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pennyweight.scale.data_parallel import _placed
from pennyweight.train.launcher import ProcessPlace

FLAGS = [
    "--budget", "5k", "--layers", "top:1", "--epochs", "2",
    "--batch-size", "8", "--precision", "fp32", "--report", "tables", "--seed", "3", "--learning-rate", "5e-3",
]  # fmt: skip


def test_ranks_of_a_machine_follow_each_other_and_this_ones_come_first() -> None:
    workers, places = _placed("b", ["a", "c", "b", "a"])
    assert workers == [-1, 2, 0, 3, 1]
    assert places == [
        ProcessPlace(0, 5, 0, 2), ProcessPlace(1, 5, 1, 2), ProcessPlace(2, 5, 0, 2), ProcessPlace(3, 5, 1, 2),
        ProcessPlace(4, 5, 0, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--workers", "2"], "--workers and --worker-threads are for several processes; add --ray local"),
        (
            ["--ray", "local", "--threads", "2"],
            "with --ray, --worker-threads sets the number of threads; leave out --threads",
        ),
        (
            ["--ray", "local", "--device", "cuda"],
            "with --ray, workers compute on CPUs; received --device cuda; leave it out, or start the processes with "
            "torchrun",
        ),
        (["--ray", "local", "--seeds", "2"], "several seeds are trained one after another; leave out --ray or --seeds"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(
    more: list[str], said: str, command: Callable[..., Any], news: Path
) -> None:
    done = command("train", news / "train.csv", *more)
    assert (done.code, done.error) == (2, said)


def test_ray_and_torchrun_give_the_same_bits(
    tiny_backbone: Callable[..., Path], news: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setenv("HOME", str(tmp_path))  # where Ray's token is made
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    given = ["train", str(news / "train.csv"), "--backbone", str(tiny_backbone("bert")), *FLAGS]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, before, after in (("ray", [], ["--ray", "local", "--workers", "2"]), ("torchrun", launcher, [])):
        words = [sys.executable, *before, "-m", "pennyweight", *given, "--out", str(tmp_path / name), *after]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    ray, torchrun = (
        {file.name: file.read_bytes() for file in (tmp_path / name).glob("*.safetensors")}
        for name in ("ray", "torchrun")
    )
    assert ray
    assert ray == torchrun
