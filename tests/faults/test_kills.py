"""SIGKILL at any moment: the run goes on, and ends bit for bit where it would have ended."""

from __future__ import annotations

import json
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pennyweight.storage.atomic import recover

Ask = Callable[..., dict[str, Any]]
Outcome = Callable[[Path], dict[str, Any]]

KILLS_A_RUN = 3
FAST = {"encoder": "fast"}


def test_two_runs_that_nobody_stops_end_the_same(
    ask: Ask, toy: dict[str, Any], outcome: Outcome, whole: Callable[[str], Any], tmp_path: Path
) -> None:
    assert ask("train", out=tmp_path / "run", **toy | FAST)["code"] == 0
    assert outcome(tmp_path / "run") == whole("fast")[0]
    found = outcome(tmp_path / "run")["metrics"]
    # The toy is worth being interrupted: it learns, evaluates often, and stops early.
    assert len(found["train"]["history"]) >= 4
    assert found["train"]["history"][-1]["train_loss"] < found["train"]["history"][0]["train_loss"]


def killed_and_resumed(
    ask: Ask, settings: dict[str, Any], seconds: float, chance: random.Random, folder: Path, most: int
) -> tuple[int, str]:
    """Kill a run at random moments, up to `most` times, then let it end; kills, and what went wrong."""
    kills = 0
    for _ in range(chance.randint(1, most)):
        answer = ask("train", out=folder, resume=True, kill_after=chance.uniform(0.02, seconds), **settings)
        if answer["code"] == 0:
            return kills, ""
        if answer["code"] != -signal.SIGKILL:
            return kills, str(answer)
        kills += 1
    answer = ask("train", out=folder, resume=True, **settings)
    return kills, "" if answer["code"] == 0 else str(answer)


def kill(count: int, ask: Ask, toy: Any, kinds: Any, whole: Any, outcome: Outcome, folder: Path, figure: Any) -> None:
    chance = random.Random(count)
    kills = good = runs = 0
    wrong = []
    while kills < count:
        kind = list(kinds)[runs % len(kinds)]
        expected, seconds = whole(kind)
        run = folder / "run"
        done, problem = killed_and_resumed(
            ask, toy | kinds[kind], seconds, chance, run, min(KILLS_A_RUN, count - kills)
        )
        if not problem and outcome(run) != expected:
            problem = f"{kind}: another outcome after {done} kills"
        left = [path for path in (*run.iterdir(), *(run / "checkpoints").iterdir()) if path.name.endswith(".part")]
        if left:
            problem = f"left behind: {left}"
        if problem:
            wrong.append(problem)
        else:
            good += done
        kills += done
        runs += 1
        shutil.rmtree(run)
    figure(f"SIGKILL at {kills} random moments of {runs} runs: {good} of {kills} resumed and ended with the same bits")
    assert wrong == []


def test_a_few_kills(
    ask: Ask, toy: Any, kinds: Any, whole: Any, outcome: Outcome, fast_folder: Path, figure: Any
) -> None:
    kill(5, ask, toy, kinds, whole, outcome, fast_folder / "few", figure)


@pytest.mark.faults
def test_a_hundred_kills(
    ask: Ask, toy: Any, kinds: Any, whole: Any, outcome: Outcome, fast_folder: Path, figure: Any
) -> None:
    kill(100, ask, toy, kinds, whole, outcome, fast_folder / "many", figure)


def kill_at_every(step: int, ask: Ask, toy: Any, whole: Any, outcome: Outcome, folder: Path, figure: Any) -> None:
    """Kill at each `step`th touch of the run's folder: between any two operations of a save, not at a lucky moment."""
    expected, _ = whole("fast")
    settings = toy | FAST
    number, wrong = step // 2, []
    tried = 0
    while True:
        run = folder / "run"
        answer = ask("train", out=run, kill_at=number, watch=str(run), **settings)
        if answer["code"] == 0:
            break
        again = ask("train", out=run, resume=True, **settings)
        if again["code"] != 0 or outcome(run) != expected:
            wrong.append((number, again["code"], again.get("error")))
        shutil.rmtree(run)
        tried += 1
        number += step
    figure(f"SIGKILL at file operations of one run, every {step}th: {tried - len(wrong)} of {tried} ended the same")
    assert tried > 1
    assert wrong == []


def test_killed_between_file_operations(
    ask: Ask, toy: Any, whole: Any, outcome: Outcome, fast_folder: Path, figure: Any
) -> None:
    kill_at_every(150, ask, toy, whole, outcome, fast_folder / "seldom", figure)


@pytest.mark.faults
def test_killed_between_many_file_operations(
    ask: Ask, toy: Any, whole: Any, outcome: Outcome, fast_folder: Path, figure: Any
) -> None:
    kill_at_every(7, ask, toy, whole, outcome, fast_folder / "often", figure)


def test_killed_in_an_evaluation(ask: Ask, toy: Any, whole: Any, outcome: Outcome, tmp_path: Path) -> None:
    settings = toy | FAST | {"out": tmp_path / "run"}
    assert ask("train", stop=[2, signal.SIGKILL], **settings)["code"] == -signal.SIGKILL
    assert ask("train", resume=True, **settings)["code"] == 0
    assert outcome(tmp_path / "run") == whole("fast")[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_says_how_to_go_on(
    ask: Ask, toy: Any, whole: Any, outcome: Outcome, tmp_path: Path, number: int
) -> None:
    expected, _ = whole("fast")
    settings = toy | FAST
    answer = ask("train", out=tmp_path / "run", stop=[2, number], **settings)
    assert answer["code"] == 130
    assert answer["kind"] == "Interrupted"
    assert answer["error"].endswith(f"continue with the same command and --out {tmp_path / 'run'} --resume")
    assert ask("train", out=tmp_path / "run", resume=True, **settings)["code"] == 0
    assert outcome(tmp_path / "run") == expected


def test_a_finished_run_is_not_run_again(ask: Ask, toy: Any, whole: Any, fast_folder: Path) -> None:
    whole("fast")
    folder = fast_folder / "whole-fast"
    before = {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}
    answer = ask("train", out=folder, resume=True, **toy | FAST)
    assert answer["code"] == 0
    assert answer["result"]["said"][-1] == f"this run is finished, nothing is left to do: {folder}"
    assert {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()} == before


def test_a_changed_run_is_refused_with_the_difference(ask: Ask, toy: Any, tmp_path: Path) -> None:
    settings = toy | FAST | {"out": tmp_path / "run"}
    stopped = ask("train", stop=[2, signal.SIGTERM], **settings)
    assert stopped["code"] == 130, stopped
    refused = ask("train", resume=True, **settings | {"learning_rate": 1e-3})
    assert refused["error"] == (
        f"{tmp_path}/run: cannot resume: the run has changed since its checkpoint: train -> learning_rate: was 0.005, "
        "is 0.001; use the run's own recipe and data, or --resume-anyway if you know what you are doing"
    )
    other = tmp_path / "other.jsonl"
    other.write_text(Path(toy["data"]).read_text().replace("striker", "keeper"))
    refused = ask("train", resume=True, **settings | {"data": str(other)})
    assert "has changed since its checkpoint: data: was '" in refused["error"]
    anyway = ask("train", resume=True, resume_anyway=True, **settings | {"learning_rate": 1e-3})
    assert anyway["code"] == 0
    assert "resuming although train -> learning_rate: was 0.005, is 0.001" in anyway["result"]["said"]
    misfit = ask("train", resume=True, resume_anyway=True, **settings | {"r": 3})
    assert misfit["kind"] == "ArtifactError"
    assert "the checkpoint does not fit the plan; expected shape (" in misfit["error"]


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(
    ask: Ask, toy: Any, whole: Any, outcome: Outcome, fast_folder: Path, tmp_path: Path
) -> None:
    expected, _ = whole("fast")
    run = tmp_path / "run"
    shutil.copytree(fast_folder / "whole-fast", run)
    (run / "pennyweight.json").unlink()
    newest = sorted((run / "checkpoints").iterdir())[-1]
    content = bytearray((newest / "optimizer.safetensors").read_bytes())
    content[-1] ^= 1
    (newest / "optimizer.safetensors").write_bytes(content)
    # The name and the time of a folder say nothing: an old one that looks new is not taken for it.
    answer = ask("train", out=run, resume=True, **toy | FAST)
    assert answer["code"] == 0
    step = json.loads(
        (sorted((fast_folder / "whole-fast" / "checkpoints").iterdir())[-2] / "manifest.json").read_text()
    )
    assert f"checkpoint: step {step['step']}" in answer["result"]["said"]
    assert outcome(run) == expected
    assert len(list((run / "checkpoints").iterdir())) == 2


def test_the_clock_may_jump(ask: Ask, toy: Any, whole: Any, outcome: Outcome, tmp_path: Path) -> None:
    settings = toy | FAST | {"out": tmp_path / "run"}
    answer = ask("train", stop=[2, signal.SIGTERM], clock=-86400.0 * 365, **settings)
    assert answer["code"] == 130
    answer = ask("train", resume=True, clock=86400.0 * 365, **settings)
    assert answer["code"] == 0
    assert outcome(tmp_path / "run") == whole("fast")[0]


TEXTS = ["the bank cut rates", "a striker in the final", "a probe of the moon"]


def kill_a_save(
    events: list[str] | None, ask: Ask, toy: Any, clean: Path, folder: Path, figure: Callable[[str], None]
) -> None:
    """Kill a save over a classifier before each of its file operations: at once, the former or the new one loads."""
    counted = {} if events is None else {"events": events}
    other = folder / "other"
    settings = toy | FAST | {"strategy": "head-only", "max_steps": 1, "label_names": ["c", "b", "a"]}
    settings.pop("r")
    assert ask("train", out=other, **settings)["code"] == 0
    answers = {
        name: ask("load", folder=where, texts=TEXTS)["result"] for name, where in (("old", clean), ("new", other))
    }
    run, found, number = folder / "run", [], 0
    while True:
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(clean, run)
        (run / "checkpoints").mkdir()
        code = ask("save", source=other, folder=run, kill_at=number, watch=str(run), **counted)["code"]
        loaded = [ask("load", folder=run, texts=TEXTS)]
        recover(run)
        loaded.append(ask("load", folder=run, texts=TEXTS))
        assert [one["code"] for one in loaded] == [0, 0], (number, loaded)
        assert loaded[0]["result"] == loaded[1]["result"]
        assert [path.name for path in run.iterdir() if path.name.endswith(".part")] == []
        found.append(next(name for name, answer in answers.items() if answer == loaded[0]["result"]))
        listed = json.loads((run / "pennyweight.json").read_text())["sha256"]
        there = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
        assert there == {*listed, "pennyweight.json"}
        if code == 0:
            break
        assert code == -signal.SIGKILL
        number += 1
    figure(f"SIGKILL at {number} moments of a save over a classifier: the former one loads "
           f"{found.count('old')} times, the new one {found.count('new') - 1} times")  # fmt: skip
    assert found == sorted(found, reverse=True)  # the old one until a moment, the new one from then on
    assert {"old", "new"} == set(found)


def test_a_save_killed_before_each_of_its_renames(
    ask: Ask, toy: Any, clean: Path, fast_folder: Path, figure: Callable[[str], None]
) -> None:
    kill_a_save(["os.rename"], ask, toy, clean, fast_folder / "renames", figure)


@pytest.mark.faults
def test_a_save_killed_before_each_of_its_file_operations(
    ask: Ask, toy: Any, clean: Path, fast_folder: Path, figure: Callable[[str], None]
) -> None:
    kill_a_save(None, ask, toy, clean, fast_folder / "operations", figure)
