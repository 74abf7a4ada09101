"""The frozen head beside the training loop: when it wins, and what is saved and said then."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pennyweight as pw
from pennyweight.budget.plan import Plan
from pennyweight.evaluate.baselines.linear_probe import LINEAR_PROBE
from pennyweight.evaluate.metrics.paired_tests import Comparison, compare
from pennyweight.recipe.loading import resolve_recipe
from pennyweight.recipe.planning import plan_for
from pennyweight.train import frozen_head
from pennyweight.train.frozen_head import FrozenHead, head_wins, leaves_adapter_open, why_not_compared
from pennyweight.train.logistic_head import LogisticHead

TEXTS = ["The striker and the match in the cup", "The bank and the rate in the forecast", "The polls in the valley"]


@pytest.fixture
def settings(tiny_backbone: Callable[..., Path]) -> dict[str, Any]:
    return {
        "backbone": str(tiny_backbone("minilm")), "budget": "20k", "precision": "fp32", "contrastive": "off",
        "max_steps": 4, "validation_size": 21,
    }  # fmt: skip


def against(only_head: int, only_adapter: int, n: int) -> Comparison:
    """The adapter against the head, of `n` texts."""
    labels = np.zeros(n, dtype=np.int64)
    head, adapter = labels.copy(), labels.copy()
    adapter[:only_head] = 1
    head[only_head : only_head + only_adapter] = 1
    return compare(labels, head, adapter)


# --- deciding


def test_the_adapter_has_to_lead_by_a_standard_error() -> None:
    assert head_wins(against(40, 45, 1000))  # a lead of 0.5 points with a standard error of 0.9
    assert not head_wins(against(30, 42, 1000))  # 1.2 of 0.85: tied by the paired test
    assert not head_wins(against(20, 60, 1000))
    assert head_wins(against(60, 20, 1000))
    assert head_wins(against(0, 0, 1000))


def test_of_few_rows_being_ahead_is_enough() -> None:
    assert not head_wins(against(3, 6, 50))
    assert head_wins(against(4, 4, 50))
    assert head_wins(against(6, 3, 50))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((40, 45, 1000), "so the adapter is not kept"),
        ((30, 42, 1000), "the adapter leads by more than a standard error and is kept"),
        ((5, 6, 50), "the adapter leads, on too few texts for a test, and is kept"),
        ((20, 60, 1000), "the adapter is better than the head by 4.0 points"),
    ],
)
def test_the_reason_says_which_rule_decided(counts: tuple[int, int, int], expected: str) -> None:
    found = replace(against(*counts), first="the head", second="the adapter")
    head = LogisticHead(np.zeros((1, 2)), np.zeros(2))
    assert expected in FrozenHead(head, 1.0, found, (0.9, 0.9), head_wins(found), 90, 1.0).reason


def plan_of(given: dict[str, Any], settings: dict[str, Any]) -> tuple[Any, Plan]:
    from pennyweight.model.backbone import config_of

    recipe = resolve_recipe("default", settings | given)
    return recipe, plan_for(recipe, config_of(recipe.model.backbone, None), 3)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, True),
        ({"max_rank": 4}, True),
        ({"bases": "svd"}, True),
        ({"adapter": "lora"}, False),
        ({"strategy": "uniform"}, False),
        ({"bias": "lora_only"}, False),
        ({"frozen_head": "off"}, False),
        ({"class_weights": "balanced"}, False),
        ({"adapter_scale": 0.5}, False),
        ({"strategy": "head-only"}, False),
        ({"head": "full", "budget": "none", "strategy": "manual"}, False),
    ],
)
def test_who_sets_the_adapter_keeps_it(given: dict[str, Any], expected: bool, settings: dict[str, Any]) -> None:
    recipe, plan = plan_of(given, settings)
    labels = {"train": np.arange(60) % 3, "validation": np.arange(20) % 3}
    assert (why_not_compared(recipe.train, recipe.plan, plan, labels) is None) is expected


def test_nothing_is_decided_by_a_handful_of_rows(settings: dict[str, Any]) -> None:
    recipe, plan = plan_of({}, settings)
    train = np.arange(60) % 3
    assert why_not_compared(recipe.train, recipe.plan, plan, {"train": train}) is not None
    assert why_not_compared(recipe.train, recipe.plan, plan, {"train": train, "validation": train[:19]}) is not None
    multi = {"train": np.eye(3)[train], "validation": np.eye(3)[train]}
    assert why_not_compared(recipe.train, recipe.plan, plan, multi) is None
    assert why_not_compared(recipe.train, recipe.plan, plan, multi | {"validation": np.eye(3)[train[:19]]}) is not None


def test_an_adapter_that_a_handful_of_rows_cannot_judge_is_said_so(
    settings: dict[str, Any], news: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for rows, expected in ((9, True), (21, False)):
        caplog.clear()
        with caplog.at_level(logging.INFO, "pennyweight"):
            pw.train(news / "train.csv", **(settings | {"validation_size": rows}))
        said = f"kept and not compared with the frozen head, because there are {rows} validation texts"
        assert (said in caplog.text) is expected


def test_every_field_of_the_plan_is_the_adapters_but_those_named() -> None:
    fields = set(pw.Recipe().plan.model_dump())
    assert fields >= frozen_head.FREE_PLAN_FIELDS
    assert leaves_adapter_open(pw.Recipe().plan)


# --- training


@pytest.mark.parametrize("encoder", ["auto", "reference"])
def test_a_head_on_texts_in_windows_is_what_was_compared(
    encoder: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"{TEXTS[row % 3]} and {TEXTS[row % 3]} {'again ' * (row % 5)}" for row in range(90)]
    monkeypatch.setattr(frozen_head, "head_wins", lambda comparison: True)
    found = pw.train(
        (texts, [str(row % 3) for row in range(90)]), long_texts="windows", max_length=8, encoder=encoder, **settings
    )
    kept = found.metrics["train"]["frozen_head"]
    assert (found.artifact.plan.adapter, kept["kept"]) == (None, "frozen head")
    assert found.artifact.recipe.model.pooling == "mean"
    assert found.metrics["validation"]["accuracy"] == kept["accuracy"] > 0.9
    assert np.mean([guess == str(row % 3) for row, guess in enumerate(found.predict(texts))]) > 0.9


def test_the_winning_head_is_saved_alone_and_said(
    settings: dict[str, Any], news: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen_head, "head_wins", lambda comparison: True)
    found = pw.train(news / "train.csv", test=news / "test.csv", out=tmp_path / "run", **settings)
    metrics = found.metrics
    assert found.artifact.plan.adapter is None
    assert found.artifact.recipe.model.pooling == "mean"
    assert metrics["trainable"] == 3 * (found.artifact.backbone.config["hidden_size"] + 1)
    assert metrics["train"]["frozen_head"]["kept"] == "frozen head"
    assert metrics["train"]["frozen_head"]["accuracy"] == metrics["validation"]["accuracy"]
    assert "It is the frozen backbone with a linear head: on 21 validation texts" in metrics["verdict"]["headline"]
    assert "It is the frozen backbone with a linear head" in (tmp_path / "run" / "report.html").read_text("utf-8")
    assert LINEAR_PROBE not in [each["name"] for each in metrics["baselines"]]
    assert found.artifact.plan.why[-1].startswith("head alone: on 21 validation texts")
    again = pw.load(tmp_path / "run")
    assert np.allclose(again.logits(TEXTS), found.logits(TEXTS), atol=1e-5)
    resumed = pw.train(news / "train.csv", test=news / "test.csv", out=tmp_path / "run", resume=True, **settings)
    assert resumed.artifact.plan.adapter is None


def test_a_kept_adapter_is_compared_with_the_head_printed_beside_it(
    settings: dict[str, Any], news: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen_head, "head_wins", lambda comparison: False)
    found = pw.train(news / "train.csv", out=tmp_path / "run", **settings)
    compared = found.metrics["train"]["frozen_head"]
    probe = next(each for each in found.metrics["baselines"] if each["name"] == LINEAR_PROBE)
    assert found.artifact.plan.adapter is not None
    assert compared["kept"] == "adapter"
    assert probe["accuracy"] == compared["accuracy"]
    assert probe["difference"] == pytest.approx(compared["difference"])
    assert compared["adapter_accuracy"] == found.metrics["validation"]["accuracy"]


@pytest.mark.parametrize("objective", ["macro_f1", "fixed"])
@pytest.mark.parametrize("wins", [True, False])
def test_with_any_number_of_labels_both_are_compared_by_micro_f1(
    wins: bool, objective: str, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    multi_label_pairs: Callable[..., list[tuple[str, list[str]]]],
) -> None:  # fmt: skip
    monkeypatch.setattr(frozen_head, "head_wins", lambda comparison: wins)
    found = pw.train(
        multi_label_pairs(120, 1), test=multi_label_pairs(40, 2), out=tmp_path / "run", thresholds=objective,
        **settings | {"validation_size": 30},
    )  # fmt: skip
    metrics = found.metrics
    compared = metrics["train"]["frozen_head"]
    assert (compared["compared"], compared["p"], compared["validation"]) == ("micro F1", None, 30)
    assert (found.artifact.plan.adapter is None) is wins
    kept = compared["micro_f1" if wins else "adapter_micro_f1"]
    assert metrics["validation"]["micro_f1"] == pytest.approx(kept)  # with the thresholds that are saved
    probes = [each for each in metrics["baselines"] if each["name"] == LINEAR_PROBE]
    assert len(probes) == (not wins)
    again = pw.load(tmp_path / "run")
    assert np.allclose(again.logits(TEXTS), found.logits(TEXTS), atol=1e-5)


def test_an_untrained_adapter_gives_way_with_any_number_of_labels(
    settings: dict[str, Any], multi_label_pairs: Callable[..., list[tuple[str, list[str]]]]
) -> None:
    given = settings | {"validation_size": 40, "learning_rate": 1e-7, "lp_ft": False, "report": "short"}
    found = pw.train(multi_label_pairs(200, 1), **given)
    compared = found.metrics["train"]["frozen_head"]
    assert compared["kept"] == "frozen head"
    assert compared["difference"] == pytest.approx(compared["adapter_micro_f1"] - compared["micro_f1"])
    assert compared["difference"] < 0
    assert found.metrics["validation"]["micro_f1"] > 0.9


def test_a_run_that_was_stopped_after_its_last_step_decides_the_same(
    settings: dict[str, Any], news: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen_head, "head_wins", lambda comparison: True)
    whole = pw.train(news / "train.csv", **settings)

    def stop(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(frozen_head, "fit_frozen_head", stop)
    with pytest.raises(KeyboardInterrupt):
        pw.train(news / "train.csv", out=tmp_path / "run", **settings)
    monkeypatch.undo()
    monkeypatch.setattr(frozen_head, "head_wins", lambda comparison: True)
    resumed = pw.train(news / "train.csv", out=tmp_path / "run", resume=True, **settings)
    assert np.allclose(resumed.logits(TEXTS), whole.logits(TEXTS), atol=1e-5)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_what_is_returned_is_not_behind_the_head(metric: str, settings: dict[str, Any], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    file = tmp_path / "noise.csv"
    words = ["cup", "bank", "polls", "rate", "valley", "match", "river", "vote"]
    with file.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["text", "label"])
        for row in range(120):  # labels that nothing foretells
            writer.writerow([" ".join(random.choice(words, 5)) + f" {row}", "abc"[random.integers(3)]])
    found = pw.train(file, metric=metric, **(settings | {"validation_size": 40, "report": "short"}))
    compared = found.metrics["train"]["frozen_head"]
    kept = "accuracy" if compared["kept"] == "frozen head" else "adapter_accuracy"
    assert found.metrics["validation"]["accuracy"] == compared[kept]
    if metric == "accuracy":
        assert compared[kept] >= compared["accuracy"]
    else:
        assert compared["compared"] == "macro F1"
