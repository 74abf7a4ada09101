"""Training from a saved classifier: with more rows, with new labels, and what is forgotten."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pennyweight as pw
from pennyweight.errors import PennyweightError, RecipeError
from pennyweight.recipe import loading as recipe

TEXTS = ["The bank and the shares", "The cup and the match", "A campaign in the province"]
SCIENCE = [(f"The {one} and the {other} of the moon", "Science") for one in ("probe", "chip", "model", "power")
           for other in ("surface", "pictures", "moon")]  # fmt: skip


@pytest.fixture(scope="module")
def train(
    tiny_backbone: Callable[..., Path], news: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """A function `(name, **settings) -> run folder`; each name is trained once."""
    folder = tmp_path_factory.mktemp("earlier")

    def make(name: str, data: Any = None, **more: Any) -> Path:
        settings = {
            "backbone": str(tiny_backbone("bert")), "budget": "5k", "epochs": 2, "learning_rate": 5e-3, "batch_size": 8,
            "precision": "fp32", "report": "tables", "audit": "off", "contrastive": "off", "test": news / "test.csv",
        }  # fmt: skip
        if not (folder / name).exists():
            pw.train(news / "train.csv" if data is None else data, out=folder / name, **settings | more)
        return folder / name

    return make


def both(news: Path) -> list[tuple[str, str]]:
    rows = [line.split(",")[1:] for line in (news / "train.csv").read_text("utf-8").splitlines()[1:]]
    return [(text, label) for text, label in rows] + SCIENCE


@pytest.mark.parametrize(
    "plan",
    [
        {}, {"adapter": "lora-xs", "strategy": "auto", "budget": "2k"}, {"strategy": "head-only"},
        {"head": "low_rank", "head_rank": 2}, {"use_dora": True, "budget": "none", "r": 2}, {"bias": "lora_only"},
    ],
)  # fmt: skip
def test_nothing_is_lost_at_the_start(plan: dict[str, Any], train: Callable[..., Path], news: Path) -> None:
    """A step at a rate of almost nothing leaves the earlier classifier."""
    run = train("-".join(map(str, plan.values())) or "plain", **plan)
    again = pw.train(
        news / "train.csv", start_from=str(run), learning_rate=1e-12, max_steps=1, test=news / "test.csv",
    )  # fmt: skip
    before = pw.load(run)
    np.testing.assert_allclose(again.logits(TEXTS), before.logits(TEXTS), atol=1e-4)
    assert again.metrics["trainable"] == before.metrics["trainable"]
    assert again.metrics["stored"] == before.metrics["stored"]
    found = again.metrics["continued"]
    assert (found["new_labels"], found["test"]["rows"], found["test"]["n"]) == ([], "of its test", 15)
    assert found["test"]["before"] == found["test"]["after"] == before.metrics["test"]["accuracy"]


@pytest.mark.parametrize(
    "plan", [{}, {"adapter": "lora-xs", "strategy": "auto", "budget": "2k"}, {"head": "low_rank", "head_rank": 2}]
)
def test_new_labels_stand_behind_the_old_ones(
    plan: dict[str, Any], train: Callable[..., Path], news: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = train("-".join(map(str, plan.values())) or "plain", **plan)
    with caplog.at_level(logging.INFO, logger="pennyweight"):
        wider = pw.train(
            both(news), start_from=str(run), test=news / "test.csv", out=tmp_path / "run", learning_rate=1e-12,
            max_steps=1, budget="6k",
        )  # fmt: skip
    before = pw.load(run)
    assert wider.labels == (*before.labels, "Science")
    # At the start the old logits are as they were, and the new label is found already.
    np.testing.assert_allclose(wider.logits(TEXTS)[:, :3], before.logits(TEXTS), atol=1e-4)
    if "head" not in plan:  # two numbers a text cannot tell four labels apart
        assert np.mean([label == "Science" for label in wider.predict([text for text, _ in SCIENCE])]) > 0.8
    assert wider.metrics["continued"]["new_labels"] == ["Science"]
    assert wider.metrics["continued"]["test"]["rows"] == "of its test"
    assert "1 new labels fitted in addition to those of" in caplog.text
    assert "test texts of its test were right before" in caplog.text
    saved = recipe.load(tmp_path / "run" / "recipe.yaml")
    assert (saved.train.start_from, saved.train.epochs, saved.name) == (run.name, 2, "continued")
    assert pw.load(tmp_path / "run").predict(TEXTS) == wider.predict(TEXTS)


def test_the_saved_recipe_trains_the_same_again(train: Callable[..., Path], news: Path, tmp_path: Path) -> None:
    run, given = train("plain"), {"test": news / "test.csv"}
    first = pw.train(both(news), start_from=str(run), out=tmp_path / "a", budget="6k", max_steps=3, **given)
    saved = str(tmp_path / "a" / "recipe.yaml")
    again = pw.train(both(news), recipe=saved, start_from=str(run), out=tmp_path / "b", **given)
    assert np.array_equal(first.logits(TEXTS), again.logits(TEXTS))
    other = recipe.load(saved).model_copy(update={"plan": recipe.load("default").plan})
    with pytest.raises(
        RecipeError, match="plan -> strategy: the recipe's plan differs from the plan of the run in start_from"
    ):
        pw.train(both(news), recipe=other, start_from=str(run), **given)


def test_a_classifier_is_trained_more_in_python(train: Callable[..., Path], news: Path) -> None:
    first = pw.load(train("plain"))
    more = first.train_more(both(news), test=news / "test.csv", budget="6k", epochs=1)
    assert more.labels == (*first.labels, "Science")
    assert first.labels == ("Business", "Sports", "World")
    found = more.metrics["continued"]["test"]
    assert found["difference"] == pytest.approx(found["after"] - found["before"])
    low, high = found["difference_interval"]
    assert low <= found["difference"] <= high


def test_rows_of_new_labels_do_not_count_as_forgotten(train: Callable[..., Path], news: Path) -> None:
    other = [(f"{text} again", label) for text, label in both(news)][::3]
    found = pw.train(both(news), start_from=str(train("plain")), test=other, budget="6k", max_steps=1)
    measured = found.metrics["continued"]["test"]
    assert measured["rows"] == "of its labels"
    assert measured["n"] == sum(label != "Science" for _, label in other)
    silent = pw.train(both(news), start_from=str(train("plain")), budget="6k", max_steps=1)
    assert silent.metrics["continued"] == {"start": "plain", "new_labels": ["Science"]}


def test_any_number_of_labels(
    train: Callable[..., Path], multi_label_pairs: Callable[..., list[tuple[str, list[str]]]]
) -> None:
    pairs = multi_label_pairs(60)
    run = train("multi", pairs, test=pairs[:20])
    more = [(text, [*labels, "new"] if row % 4 == 0 else labels) for row, (text, labels) in enumerate(pairs)]
    found = pw.train(more, start_from=str(run), test=pairs[:20], max_steps=1, budget="6k", learning_rate=1e-12)
    assert found.labels == ("money", "sport", "world", "new")
    texts = [text for text, _ in pairs]
    np.testing.assert_allclose(found.logits(texts)[:, :3], pw.load(run).logits(texts), atol=1e-4)
    assert found.metrics["continued"]["test"]["n"] == 20


def test_a_run_from_another_start_is_not_resumed(train: Callable[..., Path], news: Path, tmp_path: Path) -> None:
    given = {"test": news / "test.csv", "out": tmp_path / "run", "max_steps": 2}
    pw.train(news / "train.csv", start_from=str(train("plain")), **given)
    pw.train(news / "train.csv", start_from=str(train("plain")), resume=True, **given)
    other = train("other seed", seed=1)
    with pytest.raises(RecipeError, match=r"cannot resume: the run has changed since its checkpoint: start: was "):
        pw.train(news / "train.csv", start_from=str(other), resume=True, **given, seed=0)


def test_what_is_refused(
    train: Callable[..., Path], news: Path, tmp_path: Path, command: Callable[..., Any],
    multi_label_pairs: Callable[..., list[tuple[str, list[str]]]],
) -> None:  # fmt: skip
    run = str(train("plain"))

    def refused(data: Any = news / "train.csv", **more: Any) -> str:
        with pytest.raises(PennyweightError) as caught:
            pw.train(data, out=tmp_path / "run", **{"start_from": run} | more)
        assert caught.value.exit_code == 2
        assert not (tmp_path / "run").exists()
        return str(caught.value)

    assert refused(r=4) == "--from uses the backbone, pooling and plan of the run; received --r; leave out --r"
    assert refused(pooling="mean").endswith("received --pooling; leave out --pooling")
    assert refused(recipe="paper") == "--from uses the recipe of the run; received --recipe paper; leave one out"
    assert "not a saved classifier" in refused(start_from=str(news))
    few = [(text, label) for text, label in both(news) if label != "World"]
    assert refused(few, label_names=["Sports", "Business", "Science"]) == (
        "data -> label_names: 1 of the run's labels are missing; expected Business, Sports, World; received "
        "Sports, Business, Science"
    )
    assert "the data do not match the run's task" in refused(multi_label_pairs(30))
    assert "over the budget" in refused(both(news), budget="1k")
    assert "expected auto or off with start_from, received on" in refused(contrastive="on")
    done = command("train", news / "train.csv", "--from", news, "--out", tmp_path / "run")
    assert (done.code, "not a saved classifier" in done.error) == (2, True)
