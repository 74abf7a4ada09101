"""What helps under shift, as options of a run: each off by default, repeatable, and the same after a resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pennyweight as pw
from pennyweight.errors import DataError, InputError, RecipeError
from pennyweight.train import head_init
from pennyweight.train.observer import forward_log

TEXTS = ["The bank held its rate.", "The striker and the cup.", "Polls in the valley."]


@pytest.fixture
def settings(tiny_backbone: Callable[..., Path]) -> dict[str, Any]:
    return {
        "backbone": str(tiny_backbone("bert")), "budget": "5k", "epochs": 3, "learning_rate": 5e-3, "batch_size": 8,
        "precision": "fp32", "report": "short", "lora_dropout": 0.1,
    }  # fmt: skip


class Stops:
    """An observer that breaks the run off after a step."""

    def __init__(self, after: int) -> None:
        self.after = after

    def step(self, step: int, total: int, loss: float, rate: float, texts: int, seconds: float) -> None:
        if step == self.after:
            raise RuntimeError("broken off")

    def evaluation(self, record: dict[str, Any]) -> None:
        pass


OPTIONS: dict[str, dict[str, Any]] = {
    "augment": {"augment": 0.5, "augment_copies": 2},
    "lp_ft": {"lp_ft": True},
    "ema": {"average": "ema", "average_decay": 0.9},
    "last_epochs": {"average": "last_epochs", "average_epochs": 2},
    "all": {"augment": 0.5, "lp_ft": True, "average": "ema", "adapter_scale": 0.5},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_changes_the_run_and_a_resumed_run_ends_the_same(
    name: str, settings: dict[str, Any], news: Path, tmp_path: Path
) -> None:
    # The loss picks the last evaluation here, and with it what was averaged or augmented until then.
    settings |= {"metric": "loss", "lp_ft": False}
    plain = pw.train(news / "train.csv", **settings).logits(TEXTS)
    settings |= OPTIONS[name]
    whole = pw.train(news / "train.csv", **settings).logits(TEXTS)
    assert not np.allclose(whole, plain)
    with pytest.raises(RuntimeError, match="broken off"):
        pw.train(news / "train.csv", out=tmp_path / "run", observer=Stops(11), save_steps=5, **settings)
    resumed = pw.train(news / "train.csv", out=tmp_path / "run", resume=True, save_steps=5, **settings)
    assert np.array_equal(resumed.logits(TEXTS), whole)
    assert np.array_equal(pw.load(tmp_path / "run").logits(TEXTS), whole)


def test_augmented_rows_are_kept_as_a_prefix_like_others(settings: dict[str, Any], news: Path) -> None:
    settings |= {"augment": 0.5, "strategy": "top"}
    said: list[str] = []
    with forward_log(said.append):
        kept = pw.train(news / "train.csv", **settings).logits(TEXTS)
    assert any(line.startswith("prefix: layers below") for line in said)
    assert any(line.startswith("augmentation: ") for line in said)
    computed = pw.train(news / "train.csv", prefix_cache="off", **settings).logits(TEXTS)
    assert np.allclose(kept, computed, atol=1e-4)


@pytest.mark.parametrize("head", ["linear", "full", "low_rank"])
@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_lp_ft_starts_from_a_fitted_head(
    head: str, kind: str, settings: dict[str, Any], tiny_backbone: Callable[..., Path], news: Path
) -> None:
    settings |= {"backbone": str(tiny_backbone(kind)), "head": head, "max_steps": 1, "learning_rate": 1e-9}
    settings |= {"budget": "20k"}
    cold, warm = (
        pw.train(news / "train.csv", lp_ft=wanted, **settings).metrics["train"]["best"]["validation_loss"]
        for wanted in (False, True)
    )
    assert warm < cold - 0.1


def test_a_part_of_many_rows_fits_the_head(
    settings: dict[str, Any], news: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings |= {"max_steps": 1, "learning_rate": 1e-9, "budget": "20k"}

    def loss(lp_ft: bool) -> float:
        trained = pw.train(news / "train.csv", lp_ft=lp_ft, **settings)
        return float(trained.metrics["train"]["best"]["validation_loss"])

    cold, whole = loss(False), loss(True)
    monkeypatch.setattr(head_init, "MOST_ROWS", 30)
    part = loss(True)
    assert part != whole
    assert part < cold - 0.1


def test_a_linear_head_is_scikit_learns_logistic_regression(settings: dict[str, Any], news: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    from pennyweight.data.sources import read
    from pennyweight.train.frozen_features import FrozenBackbone

    settings |= {"lp_ft": True, "max_steps": 1, "learning_rate": 1e-12, "pooling": "mean", "validation_size": 0.2}
    found = pw.train(news / "train.csv", **settings)
    from pennyweight.data.load import load as load_data
    from pennyweight.model.tokenizer import encode

    data = load_data(found.artifact.recipe.data)
    bundle = found.artifact
    frozen = FrozenBackbone(bundle.backbone, bundle.recipe, bundle.plan, found.runtime, bundle.tokenizer.pad_token_id)

    def features(texts: list[str]) -> np.ndarray:
        return frozen.features(encode(found.artifact.tokenizer, texts, 128))

    model = LogisticRegression(C=1.0, max_iter=5000, tol=1e-8)
    model.fit(features(data.train.texts), data.labels.encode(data.train))
    texts = read(news / "test.csv").texts
    gap = np.abs(model.predict_proba(features(texts)) - _softmax(found.logits(texts)))
    assert gap.max() < 5e-3


def _softmax(values: np.ndarray) -> np.ndarray:
    raised = np.exp(values - values.max(axis=1, keepdims=True))
    result: np.ndarray = raised / raised.sum(axis=1, keepdims=True)
    return result


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_the_adapter_scale_runs_from_the_frozen_encoder_to_the_trained_one(
    engine: str, settings: dict[str, Any], news: Path, tmp_path: Path
) -> None:
    trained = pw.train(news / "train.csv", out=tmp_path / "run", encoder=engine, **settings)
    logits = trained.logits(TEXTS)
    assert np.array_equal(pw.load(tmp_path / "run", adapter_scale=1.0).logits(TEXTS), logits)
    none = trained.scaled(0.0)
    half = pw.load(tmp_path / "run", adapter_scale=0.5)
    assert np.allclose(trained.scaled(0.5).logits(TEXTS), half.logits(TEXTS), atol=1e-6)
    # PEFT's own way of scaling says the same.
    from peft.tuners.lora import LoraLayer

    def of_model() -> np.ndarray:
        return trained.text_model.logits(trained.tokens(TEXTS))  # not by the engine, whose weights are merged

    for module in trained.artifact.model.module.modules():
        if isinstance(module, LoraLayer):
            module.set_scale("default", 0.5)
    assert np.allclose(of_model(), half.logits(TEXTS), atol=1e-5)
    for module in trained.artifact.model.module.modules():
        if isinstance(module, LoraLayer):
            module.enable_adapters(False)
    assert np.allclose(of_model(), none.logits(TEXTS), atol=1e-5)
    assert not np.allclose(none.logits(TEXTS), logits)
    # What is saved is what answered.
    folder = half.save(tmp_path / "half")
    assert np.array_equal(pw.load(folder).logits(TEXTS), half.logits(TEXTS))


def test_an_adapter_scale_that_cannot_be(settings: dict[str, Any], news: Path, tmp_path: Path) -> None:
    trained = pw.train(news / "train.csv", use_dora=True, **settings)
    with pytest.raises(InputError, match=r"an adapter scale other than 1 needs plain LoRA; received DoRA"):
        trained.scaled(0.5)
    assert np.array_equal(trained.scaled(1.0).logits(TEXTS), trained.logits(TEXTS))
    with pytest.raises(InputError, match="the adapter's scale is out of range; expected 0 to 4; received 5"):
        trained.scaled(5.0)


def test_a_second_style_joins_the_training_rows_alone(settings: dict[str, Any], news: Path, tmp_path: Path) -> None:
    settings |= {"max_steps": 3}
    plain = pw.train(news / "train.csv", **settings)
    mixed = pw.train(news / "train.csv", mix=str(news / "test.csv"), **settings)
    assert mixed.metrics["train"]["rows"] == plain.metrics["train"]["rows"] + 15
    assert mixed.metrics["validation"]["n"] == plain.metrics["validation"]["n"]
    some = pw.train(news / "train.csv", mix=str(news / "test.csv"), mix_share=0.1, **settings)
    assert some.metrics["train"]["rows"] == plain.metrics["train"]["rows"] + 6  # 6 of 54 + 6
    assert not np.array_equal(mixed.logits(TEXTS), plain.logits(TEXTS))
    (tmp_path / "other.csv").write_text("text,label\nA text.,Weather\n", "utf-8")
    with pytest.raises(DataError, match=r"other.csv:2: label Weather is not one of the classes"):
        pw.train(news / "train.csv", mix=str(tmp_path / "other.csv"), **settings)
    with pytest.raises(RecipeError, match="data -> mix_share: expected a second source with mix_share"):
        pw.train(news / "train.csv", mix_share=0.1, **settings)


def test_classes_may_be_written_as_numbers_in_the_second_source(tmp_path: Path) -> None:
    from pennyweight.data.labels import fit_labels
    from pennyweight.data.mixing import mix_rows
    from pennyweight.data.sources import read_python

    training = read_python([("a", "x"), ("b", "y"), ("c", "x"), ("d", "y")])
    labels = fit_labels(training, aliases={"0": "x", "1": "y"})
    found = mix_rows(training, read_python([("e", 1), ("f", 0)]), labels, None, 0)
    assert found.labels == ["x", "y", "x", "y", "y", "x"]
    assert found.texts[-2:] == ["e", "f"]
    assert labels.encode(found).tolist() == [0, 1, 0, 1, 1, 0]


def test_flags_of_evaluate_and_predict(tiny_run: Path, news: Path, command: Callable[..., Any]) -> None:
    import json

    def accuracy(*flags: str) -> float:
        answer = command("evaluate", tiny_run, news / "test.csv", "--json", *flags)
        assert answer.code == 0, answer.err
        return float(json.loads(answer.out)["log_loss"])

    assert accuracy("--adapter-scale", "1") == accuracy()
    assert accuracy("--adapter-scale", "0") != accuracy()
    refused = command("predict", tiny_run, news / "test.csv", "--adapter-scale", "-1")
    assert refused.code == 2
    assert refused.error == "the adapter's scale is out of range; expected 0 to 4; received -1.0"


def test_beside_multi_label_data_pairs_and_oversampling(settings: dict[str, Any]) -> None:
    texts = ["bank rate shares", "cup striker match", "polls valley campaign"] * 12
    options = {"augment": 0.5, "lp_ft": True, "average": "ema"}
    multi_label = pw.train((texts, [["a"], ["b"], ["a", "b"]] * 12), validation_size=6, **settings, **options)
    assert multi_label.multi
    assert all(19 <= count <= 21 for count in multi_label.metrics["data"]["counts"])  # 20 but for the split
    with pytest.raises(InputError, match="multi-label classifiers have no class shares"):
        multi_label.with_prior("balanced")
    with pytest.raises(InputError, match="one label per text"):
        pw.shift(multi_label, (texts, [["a"]] * 36))
    pairs = {"a": texts, "b": texts[::-1], "label": ["x", "y", "z"] * 12}
    found = pw.train(pairs, text_columns=["a", "b"], pair=True, label_column="label", **settings, **options)
    assert pw.shift(found, pairs, severities=[5], corruptions=["no_punctuation"], label_column="label").clean.n == 36
    rare = (texts, ["x", "y", "y"] * 12)
    assert pw.train(rare, oversample=True, **settings, **options).metrics["train"]["steps"] > 0
