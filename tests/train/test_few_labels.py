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
from pennyweight.train.few_labels import FROZEN_CHOSEN, Trial, best_or_usual, choose_trial, halves, steps_for

TEXTS = ["The striker and the match in the cup", "The bank and the rate in the forecast", "The polls in the valley"]


@pytest.fixture
def settings(tiny_backbone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Of a tiny backbone, and phases of a few steps: enough for what these tests look at."""
    monkeypatch.setattr(few_labels, "STEPS", (2, 6))
    return {"backbone": str(tiny_backbone("minilm")), "budget": "20k", "precision": "fp32", "report": "short"}


def trial(steps: int, right: list[int], strength: float = 1.0) -> Trial:
    """With as many right rows as there are ones, of three classes of like size."""
    labels = np.arange(len(right)) % 3
    return Trial(steps, strength, np.eye(3)[(labels + 1 - np.array(right)) % 3], labels)


# --- choosing


def test_on_many_rows_the_contrastive_phase_must_be_ahead() -> None:
    frozen, behind, ahead = (
        trial(0, [1] * 100 + [0] * 50),
        trial(20, [1] * 99 + [0] * 51),
        trial(60, [1] * 101 + [0] * 49),
    )
    assert choose_trial([frozen, behind], forced=False) is frozen
    assert choose_trial([frozen, trial(20, [1] * 100 + [0] * 50)], forced=False) is frozen
    assert choose_trial([frozen, behind, ahead], forced=False) is ahead


def test_on_few_rows_it_may_be_behind_by_less_than_chance() -> None:
    frozen = trial(0, [1] * 20 + [0] * 12)
    assert choose_trial([frozen, near := trial(20, [1] * 17 + [0] * 3 + [1, 1] + [0] * 10)], forced=False) is near
    # 4 rows behind on 8 that differ: 1.4 standard errors.
    assert choose_trial([frozen, near := trial(20, [1] * 14 + [0] * 6 + [1, 1] + [0] * 10)], forced=False) is near
    assert choose_trial([frozen, far := trial(20, [1] * 15 + [0] * 17)], forced=False) is frozen
    assert choose_trial([frozen, far], forced=True) is far
    assert choose_trial([frozen], forced=True) is frozen


def test_a_phase_that_is_no_better_than_the_commonest_class_must_be_ahead() -> None:
    frozen = trial(0, [1] * 12 + [0] * 18)
    chance = trial(20, [1] * 8 + [0] * 4 + [1, 1] + [0] * 16)  # 10 of 30, as always answering one of three classes
    assert not chance.beats_commonest_class
    assert choose_trial([frozen, chance], forced=False) is frozen
    assert choose_trial([frozen, trial(20, [1] * 8 + [0] * 4 + [1] * 3 + [0] * 15)], forced=False) is not frozen
    assert choose_trial([trial(0, [1] * 9 + [0] * 21), chance], forced=False) is chance


def test_another_penalty_must_be_ahead_by_a_standard_error() -> None:
    usual = trial(20, [1] * 80 + [0] * 20)
    # 2 rows ahead on 8 that differ, and 4 rows on 8: 0.7 and 1.4 standard errors.
    near = trial(20, [0] * 3 + [1] * 77 + [1] * 5 + [0] * 15)
    far = trial(20, [0] * 2 + [1] * 78 + [1] * 6 + [0] * 14)
    assert near.rank > usual.rank
    assert best_or_usual(usual, [near, usual]) is usual
    assert best_or_usual(usual, [far, usual, near]) is far


def test_a_shorter_phase_must_have_the_lower_loss_by_a_standard_error() -> None:
    frozen = trial(0, [1] * 60 + [0] * 40)
    short = trial(20, [1] * 80 + [0] * 20)
    # Of 100 rows 4 fewer right, on 8 that differ; and 8 fewer on 8.
    near, far = trial(60, [1] * 74 + [0] * 6 + [1] * 2 + [0] * 18), trial(60, [1] * 72 + [0] * 28)
    assert choose_trial([frozen, short, trial(60, [1] * 80 + [0] * 20)], forced=False).steps == 60
    assert choose_trial([frozen, short, trial(60, [1] * 79 + [0] + [1] + [0] * 19)], forced=False).steps == 60
    assert choose_trial([frozen, short, near], forced=False) is short
    assert choose_trial([frozen, short, far], forced=False) is short
    # Logits of another size say the same.
    same = trial(60, [1] * 81 + [0] * 19)
    loud = Trial(60, 1.0, 8 * same.logits, same.labels)
    assert choose_trial([frozen, short, loud], forced=False) is loud
    # By macro F1 the rare class counts.
    gives_up, finds = [0] * 200, [0] * 178 + [1] * 12 + [1] * 10
    for longest, chosen in ((finds, 60), (gives_up, 20)):
        shorter = gives_up if longest is finds else finds
        trials = [rare(0, gives_up), rare(20, shorter), rare(60, longest)]
        assert choose_trial(trials, forced=True).steps == chosen


def rare(steps: int, guesses: list[int], metric: str = "macro_f1") -> Trial:
    """Predictions of 190 rows of a common class and ten of a rare one."""
    labels = np.array([0] * 190 + [1] * 10)
    return Trial(steps, 1.0, np.eye(2)[guesses] * 4, labels, metric=metric)


def test_candidates_are_compared_by_the_metric_of_the_training_loop() -> None:
    gives_up = [0] * 200  # 95% right
    finds = [0] * 178 + [1] * 12 + [1] * 10  # 94%, and every rare row
    for metric, chosen in (("accuracy", 0), ("auto", 0), ("macro_f1", 20)):
        trials = [rare(0, gives_up, metric), rare(20, finds, metric)]
        assert choose_trial(trials, forced=False).steps == chosen
        assert max(trials, key=lambda trial: trial.rank).steps == chosen
    for metric, chosen in (("accuracy", 20), ("macro_f1", 0)):
        assert choose_trial([rare(0, finds, metric), rare(20, gives_up, metric)], forced=False).steps == chosen
    assert rare(0, gives_up).score == "macro F1 48.7%, 95.0% of 200 held-out rows"
    assert rare(0, gives_up, "auto").score == "95.0% of 200 held-out rows"


def test_by_loss_a_surer_candidate_is_ahead() -> None:
    labels = np.zeros(200, dtype=np.int64)
    sure, unsure = (Trial(steps, 1.0, np.tile([gap, 0.0], (200, 1)), labels, metric="loss") for steps, gap in
                    ((20, 3.0), (0, 1.0)))  # fmt: skip
    assert choose_trial([unsure, sure], forced=False) is sure
    assert sure.rank > unsure.rank


def test_rows_are_held_out_once_each_or_one_half_of_many() -> None:
    labels = np.arange(40) % 4
    found = halves(labels, 0)
    assert sorted(np.concatenate([held for _, held in found]).tolist()) == list(range(40))
    for kept, held in [*found, *halves(np.arange(400) % 4, 0)]:
        assert not set(kept.tolist()) & set(held.tolist())
        assert len(set(np.bincount(labels[kept]).tolist() if len(kept) < 40 else [0])) == 1
    assert len(halves(np.arange(400) % 4, 0)) == 1


def test_the_only_row_of_a_class_is_never_held_out() -> None:
    labels = np.array([0, 1, 1, 1, 1, 2, 2])
    for kept, held in halves(labels, 0):
        assert 0 in kept
        assert sorted([*kept.tolist(), *held.tolist()]) == list(range(7))
    assert halves(np.arange(5), 0) == []


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


def test_more_texts_leave_descriptions_out(settings: dict[str, Any], news: Path) -> None:
    found = pw.train(few_rows(news, 9), validation_size=0, **settings)
    assert not any(each["descriptions"] for each in found.metrics["train"]["few_labels"]["candidates"])


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
