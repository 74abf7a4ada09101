"""Training on few labels, by `train` as a whole: what is chosen, what is saved, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pennyweight as pw
from pennyweight.errors import DataError, RecipeError
from pennyweight.evaluate.baselines.linear_probe import LINEAR_PROBE
from pennyweight.recipe.schema import TrainRecipe
from pennyweight.train import few_labels
from pennyweight.train.few_label_trials import FROZEN_CHOSEN, Trial
from pennyweight.train.few_labels import steps_for, suits_few_labels

TEXTS = ["The striker and the match in the cup", "The bank and the rate in the forecast", "The polls in the valley"]


@pytest.fixture
def settings(tiny_backbone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Of a tiny backbone, and phases of a few steps: enough for what these tests look at."""
    monkeypatch.setattr(few_labels, "STEPS", (2, 6))
    return {"backbone": str(tiny_backbone("minilm")), "budget": "20k", "precision": "fp32", "report": "short"}


def test_long_phases_are_tried_where_there_are_rows_to_tell() -> None:
    assert (steps_for(8), steps_for(16)) == ((20,), (20, 60))


@pytest.mark.parametrize("key", few_labels.LOOP_SETTINGS)
def test_settings_of_the_loop_are_fields(key: str) -> None:
    assert key in TrainRecipe.model_fields


# --- training


@pytest.mark.parametrize("choice", ["auto", "on"])
def test_what_is_saved_is_what_was_trained(choice: str, settings: dict[str, Any], news: Path, tmp_path: Path) -> None:
    found = pw.train(news / "train.csv", test=news / "test.csv", out=tmp_path / "run", contrastive=choice, **settings)
    kept = found.metrics["train"]["few_labels"]
    names = [each["name"] for each in kept["candidates"]]
    assert names == ["frozen backbone", "contrastive, 2 steps", "contrastive, 6 steps"]
    assert kept["chosen"] in names[choice == "on" :]
    assert found.artifact.recipe.model.pooling == "mean"
    assert found.metrics["trainable"] <= 20_000
    again = pw.load(tmp_path / "run")
    assert np.allclose(again.logits(TEXTS), found.logits(TEXTS), atol=1e-5)
    alone = again.artifact.model  # with PEFT's layers
    tokens = again.artifact.tokenizer(TEXTS, padding=True, return_tensors="pt")
    values = alone(**{key: tokens[key] for key in ("input_ids", "attention_mask")}).detach().numpy()
    assert np.allclose(values, found.logits(TEXTS), atol=1e-4)


def test_the_frozen_backbone_is_saved_without_an_adapter(
    settings: dict[str, Any], news: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(few_labels, "choose_trial", lambda trials, forced: trials[0])
    found = pw.train(news / "train.csv", out=tmp_path / "run", validation_size=0, **settings)
    assert found.artifact.plan.adapter is None
    assert found.metrics["trainable"] == 3 * (found.artifact.backbone.config["hidden_size"] + 1)
    assert not found.artifact.tensors.adapter
    again = pw.load(tmp_path / "run")
    assert np.allclose(again.logits(TEXTS), found.logits(TEXTS), atol=1e-5)
    plan = json.loads((tmp_path / "run" / "plan.json").read_text("utf-8"))
    assert plan["why"][-1] == few_labels.FROZEN_WON
    assert found.metrics["total"] == plan["total"]
    without = pw.train(
        news / "train.csv", validation_size=0, **(settings | {"strategy": "head-only", "budget": "none"})
    )
    assert np.allclose(without.logits(TEXTS), found.logits(TEXTS), atol=1e-5)


def test_the_frozen_backbone_is_not_its_own_baseline(
    settings: dict[str, Any], news: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for chosen, expected in ((0, False), (1, True)):
        monkeypatch.setattr(few_labels, "choose_trial", lambda trials, forced, chosen=chosen: trials[chosen])
        full = settings | {"report": "full"}
        found = pw.train(news / "train.csv", out=tmp_path / str(chosen), **full).metrics
        assert (LINEAR_PROBE in [each["name"] for each in found["baselines"]]) is expected
        headline = found["verdict"]["headline"]
        assert (FROZEN_CHOSEN in headline) is not expected
        both = [100 * found["train"]["few_labels"]["candidates"][number]["accuracy"] for number in (1, 0)]
        said = "In cross-validation on the training texts it gets {:.1f}% right; the frozen backbone alone, {:.1f}%."
        assert (said.format(*both) in headline) is expected


def test_the_same_seed_trains_the_same(settings: dict[str, Any], news: Path) -> None:
    one, other = (pw.train(news / "train.csv", contrastive="on", **settings).logits(TEXTS) for _ in range(2))
    assert np.array_equal(one, other)


def test_dropout_without_effect_is_named(
    settings: dict[str, Any], news: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pennyweight")
    pw.train(news / "train.csv", lora_dropout=0.3, hidden_dropout=0.0, **settings)
    said = [line for line in caplog.messages if "has no effect" in line]
    assert said == [
        "few labels: lora_dropout 0.3 has no effect, because training uses no dropout here "
        "(--contrastive off trains in epochs, with dropout)"
    ]


@pytest.mark.parametrize("given", [{"epochs": 1}, {"max_steps": 2}, {"contrastive": "off"}, {"adam_beta2": 0.98}])
def test_settings_of_the_loop_mean_the_loop(given: dict[str, Any], settings: dict[str, Any], news: Path) -> None:
    settings |= {"max_steps": 1} if "contrastive" in given else {}
    assert "few_labels" not in pw.train(news / "train.csv", **settings, **given).metrics["train"]


def test_many_rows_a_class_mean_the_loop(settings: dict[str, Any], news: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few_labels, "ROWS_A_CLASS", 17)
    assert "few_labels" not in pw.train(news / "train.csv", **settings).metrics["train"]
    monkeypatch.setattr(few_labels, "ROWS_A_CLASS", 18)
    assert "few_labels" in pw.train(news / "train.csv", **settings).metrics["train"]


# --- refused


def test_one_row_a_class_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    rows = [(text, str(number)) for number, text in enumerate(TEXTS)]
    with pytest.raises(RecipeError) as caught:
        pw.train(rows, out=tmp_path / "run", contrastive="on", validation_size=0, **settings)
    assert str(caught.value) == (
        "train -> contrastive: the contrastive phase cannot be used; expected at least two training rows of each "
        "class; received 1 of the smallest; use --contrastive off"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"head": "full"}, "a linear head; received the head full"),
        ({"adaptive_ranks": True}, "an adapter with fixed ranks"),
    ],
)
def test_what_has_no_phase_is_refused(
    given: dict[str, Any], problem: str, settings: dict[str, Any], news: Path
) -> None:
    with pytest.raises(RecipeError, match=problem):
        pw.train(news / "train.csv", contrastive="on", **(settings | given))
    quick = settings | given | {"max_steps": 4}
    assert "few_labels" not in pw.train(news / "train.csv", **quick).metrics["train"]


def test_a_class_that_only_has_a_name_leaves_the_way_of_training(settings: dict[str, Any], news: Path) -> None:
    names = ["Business", "Sports", "World", "Weather"]
    found = pw.train(news / "train.csv", test=news / "test.csv", label_names=names, **settings)
    assert found.metrics["train"]["few_labels"]["candidates"]
    assert "bias_offsets" not in found.metrics
    assert found.artifact.recipe.train.metric == "auto"
    assert found.labels == tuple(names)
    assert found.metrics["test"]["accuracy"] > 0.9


def test_several_processes_train_in_epochs() -> None:
    plan = pw.plan(labels=3, backbone="roberta-base", budget="1M")
    labels = np.repeat(np.arange(3), 8)
    assert suits_few_labels(TrainRecipe(), plan, labels, 3)
    assert not suits_few_labels(TrainRecipe(), plan, labels, 3, processes=2)
    with pytest.raises(RecipeError, match="expected one process; received 2 that train together; use --contrastive"):
        suits_few_labels(TrainRecipe(contrastive="on"), plan, labels, 3, processes=2)


def test_texts_in_windows_have_the_frozen_backbone_alone(
    settings: dict[str, Any], news: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    windows = settings | {"long_texts": "windows", "max_length": 8}
    found = pw.train(news / "train.csv", test=news / "test.csv", out=tmp_path / "run", **windows)
    choice = found.metrics["train"]["few_labels"]
    assert (choice["chosen"], len(choice["candidates"])) == ("frozen backbone", 1)
    assert found.artifact.plan.adapter is None
    assert found.artifact.plan.why[-1] == few_labels.NO_PHASE
    assert found.metrics["test"]["accuracy"] > 0.9
    texts = ["The bank and the rate in the forecast " * 5, TEXTS[0]]
    assert np.allclose(pw.load(tmp_path / "run").predict_proba(texts), found.predict_proba(texts), atol=1e-6)
    for given in ({"adapter": "lora"}, {"frozen_head": "off"}, {"contrastive": "off"}):
        trained = pw.train(news / "train.csv", **(windows | given | {"validation_size": 3}))
        assert "few_labels" not in trained.metrics["train"]
        assert trained.artifact.plan.adapter is not None
    with pytest.raises(RecipeError, match="contrastive: expected auto or off with long_texts windows, received on"):
        pw.train(news / "train.csv", contrastive="on", **windows)


def test_the_phase_moves_the_upper_half_of_the_adapters(settings: dict[str, Any], news: Path) -> None:
    found = pw.train(news / "train.csv", contrastive="on", adapter="lora", **settings)
    moved: dict[int, bool] = {}
    for name, tensor in found.artifact.tensors.adapter.items():
        if ".lora_B." in name:
            layer = int(name.split("layer.")[1].split(".")[0])
            moved[layer] = moved.get(layer, False) or bool(tensor.any())
    layers = sorted(moved)
    assert [moved[layer] for layer in layers] == [place >= len(layers) // 2 for place in range(len(layers))]


# --- descriptions of the classes


def few_rows(news: Path, a_class: int) -> list[tuple[str, str]]:
    import csv

    with (news / "train.csv").open(encoding="utf-8", newline="") as handle:
        return [(row["text"], row["label"]) for row in csv.DictReader(handle)][: 3 * a_class]


def test_descriptions_are_compared_and_learnt_from(
    settings: dict[str, Any], news: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = few_rows(news, 4)
    names = sorted({label for _, label in rows})
    file = tmp_path / "labels.csv"
    file.write_text("label,text\n" + "".join(f"{name},all about {name} and more\n" for name in names), "utf-8")
    given = settings | {"validation_size": 0, "label_descriptions": str(file)}
    for used in (True, False):
        monkeypatch.setattr(Trial, "rank", property(lambda trial, used=used: (trial.described == used, trial.steps)))
        found = pw.train(rows, **given)
        candidates = found.metrics["train"]["few_labels"]["candidates"]
        assert [each["descriptions"] for each in candidates] == [used, used]


def test_one_text_a_class_gives_the_head_on_the_frozen_backbone(settings: dict[str, Any], news: Path) -> None:
    rows = few_rows(news, 20)
    first = {label: (text, label) for text, label in rows}
    found = pw.train(list(first.values()), validation_size=0, **settings)
    (only,) = found.metrics["train"]["few_labels"]["candidates"]
    assert (only["name"], only["accuracy"], only["descriptions"]) == ("frozen backbone", None, True)
    assert found.artifact.plan.adapter is None
    assert set(found.predict([text for text, _ in rows])) <= set(first)


def test_one_class_with_one_text_leaves_the_others_to_choose_by(settings: dict[str, Any], news: Path) -> None:
    rows = few_rows(news, 12)
    label = rows[0][1]
    rows = [rows[0], *[row for row in rows if row[1] != label]]
    found = pw.train(rows, validation_size=0, **settings)
    candidates = found.metrics["train"]["few_labels"]["candidates"]
    assert all(each["accuracy"] is not None for each in candidates)
    assert len(candidates) > 1


def test_more_texts_leave_descriptions_out(
    settings: dict[str, Any], news: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pennyweight")
    file = tmp_path / "labels.csv"
    names = sorted({label for _, label in few_rows(news, 4)})
    file.write_text("label,text\n" + "".join(f"{name},all about {name} and more\n" for name in names), "utf-8")
    for file_given, rows, more, why in (
        (None, 9, {}, None),
        (str(file), 9, {}, "there are more than 8 training texts per class"),
        (str(file), 4, {"max_steps": 1}, "training runs in epochs"),
    ):
        caplog.clear()
        given = settings | more | {"label_descriptions": file_given}
        found = pw.train(few_rows(news, rows), validation_size=0, **given)
        choice = found.metrics["train"].get("few_labels", {"candidates": []})
        assert not any(each["descriptions"] for each in choice["candidates"])
        said = [line for line in caplog.messages if "--label-descriptions" in line]
        assert said == ([] if why is None else [f"--label-descriptions has no effect, because {why}"])


def test_two_classes_of_one_description_are_refused_before_anything_is_written(
    settings: dict[str, Any], news: Path, tmp_path: Path
) -> None:
    rows = few_rows(news, 4)
    names = sorted({label for _, label in rows})
    file = tmp_path / "labels.csv"
    file.write_text("label,text\n" + "".join(f"{name},the same words\n" for name in names), "utf-8")
    with pytest.raises(DataError, match=r"two classes have the same description; .* received .*: the same words"):
        pw.train(rows, out=tmp_path / "run", validation_size=0, label_descriptions=str(file), **settings)
    assert not (tmp_path / "run").exists()
