"""No command replaces what it was not told to; a former classifier stays, whole, until a new one takes its place."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pennyweight as pw
from pennyweight import pipeline
from pennyweight.artifact import save_artifact
from pennyweight.errors import InputError, Interrupted, PennyweightError, StorageError
from pennyweight.train import loop
from pennyweight.train.observer import forward_log

from .stop_at import StopAt

TEXTS = ["the bank", "the cup", "a match"]
Command = Callable[..., Any]


@pytest.fixture
def settings(tiny_backbone: Callable[..., Path]) -> dict[str, Any]:
    """Of `tiny_run`, but for the rate."""
    return {
        "backbone": str(tiny_backbone("bert")), "budget": "5k", "epochs": 2, "batch_size": 8, "precision": "fp32",
        "report": "short", "learning_rate": 1e-3,
    }  # fmt: skip


@pytest.fixture
def old(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def fail_with(error: BaseException) -> Callable[..., Any]:
    def fail(*given: Any, **more: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    "error",
    [
        PennyweightError("the training loss is nan at step 3"),
        RuntimeError("CUDA out of memory"),
        MemoryError(),
        KeyboardInterrupt(),
    ],
    ids=["diverged", "memory of the device", "memory", "Ctrl-C"],
)
def test_a_training_that_fails_leaves_the_former_classifier(
    error: BaseException, old: Path, news: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = pw.load(old).logits(TEXTS).tolist()
    monkeypatch.setattr(loop, "fit", fail_with(error))
    with pytest.raises(Interrupted if isinstance(error, KeyboardInterrupt) else type(error)):
        pw.train(news / "train.csv", test=news / "test.csv", out=old, overwrite=True, **settings)
    assert pw.load(old).logits(TEXTS).tolist() == expected


def test_bad_data_leaves_the_former_run_untouched(old: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    before = {path: path.read_bytes() for path in sorted(old.rglob("*")) if path.is_file() and path.name != ".lock"}
    (tmp_path / "bad.csv").write_text("text,label\na,b\n")
    with pytest.raises(InputError):
        pw.train(tmp_path / "bad.csv", out=old, overwrite=True, **settings)
    after = {path: path.read_bytes() for path in sorted(old.rglob("*")) if path.is_file() and path.name != ".lock"}
    assert after == before


def test_a_save_that_fails_leaves_the_run_to_go_on_with(
    old: Path, news: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = pw.load(old).logits(TEXTS).tolist()
    with monkeypatch.context() as patched:
        patched.setattr(save_artifact, "save_artifact", fail_with(StorageError("the disk is full")))
        with pytest.raises(StorageError):
            pw.train(news / "train.csv", out=old, overwrite=True, **settings)
    assert pw.load(old).logits(TEXTS).tolist() == expected
    said: list[str] = []
    with forward_log(said.append):
        again = pw.train(news / "train.csv", out=old, resume=True, **settings)
    assert "checkpoint: step 14" in said
    assert pw.load(old).logits(TEXTS).tolist() == again.logits(TEXTS).tolist() != expected


@pytest.mark.parametrize("rate", [5e-3, 1e-3], ids=["the same recipe", "another recipe"])
def test_an_overwrite_that_was_stopped_goes_on_to_its_own_end(
    rate: float, old: Path, news: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    settings |= {"learning_rate": rate}
    sources = {"data": news / "train.csv", "test": news / "test.csv"}
    whole = pw.train(**sources, out=tmp_path / "whole", **settings)
    former = pw.load(old).logits(TEXTS).tolist()
    with pytest.raises(Interrupted) as caught:
        pw.train(**sources, out=old, overwrite=True, observer=StopAt(9), **settings)
    assert str(caught.value) == (
        f"{old}/checkpoints/step-00000009: stopped by a signal after step 9 of 14; the state is saved; "
        f"continue with the same command and --out {old} --resume in place of --overwrite"
    )
    # The former run's checkpoints are gone: with its last one this run would have nothing left to do.
    assert {path.name for path in (old / "checkpoints").iterdir()} == {"step-00000007", "step-00000009", "unfinished"}
    assert pw.load(old).logits(TEXTS).tolist() == former
    said: list[str] = []
    with forward_log(said.append):
        ended = pw.train(**sources, out=old, resume=True, **settings)
    assert "checkpoint: step 9" in said
    assert not any("finished" in line for line in said)
    assert ended.logits(TEXTS).tolist() == pw.load(old).logits(TEXTS).tolist() == whole.logits(TEXTS).tolist()
    with forward_log(said.append):
        pw.train(**sources, out=old, resume=True, **settings)
    assert said[-1] == f"this run is finished, nothing is left to do: {old}"


def test_an_overwrite_that_was_stopped_before_its_first_checkpoint_starts_over(
    old: Path, news: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings |= {"learning_rate": 5e-3}  # the very run that lies there
    with monkeypatch.context() as patched:
        patched.setattr(loop, "fit", fail_with(KeyboardInterrupt()))
        with pytest.raises(Interrupted) as caught:
            pw.train(news / "train.csv", test=news / "test.csv", out=old, overwrite=True, **settings)
    assert str(caught.value).endswith(f"--out {old} --resume in place of --overwrite")
    said: list[str] = []
    with forward_log(said.append):
        pw.train(news / "train.csv", test=news / "test.csv", out=old, resume=True, **settings)
    assert "no complete checkpoint yet: starting from the beginning" in said
    assert said[-1] == f"saved: {old}"


def test_a_run_that_is_stopped_before_training_is_not_said_to_be_resumable(
    news: Path, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "load_data", fail_with(KeyboardInterrupt()))
    with pytest.raises(Interrupted) as caught:
        pw.train(news / "train.csv", out=tmp_path / "runs" / "new", **settings)
    assert str(caught.value) == f"{tmp_path}/runs/new: stopped by a signal; run the same command again"
    assert not (tmp_path / "runs").exists()


def test_resuming_takes_a_folder(news: Path, settings: dict[str, Any], command: Command, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        pw.train(news / "train.csv", resume=True, **settings)
    assert str(caught.value) == "nothing to resume: no run folder is given; name it with --out"
    for flag in ("--resume", "--resume-anyway"):
        done = command("train", news / "train.csv", flag)
        assert (done.code, done.out) == (2, "")
        assert done.error == f"{flag} needs the folder of the run; name it with --out RUN"


@pytest.mark.usefixtures("default_signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_line_ends_with_one_line_and_130(
    number: int, news: Path, settings: dict[str, Any], tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal comes while the data is read; nothing is left behind, and nothing that is not there is advised."""
    monkeypatch.chdir(tmp_path)
    read = pipeline.load_data
    monkeypatch.setattr(pipeline, "load_data", lambda *given: (os.kill(os.getpid(), number), read(*given)))
    done = command("train", news / "train.csv", "--out", "new", "--backbone", settings["backbone"])
    assert (done.code, done.out) == (130, "")
    assert done.err == "error: new: stopped by a signal; run the same command again\n"
    assert not (tmp_path / "new").exists()


def test_a_stopped_command_says_what_to_type(
    news: Path, settings: dict[str, Any], tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of a run that named none is in the line: without it --resume is refused."""
    monkeypatch.chdir(tmp_path)
    flags = ["--backbone", settings["backbone"], "--budget", "5k", "--precision", "fp32", "--report", "short"]
    with monkeypatch.context() as patched:
        patched.setattr(loop, "fit", fail_with(KeyboardInterrupt()))
        stopped = command("train", news / "train.csv", "--max-steps", "3", *flags)
    assert stopped.code == 130
    (run,) = (tmp_path / "runs").iterdir()
    assert stopped.error == (
        f"runs/{run.name}: stopped by a signal; continue with the same command and --out runs/{run.name} --resume"
    )
    done = command("train", news / "train.csv", "--max-steps", "3", *flags, "--out", f"runs/{run.name}", "--resume")
    assert done.code == 0, done.err
    assert json.loads((run / "metrics.json").read_text())["train"]["steps"] == 3


def test_the_demo_that_is_stopped_is_run_again(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "load_data", fail_with(KeyboardInterrupt()))
    done = command("demo", "--out", tmp_path / "demo")
    assert (done.code, done.error) == (130, "stopped by a signal; run the demo again; it takes minutes")


def contents(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.parametrize("form", ["peft", "merged"])
def test_an_export_needs_a_folder_of_its_own(tiny_run: Path, tmp_path: Path, command: Command, form: str) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("a year's work")
    before = contents(tiny_run)
    for target in (mine, tiny_run):
        done = command("export", tiny_run, target, "--format", form)
        assert done.code == 2
        assert f"{target}: the folder is not empty; received " in done.error
    assert (mine / "notes.txt").read_text() == "a year's work"
    assert contents(tiny_run) == before


def test_answers_do_not_replace_the_texts(tiny_run: Path, tmp_path: Path, command: Command) -> None:
    texts = tmp_path / "texts.csv"
    texts.write_text("text\nThe bank cut its rate.\n")
    (tmp_path / "link.csv").symlink_to(texts)
    for name in ("texts.csv", "link.csv"):
        done = command("predict", tiny_run, texts, "--out", tmp_path / name)
        assert done.code == 2
        assert "the output would overwrite the input" in done.error
    assert texts.read_text() == "text\nThe bank cut its rate.\n"


def test_a_page_or_a_picture_goes_where_its_name_says_one(
    tiny_run: Path, news: Path, tmp_path: Path, command: Command
) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("text,label\n")
    done = command("evaluate", tiny_run, news / "test.csv", "--report", table)
    assert (done.code, table.read_text()) == (2, "text,label\n")
    assert done.error == f"{table}: a report is an HTML page; expected a name ending in .html; received rows.csv"
    done = command("compare", tiny_run, tiny_run, "--picture", tmp_path / "cmp.gif")
    assert (done.code, (tmp_path / "cmp.gif").exists()) == (2, False)
    assert "expected a name ending in .png or .svg" in done.error


def test_a_checkpoint_of_another_plan_is_refused_before_the_run_is_touched(
    tiny_backbone: Callable[..., Path], news: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "backbone": str(tiny_backbone("minilm")), "target_modules": "all-linear", "budget": "none", "epochs": 1,
        "precision": "fp32", "report": "short", "batch_size": 8,
    }  # fmt: skip
    folder = tmp_path / "run"
    made = pw.train(news / "train.csv", out=folder, r=2, **settings)
    with pytest.raises(pw.errors.ArtifactError, match="does not fit"):
        pw.train(news / "train.csv", out=folder, r=3, resume=True, resume_anyway=True, **settings)
    texts = ["the bank", "the cup"]
    assert pw.load(folder).predict(texts) == made.predict(texts)


def test_a_run_resumed_although_it_changed_keeps_the_prefix_that_is_asked_for_now(
    tiny_backbone: Callable[..., Path], news: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "backbone": str(tiny_backbone("minilm")), "strategy": "manual", "layers": "5", "r": 1, "budget": "none",
        "epochs": 2, "validation_size": 0, "precision": "fp32", "report": "short", "batch_size": 8,
    }  # fmt: skip
    folder = tmp_path / "run"
    first = pw.train(news / "train.csv", out=folder, prefix_cache="off", **settings)
    again = pw.train(news / "train.csv", out=folder, resume=True, resume_anyway=True, prefix_cache="memory", **settings)
    assert first.metrics["train"]["prefix"] is None
    assert again.metrics["train"]["prefix"]["first_layer"] == 5
