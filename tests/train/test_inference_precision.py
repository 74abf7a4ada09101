"""The number format of the trained classifier: chosen once, saved, and the one in which its figures are measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pennyweight as pw
from pennyweight.artifact.layout import RANGES
from pennyweight.errors import ArtifactError, ResourceError
from pennyweight.model import device as runtime
from pennyweight.model.inference.cascade import margins
from pennyweight.model.inference.int8_products import MARGIN
from pennyweight.model.inference.precision import FEWEST_ROWS, MOST_CHANGE
from pennyweight.model.kernels.int8_linear import has_int8
from pennyweight.runs.saved_evaluation import evaluate_saved, read_evaluation_data
from pennyweight.train import inference_precision

from ..conftest import TOPICS

needs_int8 = pytest.mark.skipif(not has_int8(), reason="oneDNN's int8 product does not exist here")
TEXTS = ["The bank and the shares.", "", "The striker and the cup " * 20, "Voters in the valley."]


def pairs(rows: int, start: int = 0) -> list[tuple[str, str]]:
    found = []
    for row in range(start, start + rows):
        topic = list(TOPICS)[row % 3]
        words = TOPICS[topic]
        found.append((f"{row} The {words[row % 6]} and the {words[row // 3 % 6]} in the {words[row // 2 % 6]}", topic))
    return found


def write(rows: list[Any], path: Path) -> Path:
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows), "utf-8")
    return path


# The ranges that int8 rounds by cover texts like those in training; an empty text may lie outside.
LIKE_TRAINING = [text for text, _ in pairs(12, 500)]


@pytest.fixture
def train(tiny_backbone: Callable[..., Path], tmp_path: Path) -> Callable[..., pw.Classifier]:
    """A function `(folder=None, kind="bert", validation_rows=30, **settings) -> classifier`, trained a few steps."""

    def run(folder: Path | None = None, kind: str = "bert", rows: int = 30, **settings: Any) -> pw.Classifier:
        usual = {
            "backbone": str(tiny_backbone(kind)), "budget": "5k", "max_steps": 6, "learning_rate": 5e-3,
            "batch_size": 8, "precision": "fp32", "report": "short", "device": "cpu", "audit": "off",
        }  # fmt: skip
        usual["validation"] = str(write(pairs(rows, 300), tmp_path / "validation.jsonl"))
        return pw.train(pairs(60), test=pairs(40, 200), out=folder, **(usual | settings))

    return run


def assert_repeated(folder: Path, trained: pw.Classifier, precision: str) -> None:
    """Loaded, it is in the number format it was measured in, with the same logits and the same figures, bit for bit."""
    loaded = pw.load(folder, device="cpu")
    assert trained.metrics["inference"]["precision"] == precision
    assert (trained.runtime.precision, loaded.runtime.precision) == (precision, precision)
    assert np.array_equal(loaded.logits(TEXTS), trained.logits(TEXTS))
    again = evaluate_saved(loaded, read_evaluation_data(loaded, pairs(40, 200))).to_json()
    for name, value in trained.metrics["test"].items():
        assert again[name] == value, name


def test_with_few_validation_rows_nothing_is_tried(train: Callable[..., pw.Classifier], tmp_path: Path) -> None:
    trained = train(tmp_path / "run")
    assert trained.metrics["inference"] == {"precision": "fp32", "rows": 0, "measured": {}}
    assert trained.artifact.ranges == {}
    assert not (tmp_path / "run" / RANGES).exists()
    assert_repeated(tmp_path / "run", trained, "fp32")


@needs_int8
@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_int8_for_who_asks(kind: str, train: Callable[..., pw.Classifier], tmp_path: Path) -> None:
    trained = train(tmp_path / "run", kind, inference_precision="int8")
    assert trained.metrics["inference"] == {"precision": "int8", "rows": 0, "measured": {}}
    assert_repeated(tmp_path / "run", trained, "int8")
    exact = pw.load(tmp_path / "run", device="cpu", precision="fp32").logits(LIKE_TRAINING)
    assert not np.array_equal(exact, trained.logits(LIKE_TRAINING))
    assert np.linalg.norm(exact - trained.logits(LIKE_TRAINING)) < 0.1 * np.linalg.norm(exact)
    held = pw.load(tmp_path / "run", device="cpu").artifact.ranges
    assert held.keys() == trained.artifact.ranges.keys()
    assert all(torch.equal(values, trained.artifact.ranges[name]) for name, values in held.items())
    # A finished run that is started again gives the same classifier.
    assert np.array_equal(
        train(tmp_path / "run", kind, inference_precision="int8", resume=True).logits(TEXTS), trained.logits(TEXTS)
    )


@needs_int8
@pytest.mark.parametrize("rows", [30, FEWEST_ROWS])
def test_labels_in_int8_are_those_of_fp32(rows: int, train: Callable[..., pw.Classifier], tmp_path: Path) -> None:
    trained = train(tmp_path / "run", rows=rows, inference_precision="int8", max_steps=1)
    exact = pw.load(tmp_path / "run", device="cpu", precision="fp32")
    texts = [text for text, _ in pairs(600, 1000)]
    expected, found = exact.logits(texts), trained.logits(texts)
    assert (found.argmax(1) != expected.argmax(1)).mean() <= 0.002
    # Nearly level ones are those of fp32, the others are not.
    again = np.isclose(found, expected, atol=1e-5).all(1)
    assert 0 < again.mean() < 1
    assert np.all(margins(found[~again]) >= float(trained.artifact.ranges[MARGIN]))


@needs_int8
def test_with_other_shares_of_the_classes_too(train: Callable[..., pw.Classifier], tmp_path: Path) -> None:
    trained = train(tmp_path / "run", inference_precision="int8", max_steps=1)
    shares = ",".join(f"{name}={share}" for name, share in zip(trained.labels, (0.6, 0.3, 0.1), strict=True))
    texts = [text for text, _ in pairs(600, 1000)]
    exact = pw.load(tmp_path / "run", device="cpu", precision="fp32").with_prior(shares).logits(texts)
    changed = trained.with_prior(shares).logits(texts).argmax(1) != exact.argmax(1)
    assert changed.mean() <= 0.002


@needs_int8
def test_offsets_of_the_biases_move_what_is_computed_again(tiny_backbone: Callable[..., Path], tmp_path: Path) -> None:
    """A threshold becomes an offset after the logits were measured; the figures are those of the moved classifier."""

    def two_classes(rows: int, start: int = 0) -> list[tuple[str, str]]:
        return [pair for pair in pairs(rows, start) if pair[1] != next(iter(TOPICS))]

    trained = pw.train(
        two_classes(60), validation=str(write(two_classes(90, 300), tmp_path / "validation.jsonl")),
        test=two_classes(40, 200), out=tmp_path / "run", backbone=str(tiny_backbone("bert")), budget="5k",
        max_steps=1, batch_size=8, inference_precision="int8", precision="fp32", thresholds="recall=0.7",
        report="short", device="cpu", audit="off",
    )  # fmt: skip
    assert any(trained.metrics["bias_offsets"]["values"])
    loaded = pw.load(tmp_path / "run", device="cpu")
    again = evaluate_saved(loaded, read_evaluation_data(loaded, two_classes(40, 200))).to_json()
    for name, value in trained.metrics["test"].items():
        assert again[name] == value, name


@needs_int8
def test_a_copy_saved_elsewhere_keeps_int8(train: Callable[..., pw.Classifier], tmp_path: Path) -> None:
    trained = train(inference_precision="int8")
    trained.save(tmp_path / "copy")
    assert_repeated(tmp_path / "copy", trained, "int8")


@needs_int8
def test_where_int8_is_missing_it_is_fp32(
    train: Callable[..., pw.Classifier], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = train(tmp_path / "run", inference_precision="int8")
    monkeypatch.setattr(runtime, "has_int8", lambda: False)
    loaded = pw.load(tmp_path / "run", device="cpu")
    assert loaded.runtime.precision == "fp32"
    exact = loaded.logits(LIKE_TRAINING)
    assert np.linalg.norm(exact - trained.logits(LIKE_TRAINING)) < 0.1 * np.linalg.norm(exact)
    with pytest.raises(ResourceError, match=r"^int8 needs a CPU with int8 kernels; use --precision auto$"):
        pw.load(tmp_path / "run", device="cpu", precision="int8")
    with pytest.raises(ResourceError, match=r"^this CPU's kernels do not compute in int8; "):
        train(inference_precision="int8")


@needs_int8
def test_int8_of_a_classifier_without_ranges_is_refused(
    train: Callable[..., pw.Classifier], tmp_path: Path, command: Callable[..., Any]
) -> None:
    train(tmp_path / "run")
    expected = (
        f"{tmp_path / 'run'}: int8 was not tried when this classifier was trained; train it again with "
        "--inference-precision int8, or use --precision fp32"
    )
    with pytest.raises(ArtifactError) as caught:
        pw.load(tmp_path / "run", device="cpu", precision="int8")
    assert str(caught.value) == expected
    done = command("predict", tmp_path / "run", "-", "--precision", "int8", "--device", "cpu", stdin="a text\n")
    assert (done.code, done.error) == (2, expected)


def test_a_thousand_validation_rows_choose(train: Callable[..., pw.Classifier], tmp_path: Path) -> None:
    trained = train(tmp_path / "run", rows=FEWEST_ROWS)
    choice = trained.metrics["inference"]
    assert choice["rows"] == FEWEST_ROWS
    assert choice["measured"].keys() == {"fp32", "int8"} if has_int8() else {"fp32"}
    chosen, exact = choice["measured"][choice["precision"]], choice["measured"]["fp32"]
    assert abs(chosen["accuracy"] - exact["accuracy"]) < MOST_CHANGE + 1e-9
    assert chosen["texts_per_second"] >= exact["texts_per_second"]
    assert exact["labels_changed"] == 0
    # The measured accuracy is that of the validation rows in the report.
    assert exact["accuracy"] == pytest.approx(trained.evaluate(pairs(FEWEST_ROWS, 300)).accuracy, abs=0.01)
    assert_repeated(tmp_path / "run", trained, choice["precision"])


@pytest.mark.parametrize("chosen", ["fp32", "int8"])
def test_whatever_they_choose_evaluate_repeats(
    chosen: str, train: Callable[..., pw.Classifier], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if chosen == "int8" and not has_int8():
        pytest.skip("oneDNN's int8 product does not exist here")
    measure = inference_precision.measure_precisions
    monkeypatch.setattr(
        inference_precision, "measure_precisions", lambda *given: replace(measure(*given), precision=chosen)
    )
    # In training bf16 may be the fastest; what its figures were measured in is kept all the same.
    trained = train(tmp_path / "run", rows=FEWEST_ROWS, precision="auto")
    assert_repeated(tmp_path / "run", trained, chosen)


@pytest.mark.skipif(not has_int8(), reason="oneDNN's int8 product does not exist here")
def test_asked_for_fp32_nothing_is_tried_however_many_rows(train: Callable[..., pw.Classifier]) -> None:
    trained = train(rows=FEWEST_ROWS, inference_precision="fp32")
    assert trained.metrics["inference"] == {"precision": "fp32", "rows": 0, "measured": {}}
    assert trained.artifact.ranges == {}


@pytest.mark.skipif(not runtime.computes_bf16(), reason="this CPU's kernels do not compute in bf16")
def test_bf16_for_who_asks_though_it_may_be_slower_here(train: Callable[..., pw.Classifier], tmp_path: Path) -> None:
    trained = train(tmp_path / "run", inference_precision="bf16")
    assert_repeated(tmp_path / "run", trained, "bf16")


@pytest.mark.parametrize(
    "settings",
    [
        {"encoder": "reference"},
        {"hidden_dropout": 0.1},  # trained by transformers' forward pass, and predicting by the engine
        {"strategy": "all-linear", "bias": "all"},
    ],
    ids=str,
)
def test_however_it_was_trained_evaluate_repeats(
    settings: dict[str, Any], train: Callable[..., pw.Classifier], tmp_path: Path
) -> None:
    trained = train(tmp_path / "run", **settings)
    assert trained.artifact.model.engine == "reference"
    assert_repeated(tmp_path / "run", trained, "fp32")
    as_trained = trained.text_model.logits(trained.tokens(TEXTS))
    assert np.abs(trained.logits(TEXTS) - as_trained).max() < 1e-4 * np.abs(as_trained).max()


def test_where_there_is_no_engine_it_predicts_as_it_was_trained(
    train: Callable[..., pw.Classifier], tmp_path: Path
) -> None:
    asked = {"inference_precision": "int8"} if has_int8() else {}
    trained = train(tmp_path / "run", "deberta-v2", **asked)
    assert trained.metrics["inference"] == {"precision": "fp32", "rows": 0, "measured": {}}
    assert_repeated(tmp_path / "run", trained, "fp32")


def test_multi_label_answers_choose_too(
    tiny_backbone: Callable[..., Path], multi_label_pairs: Callable[..., list[tuple[str, list[str]]]], tmp_path: Path
) -> None:
    held_out = write(multi_label_pairs(FEWEST_ROWS, 1), tmp_path / "validation.jsonl")
    trained = pw.train(
        write(multi_label_pairs(60), tmp_path / "train.jsonl"), validation=str(held_out), out=tmp_path / "run",
        backbone=str(tiny_backbone("bert")), budget="5k", max_steps=3, batch_size=8, precision="fp32", report="short",
        device="cpu", audit="off",
    )  # fmt: skip
    choice = trained.metrics["inference"]
    assert choice["rows"] == FEWEST_ROWS
    loaded = pw.load(tmp_path / "run", device="cpu")
    assert loaded.runtime.precision == choice["precision"]
    assert np.array_equal(loaded.logits(TEXTS), trained.logits(TEXTS))
    assert MARGIN not in trained.artifact.ranges  # any number of labels may be close to their thresholds


def test_the_recipe_names_its_choices(train: Callable[..., pw.Classifier], command: Callable[..., Any]) -> None:
    with pytest.raises(
        pw.PennyweightError, match=r"inference_precision: expected auto, fp32, bf16 or int8, received fp16$"
    ):
        train(inference_precision="fp16")
    assert "--inference-precision auto|fp32|bf16|int8" in command("train", "--help-all").out
    for name in ("predict", "evaluate"):
        assert "auto|fp32|bf16|fp16|int8" in command(name, "--help-all").out
