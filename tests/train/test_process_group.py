"""Data-parallel training: two processes on a tiny model, beside one."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import pennyweight as pw
from pennyweight.data.batching import plan_batches
from pennyweight.errors import RecipeError
from pennyweight.train.launcher import ProcessPlace
from pennyweight.train.process_group import ProcessGroup, deal
from pennyweight.train.signals import Stop

from ..forked_python import ForkedPython

SETTINGS: dict[str, Any] = {
    "budget": "none", "r": 2, "target_modules": "query,value", "layers": "top:1", "epochs": 3, "batch_size": 8,
    "learning_rate": 5e-3, "precision": "fp32", "report": "tables", "lora_dropout": 0.0, "head_dropout": 0.0, "seed": 3,
    "save_steps": 1, "save_total_limit": 50,
}  # fmt: skip

TRAININGS = """
import os, signal, sys
from pathlib import Path
import pennyweight as pw
from pennyweight.errors import Interrupted
folder, news, backbone, ports = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4:]
rank = os.environ["RANK"]
(folder / f"pid-{rank}").write_text(str(os.getpid()))

class KillOther:
    def step(self, step, total, loss, rate, texts, seconds):
        if step == 4:
            os.kill(int((folder / "pid-1").read_text()), signal.SIGTERM)
    def evaluation(self, record):
        pass

def train(name, observer=None, resume=False, **more):
    os.environ["MASTER_PORT"] = ports.pop()
    given = SETTINGS | {"backbone": backbone, "test": news / "test.csv", "out": folder / name} | more
    return pw.train(news / "train.csv", observer=observer, resume=resume, **given)

labels = train("a").predict(["The match and the cup"])
(folder / f"labels-{rank}").write_text(repr(labels))
train("b")
try:
    train("c", KillOther())
except Interrupted as stop:
    (folder / f"stop-{rank}").write_text(str(stop.problem))
train("c", resume=True)
dropout = {"lora_dropout": 0.3, "head_dropout": 0.3, "prefix_cache": "off"}
train("dropout", **dropout)
train("dropout-again", **dropout)
train("taught", teacher=str(folder / "a"), unlabelled=str(news / "test.csv"), max_steps=4)
try:
    train("a")
except Exception as error:
    (folder / f"refused-{rank}").write_text(f"{error.told} {error}")
"""

KILLED = """
import os, signal, sys
from pathlib import Path
import pennyweight as pw
from pennyweight.errors import PennyweightError
folder, news, backbone, victim, resume = Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:6]
(folder / f"pid-{os.environ['RANK']}").write_text(str(os.getpid()))

class Kill:
    def step(self, step, total, loss, rate, texts, seconds):
        if step == 7:
            os.kill(int((folder / f"pid-{victim}").read_text()), signal.SIGKILL)
    def evaluation(self, record):
        pass

try:
    pw.train(
        news / "train.csv", observer=None if resume else Kill(), resume=bool(resume), backbone=backbone,
        test=news / "test.csv", out=folder / f"killed-{victim}", **SETTINGS,
    )
except PennyweightError as error:
    sys.exit(str(error))
"""

GONE = """
import os
import torch
from pennyweight.errors import ResourceError
from pennyweight.train.process_group import launched_group
with launched_group() as group:
    rows = group.shared_rows((2, 3), torch.float32)
    rows[group.rank] = group.rank + 1
    group.wait()
    assert rows.tolist() == [[1, 1, 1], [2, 2, 2]], rows
    assert group.gather(group.rank) == [0, 1]
    if group.rank == 1:
        os._exit(9)
    try:
        group.wait()
    except ResourceError as error:
        print(error)
"""


def run_together(script: str, *arguments: object, size: int = 2) -> list[subprocess.CompletedProcess[str]]:
    """A script in processes as torchrun starts them, each with one thread; behind its arguments some free ports."""
    holders = [socket.create_server(("127.0.0.1", 0)) for _ in range(10)]
    ports = [str(holder.getsockname()[1]) for holder in holders]
    for holder in holders:
        holder.close()
    place = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": ports[0]}
    started = [
        ForkedPython(script, *arguments, *ports, **place, RANK=rank, LOCAL_RANK=rank, OMP_NUM_THREADS=1)
        for rank in range(size)
    ]
    return [one.wait() for one in started]


@pytest.fixture(scope="module")
def runs(tiny_backbone: Callable[..., Path], news: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two processes, and one of one: `alone`."""
    folder, backbone = tmp_path_factory.mktemp("together"), tiny_backbone("bert")
    ended = run_together(f"SETTINGS = {SETTINGS!r}" + TRAININGS, folder, news, backbone)
    assert [one.returncode for one in ended] == [0, 0], [one.stderr for one in ended]
    pw.train(news / "train.csv", test=news / "test.csv", out=folder / "alone", backbone=str(backbone), **SETTINGS)
    return folder


def weights(run: Path) -> dict[str, bytes]:
    found = {file.name: file.read_bytes() for file in run.glob("*.safetensors")}
    assert found
    return found


def test_two_runs_of_two_processes_are_the_same_to_the_bit(runs: Path) -> None:
    assert weights(runs / "a") == weights(runs / "b")
    assert weights(runs / "dropout") == weights(runs / "dropout-again")
    assert weights(runs / "dropout") != weights(runs / "a")


def test_a_signal_to_one_process_stops_all_after_the_same_step_and_the_run_resumes(runs: Path) -> None:
    told = {(runs / f"stop-{rank}").read_text() for rank in (0, 1)}
    assert len(told) == 1
    # Sent after step 4; a process that waits in a step's all-reduce by then tells of it in the next one.
    assert told.pop().startswith(tuple(f"stopped by a signal after step {step} of " for step in range(5, 18)))
    assert weights(runs / "c") == weights(runs / "a")


@pytest.mark.parametrize("victim", [0, 1])
def test_after_one_process_is_killed_the_run_resumes_to_the_same_bits(
    victim: int, runs: Path, news: Path, tiny_backbone: Callable[..., Path]
) -> None:
    given = [f"SETTINGS = {SETTINGS!r}" + KILLED, runs, news, tiny_backbone("bert"), victim]
    ended = run_together(*given, "")
    assert ended[victim].returncode == -9
    assert "another process of this training ended" in ended[1 - victim].stderr
    assert not (runs / f"killed-{victim}" / "pennyweight.json").exists()
    resumed = run_together(*given, "resume")
    assert [one.returncode for one in resumed] == [0, 0], [one.stderr for one in resumed]
    assert weights(runs / f"killed-{victim}") == weights(runs / "a")


def test_two_processes_learn_what_one_learns(runs: Path) -> None:
    file = Path("checkpoints", "step-00000001", "optimizer.safetensors")
    alone, together = load_file(runs / "alone" / file), load_file(runs / "a" / file)
    for name, moment in alone.items():
        if name.endswith("exp_avg"):  # a tenth of the first step's gradient
            assert (together[name] - moment).norm() <= 1e-5 * moment.norm(), name
    losses = [
        [record["validation_loss"] for record in pw.load(runs / name).metrics["train"]["history"]]
        for name in ("alone", "a")
    ]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_a_teacher_of_the_first_process_teaches_all(runs: Path, news: Path, tiny_backbone: Callable[..., Path]) -> None:
    given = SETTINGS | {"backbone": str(tiny_backbone("bert")), "test": news / "test.csv", "max_steps": 4}
    further = {"teacher": str(runs / "a"), "unlabelled": str(news / "test.csv")}
    alone, together = pw.train(news / "train.csv", **given | further).metrics, pw.load(runs / "taught").metrics
    assert together["distillation"]["agreement_with_labels"] == alone["distillation"]["agreement_with_labels"]
    losses = [[record["train_loss"] for record in each["train"]["history"]] for each in (alone, together)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


def test_every_process_gets_the_classifier_and_the_first_ones_errors(runs: Path) -> None:
    assert (runs / "labels-0").read_text() == (runs / "labels-1").read_text()
    refusals = [(runs / f"refused-{rank}").read_text().partition(" ") for rank in (0, 1)]
    assert [told for told, _, _ in refusals] == ["False", "True"]  # the second one is silent
    assert refusals[0][2] == refusals[1][2]
    assert "continue it with --resume" in refusals[0][2]


def test_another_number_of_processes_is_refused_on_resume(
    runs: Path, news: Path, tiny_backbone: Callable[..., Path]
) -> None:
    given = SETTINGS | {"backbone": str(tiny_backbone("bert")), "test": news / "test.csv"}
    with pytest.raises(RecipeError, match=r"processes: was 2, is 1"):
        pw.train(news / "train.csv", out=runs / "b", resume=True, **given)


def test_a_process_that_dies_is_one_line_in_the_first() -> None:
    first, second = run_together(GONE)
    assert second.returncode == 9, second.stderr
    assert (first.returncode, first.stdout) == (
        0,
        "another process of this training ended, or cannot be reached; continue from the last checkpoint with the same "
        "number of processes and --resume\n",
    ), first.stderr


def test_shares_of_a_step_are_of_like_length() -> None:
    """Of 32 processes the one with the longest share is what all wait for."""
    lengths = np.random.default_rng(0).gamma(9.0, 5.0, 20_000).astype(np.int64).clip(8, 128)
    balances = []
    for batch in plan_batches(lengths, batch_size=1024, bucket=8, seed=0):
        shares = [deal(batch, lengths, rank, 32) for rank in range(32)]
        assert sorted(np.concatenate(shares).tolist()) == sorted(batch.tolist())
        tokens = [int(lengths[share].sum()) for share in shares]
        balances.append(np.mean(tokens) / max(tokens))
    assert np.mean(balances) >= 0.95


def test_an_empty_share_is_none_and_alone_nothing_changes() -> None:
    assert deal(np.array([7]), np.arange(8), 1, 2).tolist() == []
    alone, parameter = ProcessGroup(), torch.nn.Parameter(torch.ones(2))
    assert alone.sum_step([parameter], 1.5, True) == (1.5, True)
    assert parameter.grad is None
    assert alone.by_rows(np.array([3, 9, 5]), lambda rows: rows * 2.0).tolist() == [0, 2, 4]


def test_a_batch_has_a_text_for_each_process() -> None:
    with pytest.raises(RecipeError) as refused:
        ProcessGroup(ProcessPlace(0, 9, 0, 9)).check_batch_size(8)
    assert str(refused.value) == (
        "train -> batch_size: a step's batch is shared by all processes; expected at least 9, one text for each "
        "process; received 8; raise --batch-size or start fewer processes"
    )


def test_a_signal_to_one_of_several_waits_for_the_others() -> None:
    stop = Stop(alone=False)
    stop.note(15, None)
    assert (stop.is_asked, stop.is_set()) == (True, False)
    assert stop.interruptible(lambda: 7) == 7
    stop.agree(True)
    assert stop.is_set()
