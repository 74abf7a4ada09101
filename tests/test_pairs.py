"""Two texts as one input, from two columns to both encoders, the artifact and stock PEFT."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pennyweight as pw
from pennyweight.data.table import PAIR
from pennyweight.errors import InputError
from pennyweight.export.peft import to_peft
from pennyweight.model.backbone import resolve
from pennyweight.model.classifier import ModelSettings, build
from pennyweight.model.device import Runtime
from pennyweight.model.inference import TokenFeed
from pennyweight.model.tokenizer import encode, load_tokenizer
from pennyweight.predict.explanation import explain
from pennyweight.recipe import loading as recipe
from pennyweight.recipe.planning import plan_for

CPU = Runtime(torch.device("cpu"), "fp32")
WORDS = ["bank", "cup", "rate", "river", "polls", "play", "chip", "win"]
KINDS = ["bert", "minilm", "roberta", "xlm-roberta", "distilbert", "electra", "deberta-v2", "modernbert", "mpnet"]


def some_pairs(rows: int, seed: int) -> list[tuple[tuple[str, str], str]]:
    """Pairs whose second text names the same thing as the first, or another."""
    draw = random.Random(seed)
    found = []
    for number in range(rows):
        one, other = draw.sample(WORDS, 2)
        same = number % 2 == 0
        found.append(((f"The {one}.", f"A {one if same else other}, it said."), "same" if same else "other"))
    return found


@pytest.fixture(scope="module")
def settings(tiny_backbone: Callable[..., Path]) -> dict[str, Any]:
    return {
        "backbone": str(tiny_backbone("bert")), "r": 4, "layers": "top:2", "budget": "none", "max_steps": 6,
        "batch_size": 8, "precision": "fp32", "report": "full", "pair": True, "learning_rate": 5e-3,
    }  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for name, seed in (("train", 1), ("test", 2)):
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(["premise", "hypothesis", "label"])
            writer.writerows([*texts, label] for texts, label in some_pairs(60, seed))
    return folder


@pytest.fixture(scope="module")
def run(files: Path, settings: dict[str, Any]) -> Path:
    columns = {"text_columns": ["premise", "hypothesis"]}
    pw.train(files / "train.csv", test=files / "test.csv", out=files / "run", **settings, **columns)
    return files / "run"


@pytest.mark.parametrize("kind", KINDS)
def test_ids_and_logits_are_those_of_stock_transformers(kind: str, tiny_backbone: Callable[..., Path]) -> None:
    folder = tiny_backbone(kind)
    tokenizer = load_tokenizer(folder)
    texts = [pair for pair, _ in some_pairs(5, 3)] + [("The bank " * 20, "The cup " * 9), ("The bank.", "")]
    encoded = encode(tokenizer, [PAIR.join(pair) for pair in texts], 24, pair=True)
    stock = tokenizer([a for a, _ in texts], [b for _, b in texts], truncation=True, max_length=24)
    assert [encoded.row(row).tolist() for row in range(len(texts))] == stock["input_ids"]
    assert encoded.truncated == 1
    batch = TokenFeed(encoded, tokenizer.pad_token_id, 8, 24, CPU.device)(np.arange(len(texts)))
    if "token_type_ids" in stock:
        padded = tokenizer.pad(stock, padding="max_length", max_length=24, return_tensors="pt")
        assert torch.equal(batch["token_type_ids"], padded["token_type_ids"])

    from transformers import AutoModel

    plain = AutoModel.from_pretrained(folder).eval()
    padded = tokenizer.pad(stock, return_tensors="pt")
    outputs = {}
    with torch.inference_mode():
        expected = plain(**padded).last_hidden_state[:, 0]
        for engine in ("auto", "reference"):
            wanted = recipe.load(backbone=str(folder), encoder=engine, r=2, budget="none", head="full")
            backbone = resolve(str(folder))
            plan = plan_for(wanted, backbone.config, 2)
            model = build(backbone, plan, 2, CPU, ModelSettings(**wanted.model.settings())).eval()
            outputs[engine] = model(**batch)
            hidden = model.encoder.embed(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
            pooled = model.encoder.pooled(hidden, batch["attention_mask"], 0, "cls")
            assert float((pooled - expected).abs().max()) < 1e-4, engine
    assert float((outputs["auto"] - outputs["reference"]).abs().max()) < 1e-4


def test_segments_count(tiny_backbone: Callable[..., Path], settings: dict[str, Any]) -> None:
    """Without its segments a BERT gives other logits: the parity above would not notice if both left them out."""
    classifier = pw.train(some_pairs(40, 1), **settings)
    encoded = encode(classifier.artifact.tokenizer, [PAIR.join(("The bank.", "A cup."))], 32, pair=True)
    feed = TokenFeed(encoded, 0, 16, 32, CPU.device)
    batch = feed(np.array([0]))
    assert batch["token_type_ids"].sum() > 0  # type: ignore[union-attr]
    with torch.inference_mode():
        whole = classifier.artifact.model(**batch)
        bare = classifier.artifact.model(**{key: value for key, value in batch.items() if key != "token_type_ids"})
    assert float((whole - bare).abs().max()) > 1e-4


def test_files_and_python_train_the_same(files: Path, run: Path, settings: dict[str, Any]) -> None:
    again = pw.train(some_pairs(60, 1), test=some_pairs(60, 2), **settings)
    asked = [pair for pair, _ in some_pairs(10, 3)]
    loaded = pw.load(run)
    assert np.array_equal(loaded.predict_proba(asked), again.predict_proba(asked))
    assert loaded.evaluate(files / "test.csv").accuracy == loaded.metrics["test"]["accuracy"]
    assert loaded.evaluate(some_pairs(60, 2), text_columns=None).accuracy == loaded.metrics["test"]["accuracy"]
    assert loaded.metrics["train"]["prefix"] is not None  # the frozen layers below saw the segments
    uncached = pw.train(some_pairs(60, 1), **settings | {"prefix_cache": "off"})
    assert uncached.logits(asked) == pytest.approx(loaded.logits(asked), abs=1e-4)
    assert PAIR not in (run / "report.html").read_text("utf-8")


def test_stock_peft_gives_the_same_logits(run: Path, tmp_path: Path) -> None:
    artifact = pw.load(run, device="cpu", precision="fp32").artifact
    assert to_peft(artifact, tmp_path / "peft") < 1e-4
    assert "tokenizer(first, second)" in (tmp_path / "peft" / "README.md").read_text("utf-8")


def test_the_command_line_predicts_pairs(run: Path, files: Path, tmp_path: Path, command: Callable[..., Any]) -> None:
    shown = command("predict", run, files / "test.csv")
    assert shown.code == 0, shown.err
    said = [json.loads(line)["predicted_label"] for line in shown.out.splitlines()]
    assert said == pw.load(run).predict([pair for pair, _ in some_pairs(60, 2)])
    line = json.dumps({"premise": "The bank.", "hypothesis": "A cup."})
    streamed = command("predict", run, "-", stdin=f"{line}\n")
    assert json.loads(streamed.out)["label"] == pw.load(run).predict([("The bank.", "A cup.")])[0]
    assert command("evaluate", run, files / "test.csv").code == 0
    (tmp_path / "half.csv").write_text("premise,label\nThe bank.,same\n", "utf-8")
    refused = command("predict", run, tmp_path / "half.csv")
    assert refused.code == 2
    assert refused.error.startswith(f"{tmp_path / 'half.csv'}: no column named hypothesis; expected one of premise")
    assert "no column named hypothesis" in command("predict", run, "-", stdin='{"premise": "The bank."}\n').error


def test_what_is_no_pair_is_refused(run: Path, files: Path, settings: dict[str, Any], tiny_run: Path) -> None:
    classifier = pw.load(run)
    with pytest.raises(InputError, match=r"this classifier reads pairs of texts; expected predict\(\[\("):
        classifier.predict(["The bank."])
    with pytest.raises(InputError, match="reads pairs of texts"):
        classifier.predict([("a", "b", "c")])
    with pytest.raises(InputError, match="this classifier reads single texts, not pairs"):
        pw.load(tiny_run).predict([("a", "b")])
    with pytest.raises(InputError, match="a pair needs exactly two text columns; expected --text-columns a,b"):
        pw.train(files / "train.csv", **settings, text_columns=["premise"])
    with pytest.raises(InputError, match=r"data row 2: the text is missing"):
        pw.train({"a": ["x", "y"], "b": ["x", None], "label": [0, 1]}, **settings, text_columns=["a", "b"])


def test_report_and_card_show_how_to_predict_pairs(run: Path) -> None:
    page, card = ((run / name).read_text("utf-8") for name in ("report.html", "README.md"))
    assert "PAIRS.csv --out predictions.csv" in page
    assert 'classifier.predict([("...", "...")])' in card
    assert "--text" not in page[: page.index("<main>")]


def test_words_of_a_pair_are_explained(run: Path) -> None:
    found = explain(pw.load(run), ("The bank.", "A cup."))
    assert [word.text for word in found.words] == ["The", "bank", ".", "A", "cup", "."]
