"""Searching: what a folder holds afterwards, and that it goes on where it was, whoever killed it."""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import pennyweight as pw
from pennyweight.data.table import PAIR
from pennyweight.errors import BudgetError, Interrupted, RecipeError, StorageError
from pennyweight.recipe import loading as recipe
from pennyweight.search import trial as trials
from pennyweight.search.results import SearchResult, TrialResult, rank_trials
from pennyweight.search.space import Range
from pennyweight.search.study import JOURNAL, WORKERS, Journal, TrialOutcome, counts, open_journal
from pennyweight.train.observer import forward_log

from ..forked_python import COMMAND, ForkedPython

Command = Callable[..., Any]
QUICK = {"precision": "fp32", "batch_size": 16, "epochs": "1,2", "seed": 7, "validation_size": 0.5}


@pytest.fixture
def settings(tiny_backbone: Callable[..., Path]) -> dict[str, Any]:
    return {**QUICK, "backbone": str(tiny_backbone("bert"))}


def outcomes(found: SearchResult) -> list[tuple[Any, ...]]:
    return [(one.budget, one.state, one.settings, one.accuracy, one.trainable) for one in found.trials]


def test_a_search_leaves_tables_a_picture_and_a_recipe_that_trains(
    news: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    out, said = tmp_path / "search", []
    with forward_log(said.append, "pennyweight.search"):
        found = pw.search(news / "train.csv", test=news / "test.csv", budget="2k,5k", trials=3, out=out, **settings)
    done = [one for one in found.trials if one.state in ("complete", "pruned")]
    assert [sum(one.budget == budget for one in done) for budget in ("2k", "5k")] == [3, 3]
    assert len(said) == 6
    for one in done:
        assert one.trainable is not None
        assert one.trainable <= {"2k": 2_000, "5k": 5_000}[one.budget]
        assert one.settings["epochs"] in (1, 2)
        assert one.interval is not None
        assert one.interval[0] < (one.accuracy or 0.0) < one.interval[1] or one.accuracy in (0.0, 1.0)
    names = {item.name for item in out.iterdir() if not item.name.startswith(".")}
    assert names == {
        "study.json", JOURNAL, "trials.json", "table.csv", "pareto.png", "best.yaml", "best-2k.yaml", "best-5k.yaml",
    }  # fmt: skip
    assert not (out / ".prefix").exists()
    assert not (out / WORKERS).exists()
    values = json.loads((out / "trials.json").read_text("utf-8"))
    assert [one["accuracy"] for one in values["trials"]] == [one.accuracy for one in found.trials]
    assert any(one["pareto"] for one in values["trials"])
    with (out / "table.csv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["trainable"] for row in rows] == ["" if t.trainable is None else str(t.trainable) for t in found.trials]
    finished = [one for one in done if one.state == "complete"]
    best = max(finished, key=lambda one: (one.accuracy or 0.0, -(one.loss or 0.0), -(one.trainable or 0)))
    again = recipe.load(out / "best.yaml")
    assert again.data.test == str((news / "test.csv").resolve())
    assert again.train.learning_rate == best.settings["learning_rate"]
    trained = pw.train(recipe=out / "best.yaml")
    assert trained.metrics["train"]["best"]["accuracy"] == best.accuracy
    assert trained.metrics["trainable"] == best.trainable
    assert "test" in trained.metrics
    *tables, note = str(found).split("\n\n")
    assert tables[0].split()[:3] == ["trial", "accuracy", "%"]
    assert {table.split()[0] for table in tables} == {"trial"}
    assert max(map(len, "\n".join(tables).splitlines())) <= 80
    assert {"strategy", "learning_rate", "label_smoothing"} <= set("\n".join(tables).split())
    assert "validation texts" in note


def test_the_first_trial_is_the_recipe_as_it_stands(news: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "search"
    choices = {"epochs": "1,2", "learning_rate": "5e-4,1e-3", "pooling": "mean", "strategy": "top,all-linear"}
    found = pw.search(news / "train.csv", budget="5k,6k", trials=2, out=out, **{**settings, **choices})
    for budget in ("5k", "6k"):
        first, other = [one for one in found.trials if one.budget == budget and one.state == "complete"]
        # `auto` is what all-linear stands for; 3 epochs are not among the choices, so they are drawn.
        assert {**first.settings, "epochs": 0} == {
            "strategy": "all-linear", "head": "linear", "learning_rate": 1e-3, "epochs": 0, "pooling": "mean",
            "lora_dropout": 0.1, "label_smoothing": 0.0,
        }  # fmt: skip
        assert other.settings != first.settings


@pytest.mark.parametrize("metric", ["macro_f1", "loss"])
def test_trials_are_compared_by_the_metric_of_the_recipe(
    metric: str, news: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    said: list[str] = []
    with forward_log(said.append, "pennyweight.search"):
        found = pw.search(news / "train.csv", budget="5k", trials=3, out=tmp_path / "s", metric=metric, **settings)
    done = [one for one in found.trials if one.state == "complete"]
    for one in done:
        trained = pw.train(news / "train.csv", **settings | one.settings | {"budget": "5k", "metric": metric})
        best = trained.metrics["train"]["best"]
        assert one.score == (best["validation_loss"] if metric == "loss" else best["macro_f1"])
        assert (one.loss, one.accuracy) == (best["validation_loss"], best["accuracy"])
    ranked = sorted(done, key=lambda one: ((one.score if metric == "loss" else -(one.score or 0.0)), one.loss))
    assert found.best == {"5k": ranked[0].number}
    assert (found.recipe or recipe.load()).train.learning_rate == ranked[0].settings["learning_rate"]
    words = "loss" if metric == "loss" else "macro F1"
    assert all(f": validation {words} " in line for line in said if "stopped early" not in line)
    assert str(found).splitlines()[0].split()[1 : 1 + len(words.split())] == words.split()
    assert json.loads((tmp_path / "s" / "trials.json").read_text("utf-8"))["metric"] == metric


def test_of_equal_trials_the_one_of_lowest_loss_is_the_best() -> None:
    one = TrialResult(0, "5k", "complete", {}, 1.0, (0.9, 1.0), 1000, 1.0, score=1.0, loss=0.5)
    other = replace(one, number=1, trainable=5000, loss=0.05)
    assert [trial.number for trial in rank_trials([one, other])] == [1, 0]
    cheap = replace(other, number=2, trainable=2000)
    assert [trial.number for trial in rank_trials([one, other, cheap])] == [2, 1, 0]
    early = replace(one, number=3, loss=None)  # of a search that did not note the loss yet
    assert [trial.number for trial in rank_trials([early, one])] == [0, 3]
    by_loss = [replace(one, score=0.5), replace(one, number=1, score=0.4, loss=0.4)]
    assert [trial.number for trial in rank_trials(by_loss, "loss")] == [1, 0]


def test_pairs_in_memory_stay_pairs(settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["bank", "cup", "rate", "polls"]
    rows = [((f"The {words[n % 4]}.", f"A {words[n // 2 % 4]}."), "ab"[n % 2]) for n in range(40)]
    seen: list[Any] = []
    train = trials.train

    def watched(data: Any, **more: Any) -> Any:
        seen.append(data.texts[0])
        return train(data, **more)

    monkeypatch.setattr(trials, "train", watched)
    texts, labels = zip(*rows, strict=True)
    columns = {"one": [a for a, _ in texts], "two": [b for _, b in texts], "label": list(labels)}
    for data, more in ((rows, {}), (columns, {"text_columns": "one,two"})):
        pw.search(data, budget="5k", trials=1, out=tmp_path / str(len(seen)), pair=True, **settings, **more)
    assert seen == [f"The bank.{PAIR}A bank."] * 2


def test_labels_in_memory_are_read_as_the_recipe_says(settings: dict[str, Any], tmp_path: Path) -> None:
    words = ["bank", "cup", "rate", "polls"]
    columns = {
        "text": [f"The {words[n % 4]} of the {words[n // 3 % 4]}." for n in range(40)],
        "money": [n % 2 for n in range(40)],
        "sport": [(n + 1) // 2 % 2 for n in range(40)],
    }
    found = pw.search(
        columns, budget="5k", trials=1, out=tmp_path / "s", label_columns="money,sport", metric="micro_f1",
        allow_unlabelled=True, **settings,
    )  # fmt: skip
    assert [one.state for one in found.trials] == ["complete"]


def test_the_test_file_is_never_read(news: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    missing = tmp_path / "absent.csv"
    found = pw.search(news / "train.csv", test=missing, trials=1, budget="5k", out=tmp_path / "s", **settings)
    assert found.recipe is not None
    assert found.recipe.data.test == str(missing)


def test_going_on_draws_what_an_unbroken_search_draws(
    news: Path, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pw.search(news / "train.csv", budget="5k", trials=6, out=tmp_path / "whole", **settings)
    pw.search(news / "train.csv", budget="5k", trials=2, out=tmp_path / "parts", **settings)
    with monkeypatch.context() as patched:

        def stopped(*given: Any, **more: Any) -> None:
            raise KeyboardInterrupt

        patched.setattr(trials, "train", stopped)
        with pytest.raises(Interrupted, match="stopped by a signal; continue with --out"):
            pw.search(news / "train.csv", budget="5k", trials=6, out=tmp_path / "parts", **settings)
    parts = pw.search(news / "train.csv", budget="5k", trials=6, out=tmp_path / "parts", **settings)
    assert outcomes(parts) == outcomes(whole)
    # Nothing is left to do, and nothing is done.
    assert outcomes(pw.search(news / "train.csv", budget="5k", trials=6, out=tmp_path / "parts", **settings)) == (
        outcomes(whole)
    )


def test_what_a_killed_process_was_trying_is_tried_again(news: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    """A second process asks for a trial and dies by SIGKILL; its settings come first when another goes on."""
    out = tmp_path / "search"
    code = f"""
import os, signal
import pennyweight as pw
from pennyweight.search import trial
def killed(*given, **more):
    os.kill(os.getpid(), signal.SIGKILL)
trial.train = killed
pw.search({str(news / "train.csv")!r}, budget="5k", trials=2, out={str(out)!r}, **{settings!r})
"""
    done = ForkedPython(code).wait()
    assert done.returncode == -signal.SIGKILL, done.stderr
    with open_journal(out, 7) as journal:
        (left,) = [trial for trial in journal.study("5k").get_trials() if trial.state.name == "RUNNING"]
    found = pw.search(news / "train.csv", budget="5k", trials=2, out=out, **settings)
    assert [one.state for one in found.trials if one.state != "does not fit"] == ["complete", "complete"]
    assert left.params in [one.settings for one in found.trials]
    whole = pw.search(news / "train.csv", budget="5k", trials=2, out=tmp_path / "whole", **settings)
    assert outcomes(found) == outcomes(whole)


def test_two_processes_share_one_search(news: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "search"
    code = f"""
import pennyweight as pw
pw.search({str(news / "train.csv")!r}, budget="5k", trials=4, out={str(out)!r}, **{settings!r})
"""
    other = ForkedPython(code)
    while other.running() and not (out / "trials.json").exists():
        time.sleep(0.05)
    pw.search(news / "train.csv", budget="5k", trials=4, out=out, **settings)
    done = other.wait()
    assert done.returncode == 0, done.stderr
    with open_journal(out, 7) as journal:
        trials = journal.study("5k").get_trials()
    assert sum(counts(trial) for trial in trials) == 4
    assert {trial.state.name for trial in trials} <= {"COMPLETE", "PRUNED"}
    listed = json.loads((out / "trials.json").read_text("utf-8"))["trials"]
    assert sum(one["state"] == "complete" for one in listed) == sum(t.state.name == "COMPLETE" for t in trials)


def test_a_trial_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    with open_journal(tmp_path, 0) as first, open_journal(tmp_path, 0) as second:
        turn = first.ask("5k", {"epochs": (1, 2)}, 2)
        assert turn is not None
        other = second.ask("5k", {"epochs": (1, 2)}, 2)
        assert other is not None
        assert other.number == 1
        assert second.ask("5k", {"epochs": (1, 2)}, 2, worker="third") is None  # both are being done


def test_a_call_that_is_repeated_changes_nothing(tmp_path: Path) -> None:
    """Whoever asks through a process that is killed does not know how far that came, and asks again."""
    with open_journal(tmp_path, 0) as journal:
        trial = journal.ask("5k", {"epochs": (1, 2)}, 3, worker="a")
        assert trial is not None
        assert journal.ask("5k", {"epochs": (1, 2)}, 3, worker="a") == trial
        assert journal.ask("5k", {"epochs": (1, 2)}, 3, worker="b") != trial
        for _ in range(2):
            assert not journal.report(trial, 0.5, 1)
        journal.end(trial, TrialOutcome(0.5, {"loss": 1.0}))
        journal.end(trial, TrialOutcome(0.9))
        assert journal.report(trial, 0.7, 2)  # it is over
        (one, other) = journal.study("5k").get_trials()
        assert (one.value, one.intermediate_values, one.user_attrs["loss"]) == (0.5, {1: 0.5}, 1.0)
        assert other.state.name == "RUNNING"


def test_who_lost_a_trial_is_not_heard_any_more(tmp_path: Path) -> None:
    with open_journal(tmp_path, 0) as journal:
        lost = journal.ask("5k", {"epochs": (1, 2)}, 1, worker="a")
        assert lost is not None
        journal.give_back("5k", "a")
        again = journal.ask("5k", {"epochs": (1, 2)}, 1, worker="b")
        assert again is not None
        assert again.settings == lost.settings
        assert journal.report(lost, 0.5, 1)
        journal.end(lost, TrialOutcome(0.5))
        assert not journal.report(again, 0.4, 1)
        journal.end(again, TrialOutcome(0.4))
        assert [one.value for one in journal.study("5k").get_trials() if one.state.name == "COMPLETE"] == [0.4]


@pytest.mark.parametrize("writes", range(12))
def test_killed_while_it_asks_a_process_leaves_no_gap(
    writes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After so many of the journal's lines. Another process is assigned the same settings at once."""
    from optuna.storages.journal import JournalFileBackend

    choices: dict[str, Any] = {"epochs": (1, 2, 3), "learning_rate": Range(1e-4, 1e-2)}
    with open_journal(tmp_path / "whole", 0) as journal:
        whole = [journal.ask("5k", choices, 2, None, {"epochs": 3}, worker=name) for name in "ab"]
    append, left = JournalFileBackend.append_logs, [writes]

    def killed(backend: Any, logs: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise SystemExit
        append(backend, logs)

    with monkeypatch.context() as patched, suppress(SystemExit), open_journal(tmp_path / "s", 0) as journal:
        patched.setattr(JournalFileBackend, "append_logs", killed)
        journal.ask("5k", choices, 2, None, {"epochs": 3}, worker="a")
    with open_journal(tmp_path / "s", 0) as journal:
        found = [journal.ask("5k", choices, 2, None, {"epochs": 3}, worker=name) for name in "ab"]
        assert journal.ask("5k", choices, 2, worker="c") is None
    assert [one and one.settings for one in found] == [one and one.settings for one in whole]


def test_number_formats_are_not_mixed(
    news: Path, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `auto` stands for differs between machines."""
    given = {**settings, "precision": "auto", "head": "linear"}
    monkeypatch.setattr("pennyweight.model.device.bf16_is_faster", lambda: False)
    pw.search(news / "train.csv", budget="5k", trials=1, out=tmp_path / "s", **given)
    monkeypatch.setattr("pennyweight.model.device.bf16_is_faster", lambda: True)
    monkeypatch.setattr("pennyweight.model.device.computes_bf16", lambda: True)
    with pytest.raises(RecipeError, match=r"number format: was 'fp32', is 'bf16'; "):
        pw.search(news / "train.csv", budget="5k", trials=1, out=tmp_path / "s", **given)
    older = json.loads(
        (tmp_path / "s" / "study.json").read_text("utf-8")
    )  # as it was written before formats were noted
    del older["facts"]["number format"]
    (tmp_path / "s" / "study.json").write_text(json.dumps(older), "utf-8")
    assert len(pw.search(news / "train.csv", budget="5k", trials=1, out=tmp_path / "s", **given).trials) == 1


def test_where_locks_do_not_hold_no_search_begins(
    news: Path, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pennyweight.storage.locks.fcntl.flock", lambda descriptor, flags: None)
    with pytest.raises(
        StorageError, match=r"file locks do not work on this file system: two processes got the same lock; "
    ):
        pw.search(news / "train.csv", budget="5k", trials=1, out=tmp_path / "s", **settings)
    assert not (tmp_path / "s" / JOURNAL).exists()


def test_a_half_written_last_line_is_dropped(tmp_path: Path) -> None:
    with open_journal(tmp_path, 0) as journal:
        journal.ask("5k", {"epochs": (1, 2)}, 1)
    with (tmp_path / JOURNAL).open("ab") as handle:
        handle.write(b'{"op_code":4,"wor')
    with open_journal(tmp_path, 0) as journal:
        assert len(journal.study("5k").get_trials()) == 1
        assert journal.ask("5k", {"epochs": (1, 2)}, 1) is not None


def test_trials_below_the_median_are_stopped(
    news: Path, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With evaluations of our own making: the fifth trial starts worse than the four before it."""
    evaluated: list[int] = []

    def fake(data: Any, *, recipe: Any, observer: Any) -> Any:
        number = len(evaluated)
        evaluated.append(0)
        for step in (1, 2):
            evaluated[number] += 1
            record = {"accuracy": 0.9 - 0.1 * number, "validation_loss": 1.0, "step": step}
            observer.evaluation(record)
        metrics = {"train": {"prefix": None, "seconds": 1.0, "best": record}}
        return type("Trained", (), {"metrics": metrics})

    monkeypatch.setattr(trials, "train", fake)
    found = pw.search(
        news / "train.csv", budget="5k", trials=6, out=tmp_path / "s", **{**settings, "epochs": 2, "head": "linear"}
    )
    assert evaluated == [2, 2, 2, 2, 1, 1]
    assert [one.state for one in found.trials] == ["complete"] * 4 + ["pruned"] * 2


def test_a_trial_whose_loss_is_no_number_counts_as_lost(news: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    found = pw.search(
        news / "train.csv", budget="5k", trials=2, out=tmp_path / "s",
        **{**settings, "learning_rate": 1e30, "head": "linear", "max_grad_norm": 0},
    )  # fmt: skip
    assert [one.state for one in found.trials] == ["diverged", "diverged"]
    assert found.recipe is None
    assert str(found) == "no trial was finished"
    assert not (tmp_path / "s" / "best.yaml").exists()


def test_another_search_is_not_mixed_in(
    news: Path, settings: dict[str, Any], tiny_backbone: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "s"
    pw.search(news / "train.csv", budget="5k", trials=1, out=out, **settings)
    journal = (out / JOURNAL).read_bytes()
    for change, named in (
        ({"data": news / "test.csv"}, "data: was "),
        ({"backbone": str(tiny_backbone("minilm"))}, "backbone: was "),
        ({"batch_size": 4}, "train -> batch_size: was 16, is 4"),
        ({"epochs": "1,3"}, "choices of epochs: was [1, 2], is [1, 3]"),
    ):
        given = {"data": news / "train.csv", **settings, **change}
        with pytest.raises(RecipeError) as error:
            pw.search(budget="5k", trials=1, out=out, **given)
        assert "the folder contains a search with other settings: " in str(error.value)
        assert named in str(error.value)
    assert (out / JOURNAL).read_bytes() == journal


def test_folders_that_are_no_search(news: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "diary.txt").write_text("dear", "utf-8")
    with pytest.raises(RecipeError, match=r"contains something other than a search; received diary\.txt"):
        pw.search(news / "train.csv", budget="5k", out=tmp_path / "full", **settings)
    (tmp_path / "file").write_text("x", "utf-8")
    with pytest.raises(StorageError, match="the folder is a file; choose another --out"):
        pw.search(news / "train.csv", budget="5k", out=tmp_path / "file", **settings)


def test_a_budget_below_the_smallest_says_what_works(news: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"the smallest that works is a budget of \d+ \(linear head, no adapter\)"):
        pw.search(news / "train.csv", budget="5k,9", out=tmp_path / "s", **settings)
    assert not (tmp_path / "s").exists()


def test_heads_and_strategies_that_never_fit_are_not_drawn(
    news: Path, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full head alone is 1,155 parameters, one rank everywhere with a linear head 1,891."""
    drawn: list[dict[str, Any]] = []

    def ask(journal: Any, budget: str, choices: dict[str, Any], trials: int, *more: dict[str, Any]) -> None:
        drawn.append({key: choices.get(key, (more[0].get(key),)) for key in ("head", "strategy")})

    monkeypatch.setattr(Journal, "ask", ask)
    pw.search(news / "train.csv", budget="1k,2k", trials=1, out=tmp_path / "s", **settings)
    every = ("all-linear", "top", "graded", "attention", "uniform")
    assert drawn == [
        {"head": ("linear", "low_rank"), "strategy": every[:4]},
        {"head": ("linear", "low_rank", "full"), "strategy": every},
    ]


def test_python_data_is_read_once(settings: dict[str, Any], tmp_path: Path) -> None:
    rows = [(f"{word} number {number}", word) for number in range(12) for word in ("red", "blue")]
    found = pw.search(rows, budget="5k", trials=1, out=tmp_path / "s", **{**settings, "head": "linear"})
    assert found.trials[0].state == "complete"


def test_on_the_command_line(news: Path, settings: dict[str, Any], tmp_path: Path, command: Command) -> None:
    flags = [part for key, value in settings.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    asked = ("search", news / "train.csv", "--budget", "5k", "--trials", "1", "--out", tmp_path / "s", *flags)
    done = command(*asked)
    assert done.code == 0, done.err
    assert done.out.rstrip().endswith(f"best:   {tmp_path / 's' / 'best.yaml'}")
    assert "5k trial 0: validation accuracy" in done.err or "does not fit" in done.out
    assert (
        json.loads(command(*asked, "--json").out)["trials"]
        == (json.loads((tmp_path / "s" / "trials.json").read_text("utf-8"))["trials"])
    )
    refused = command("search", news / "train.csv", "--train", "b.csv")
    assert (refused.code, refused.error) == (
        2, f"training data given twice; received {news / 'train.csv'} and --train b.csv"
    )  # fmt: skip


def test_without_optuna_it_says_what_to_install(
    news: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    done = command("search", news / "train.csv", "--out", tmp_path / "s")
    assert (done.code, done.out) == (2, "")
    assert done.error == "searching needs Optuna; run `pip install 'pennyweight[search]'`"
    assert not (tmp_path / "s").exists()


def test_ctrl_c_ends_with_how_to_go_on(news: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    """SIGINT while a trial trains, as a terminal sends it."""
    out = tmp_path / "s"
    flags = [part for key, value in settings.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    arguments = ["search", str(news / "train.csv"), "--budget", "5k", "--trials", "500", "--out", str(out), *flags]
    running = ForkedPython(COMMAND, *arguments)
    while running.running() and not (out / "trials.json").exists():
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGINT)
    done = running.wait()
    assert done.returncode == 130, done.stderr
    assert done.stderr.splitlines()[-1] == f"error: {out}: stopped by a signal; continue with --out {out}"
    with open_journal(out, 7) as journal:
        assert {trial.state.name for trial in journal.study("5k").get_trials()} >= {"COMPLETE"}
        assert "RUNNING" not in {trial.state.name for trial in journal.study("5k").get_trials()}
