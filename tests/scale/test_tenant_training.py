from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import pennyweight as pw
from pennyweight.model.kernels.int8_linear import has_int8
from pennyweight.recipe.loading import resolve_recipe
from pennyweight.scale.tenant_training import TenantOutcome, TenantTrainer
from pennyweight.scale.tenants import Tenant

QUICK = {"budget": "5k", "epochs": 2, "learning_rate": 5e-3, "batch_size": 8, "precision": "fp32", "report": "tables"}

Make = Callable[..., Tenant]


@pytest.fixture
def tenant(tiny_backbone: Callable[..., Path], news: Path) -> Make:
    """A function `(name, kind="bert", **settings) -> Tenant` on the tiny news."""

    def make(name: str, kind: str = "bert", config: Any = None, /, **settings: Any) -> Tenant:
        backbone = str(tiny_backbone(kind, **(config or {})))
        given = QUICK | {"train": str(news / "train.csv"), "backbone": backbone} | settings
        return Tenant(name, f"manifest.csv:{name}", resolve_recipe("default", given))

    return make


def trained(outcome: TenantOutcome) -> TenantOutcome:
    assert (outcome.state, outcome.error) == ("trained", "")
    return outcome


def without_times(metrics: Any) -> Any:
    """metrics.json without what differs between two runs of the same."""
    if isinstance(metrics, dict):
        gone = ("seconds", "texts_per_second", "tokenize_seconds", "peak_memory_mb", "training_energy_joules")
        return {key: without_times(value) for key, value in metrics.items() if key not in gone}
    return [without_times(value) for value in metrics] if isinstance(metrics, list) else metrics


def same(one: Any, other: Any) -> bool:
    """Equal but for the rounding of the final logits."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    return bool(one == other) or (isinstance(one, float) and one == pytest.approx(other, rel=1e-3, abs=1e-5))


VARIANTS: list[dict[str, Any]] = [
    {},
    {"budget": "600"},
    {"strategy": "head-only", "budget": "none"},
    {"use_dora": True, "budget": "6k"},
    {"bias": "lora_only", "budget": "6k"},
    {"adaptive_ranks": True, "budget": "6k"},
    {"head": "full", "budget": "20k"},
    {"pooling": "mean", "seed": 3},
]


def test_each_of_many_is_what_train_makes_of_the_same_texts(tenant: Make, news: Path, tmp_path: Path) -> None:
    """One after the other on one backbone, whatever the last one's adapter was: the same weights, bit for bit."""
    trainer = TenantTrainer(tmp_path / "many", overwrite=False)
    for number, settings in enumerate([*VARIANTS, {}]):
        one = tenant(str(number), test=str(news / "test.csv"), **settings)
        trained(trainer(one))
        pw.train(recipe=one.recipe, out=tmp_path / "single" / str(number))
        made, single = tmp_path / "many" / str(number), tmp_path / "single" / str(number)
        for file in sorted(single.rglob("*.safetensors")):
            if "checkpoints" in file.parts:
                continue
            expected, found = load_file(file), load_file(made / file.relative_to(single))
            assert found.keys() == expected.keys(), (settings, file.name)
            exact = file.name != "answers.safetensors"
            for name, tensor in expected.items():
                close = not exact and np.allclose(found[name], tensor, atol=1e-4)
                assert close or np.array_equal(found[name], tensor), (settings, name)
        figures = [json.loads((folder / "metrics.json").read_text("utf-8")) for folder in (made, single)]
        assert same(*map(without_times, figures)), settings
        for name in ("recipe.yaml", "plan.json", "report.html"):
            assert (made / name).is_file() == (single / name).is_file() is True
        for name in ("recipe.yaml", "plan.json"):
            assert (made / name).read_text("utf-8") == (single / name).read_text("utf-8")


def test_figures_are_those_that_evaluate_gives_later(tenant: Make, news: Path, tmp_path: Path) -> None:
    trained(TenantTrainer(tmp_path, overwrite=False)(tenant("one", test=str(news / "test.csv"))))
    classifier = pw.load(tmp_path / "one")
    later = classifier.evaluate(news / "test.csv")
    figures = classifier.metrics["test"]
    assert later.accuracy == figures["accuracy"]
    assert later.log_loss == pytest.approx(figures["log_loss"], abs=1e-5)


@pytest.mark.skipif(not has_int8(), reason="this processor's kernels have no int8")
def test_lower_layers_in_int8_change_little_and_the_figures_are_the_saved_classifiers(
    tenant: Make, news: Path, tmp_path: Path
) -> None:
    kinds = {"num_hidden_layers": 6, "hidden_size": 128, "intermediate_size": 256}
    plans = {"strategy": "top", "budget": "3k"} | {"test": str(news / "test.csv")}
    trainer = TenantTrainer(tmp_path, overwrite=False)
    found = {}
    for how in ("same", "int8", "auto"):
        outcome = trained(trainer(tenant(how, "minilm", kinds, prefix_precision=how, **plans)))
        assert outcome.metrics["train"]["prefix"]["first_layer"] > 0
        assert outcome.metrics["train"]["prefix"]["precision"] == ("as in training" if how == "same" else "int8")
        loaded = pw.load(tmp_path / how)
        measured = loaded.evaluate(news / "test.csv")
        assert outcome.metrics["test"]["accuracy"] == measured.accuracy
        assert outcome.metrics["test"]["log_loss"] == pytest.approx(measured.log_loss, rel=1e-4)
        found[how] = load_file(tmp_path / how / "head.safetensors")["out.weight"]
    assert np.array_equal(found["int8"], found["auto"])
    assert not np.array_equal(found["int8"], found["same"])
    off = np.linalg.norm(found["int8"] - found["same"]) / np.linalg.norm(found["same"])
    assert off < 0.5


def test_another_backbone_takes_the_place_of_the_resident_one(tenant: Make, tmp_path: Path) -> None:
    trainer = TenantTrainer(tmp_path, overwrite=False)
    for number, kind in enumerate(("bert", "modernbert", "bert")):
        trained(trainer(tenant(f"{number}", kind)))
    first, last = (load_file(tmp_path / name / "head.safetensors") for name in ("0", "2"))
    assert all(np.array_equal(first[name], last[name]) for name in first)


def test_what_is_finished_is_left_alone(tenant: Make, tmp_path: Path) -> None:
    one = tenant("one")
    first = trained(TenantTrainer(tmp_path, overwrite=False)(one))
    before = (tmp_path / "one" / "pennyweight.json").stat()
    for overwrite in (False, True):
        again = TenantTrainer(tmp_path, overwrite=overwrite)(one)
        assert again.state == "finished"
        assert again.metrics == json.loads(json.dumps(first.metrics))
    assert (tmp_path / "one" / "pennyweight.json").stat() == before


def test_what_was_trained_otherwise_is_replaced_only_when_asked_to(tenant: Make, tmp_path: Path) -> None:
    trained(TenantTrainer(tmp_path, overwrite=False)(tenant("one")))
    changed = tenant("one", epochs=1, learning_rate=1e-3)
    refused = TenantTrainer(tmp_path, overwrite=False)(changed)
    assert refused.state == "failed"
    assert refused.error == (
        f"{tmp_path / 'one'}: the classifier is finished, but was trained with other settings or texts: train -> "
        "epochs, train -> learning_rate; train it again with --overwrite, or choose another --out"
    )
    outcome = trained(TenantTrainer(tmp_path, overwrite=True)(changed))
    assert pw.load(tmp_path / "one").metrics["train"]["steps"] == outcome.metrics["train"]["steps"]


def test_a_damaged_classifier_fails_until_it_may_be_overwritten(tenant: Make, tmp_path: Path) -> None:
    one = tenant("one")
    trained(TenantTrainer(tmp_path, overwrite=False)(one))
    (tmp_path / "one" / "plan.json").write_text("{}", "utf-8")
    outcome = TenantTrainer(tmp_path, overwrite=False)(one)
    assert outcome.state == "failed"
    assert "does not match its checksum" in outcome.error
    trained(TenantTrainer(tmp_path, overwrite=True)(one))
    pw.load(tmp_path / "one")


@pytest.mark.parametrize("overwrite", [False, True])
def test_something_else_in_the_place_is_never_replaced(tenant: Make, tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "letter.txt").write_text("mine", "utf-8")
    outcome = TenantTrainer(tmp_path, overwrite=overwrite)(tenant("one"))
    assert outcome.error == (f"{tmp_path / 'one'}: something else is in the classifier's place; move it away")
    assert (tmp_path / "one" / "letter.txt").read_text("utf-8") == "mine"


def test_a_failure_is_an_outcome_and_the_next_is_not_concerned(tenant: Make, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("text,label\nOnly one,x\nand another,x\n", "utf-8")
    trainer = TenantTrainer(tmp_path / "out", overwrite=False)
    bad = tenant("bad", train=str(tmp_path / "bad.csv"))
    small = tenant("small", budget="5")
    for one, words in ((bad, "bad.csv"), (small, "budget")):
        outcome = trainer(one)
        assert outcome.state == "failed"
        assert words in outcome.error
        assert "\n" not in outcome.error
        assert not (tmp_path / "out" / one.name).exists()
    trained(trainer(replace(tenant("good"), name="good")))


def test_a_fault_in_one_training_does_not_end_the_others(
    tenant: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = TenantTrainer(tmp_path, overwrite=False)
    with monkeypatch.context() as patched:
        patched.setattr("pennyweight.pipeline.fit_model", lambda *given: {}["gone"])
        outcome = trainer(tenant("one"))
    assert outcome.error == "KeyError: 'gone'; this is a bug in Pennyweight, please report it"
    shutil.rmtree(tmp_path / "one", ignore_errors=True)
    trained(trainer(tenant("one")))
