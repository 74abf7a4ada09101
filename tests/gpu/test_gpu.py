"""What holds on a CPU, on a GPU: the fast encoder against transformers, training, resuming, predicting, exporting.

Weights are random and shapes real, so that nothing has to be downloaded. On a GPU the order of sums is not fixed: equal
means within rounding here, where a CPU gives the same bits.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import pennyweight as pw
from pennyweight.data.batching import pack
from pennyweight.errors import Interrupted
from pennyweight.export.onnx import to_onnx
from pennyweight.model.backbone import config_of, resolve
from pennyweight.model.classifier import ModelSettings, SequenceClassifier, build
from pennyweight.model.device import Runtime, choose
from pennyweight.model.inference import TokenFeed
from pennyweight.recipe.loading import resolve_recipe
from pennyweight.recipe.planning import plan_for
from pennyweight.train import prefix_placement
from pennyweight.train.accelerator import make_accelerator
from pennyweight.train.batch_source import choose_batch_sources
from pennyweight.train.loop import report_steps, step_and_record
from pennyweight.train.prefix_cache import Prefix
from pennyweight.train.signals import Stop
from pennyweight.train.state import TrainingState
from pennyweight.train.training_rows import TrainingRows

from ..device_waits import no_waits
from ..stop_at import StopAt

pytestmark = pytest.mark.gpu

# Two layers of each base model's width: what a product or an attention kernel gets wrong shows in them.
WIDTH = 192 if os.environ.get("PENNYWEIGHT_GPU_TESTS_ON") == "cpu" else 768  # a rehearsal only has to run the code
WIDE = {"hidden_size": WIDTH, "num_attention_heads": 12, "num_hidden_layers": 2, "intermediate_size": 4 * WIDTH}
SHAPES: dict[str, dict[str, Any]] = {
    "bert": WIDE,
    "minilm": WIDE | {"hidden_size": WIDTH // 2, "num_hidden_layers": 6, "intermediate_size": 2 * WIDTH},
    "roberta": WIDE,
    "xlm-roberta": WIDE,
    "electra": WIDE | {"embedding_size": WIDTH // 6},
    "distilbert": {"dim": WIDTH, "n_heads": 12, "n_layers": 2, "hidden_dim": 4 * WIDTH},
    "mpnet": WIDE,
    "modernbert": WIDE | {"intermediate_size": 3 * WIDTH // 2},
}
TOLERANCE = {"fp32": 2e-3, "bf16": 0.15, "fp16": 0.03}
LENGTHS = (3, 64, 17, 128, 40, 1, 90, 33)


def model_of(folder: Path, engine: str, device: torch.device, precision: str, pooling: str) -> SequenceClassifier:
    recipe = resolve_recipe("default", {"backbone": str(folder), "budget": "200k", "lora_dropout": 0.0, "seed": 1})
    plan = plan_for(recipe, config_of(str(folder), None), 4)
    settings = ModelSettings(engine, pooling, 0.0, 0.0, seed=1)
    model = build(resolve(str(folder)), plan, 4, Runtime(device, precision), settings)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():  # LoRA's B begins at zero, and would hide the adapter
        for _, parameter in sorted(model.named_parameters()):
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model


def logits_and_gradients(model: SequenceClassifier, ids: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    model.train()
    logits = model(mask, ids)
    torch.nn.functional.cross_entropy(logits, torch.arange(len(ids), device=ids.device) % 4).backward()
    named = model.named_parameters()
    gradients = {name: each.grad.float().cpu() for name, each in named if each.grad is not None}
    return logits.detach().float().cpu(), gradients


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("kind", SHAPES)
def test_the_fast_encoder_gives_transformers_logits_and_gradients(
    kind: str, pooling: str, device: torch.device, formats: tuple[str, ...], tiny_backbone: Callable[..., Path]
) -> None:
    folder = tiny_backbone(kind, **SHAPES[kind])
    generator = torch.Generator().manual_seed(0)
    pad = json.loads((folder / "config.json").read_text())["pad_token_id"]
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    ids = torch.where(mask.bool(), torch.randint(7, 60, mask.shape, generator=generator), pad).to(device)
    mask = mask.to(device)
    expected, known = logits_and_gradients(model_of(folder, "reference", device, "fp32", pooling), ids, mask)
    for precision in formats:
        found, gradients = logits_and_gradients(model_of(folder, "fast", device, precision, pooling), ids, mask)
        assert gradients.keys() == known.keys()
        assert off(found, expected) <= TOLERANCE[precision]
        if precision == "fp32":
            least = 0.01 * max(float(each.norm()) for each in known.values())  # smaller ones are rounding
            for name, each in known.items():
                assert float((gradients[name] - each).norm()) <= 2e-3 * max(float(each.norm()), least), name
        whole = [torch.cat([each[name].flatten() for name in known]) for each in (gradients, known)]
        assert off(*whole) <= TOLERANCE[precision]


def off(found: Tensor, expected: Tensor) -> float:
    """The norm of the difference, relative to that of what is expected."""
    return float((found - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def settings(device: torch.device, tiny_backbone: Callable[..., Path]) -> dict[str, Any]:
    backbone = tiny_backbone("minilm", **SHAPES["minilm"])
    return {
        "backbone": str(backbone), "budget": "50k", "device": device.type, "epochs": 3, "batch_size": 16,
        "learning_rate": 2e-3, "report": "short", "audit": "off",
    }  # fmt: skip


def probabilities(classifier: Any, news: Path) -> np.ndarray:
    with (news / "test.csv").open(encoding="utf-8") as handle:
        found: np.ndarray = classifier.predict_proba([row["text"] for row in csv.DictReader(handle)])
    return found


def test_it_trains_in_every_format(
    settings: dict[str, Any], formats: tuple[str, ...], news: Path, device: torch.device
) -> None:
    for precision in formats:
        classifier = pw.train(news / "train.csv", test=news / "test.csv", precision=precision, **settings)
        history = classifier.metrics["train"]["history"]
        assert history[-1]["train_loss"] < history[0]["train_loss"]
        assert np.isfinite(probabilities(classifier, news)).all()
        assert classifier.metrics["machine"]["precision"] == precision
        if device.type == "cuda":
            assert classifier.metrics["machine"]["peak_gpu_memory_mb"] > 0
            assert classifier.metrics["machine"]["tf32"] is False


def test_auto_takes_the_format_of_the_tensor_cores(device: torch.device) -> None:
    if device.type == "cpu":
        pytest.skip("a CPU's choice is measured, see tests/model/test_device.py")
    major = torch.cuda.get_device_capability()[0]
    assert choose("cuda").precision == ("bf16" if major >= 8 else "fp16" if major == 7 else "fp32")


@pytest.mark.parametrize("strategy", ["top", "all-linear"])
def test_the_kept_prefix_changes_nothing(strategy: str, settings: dict[str, Any], news: Path) -> None:
    runs = [
        pw.train(news / "train.csv", precision="fp32", strategy=strategy, prefix_cache=kept, **settings)
        for kept in ("memory", "off")
    ]
    first, second = (probabilities(run, news) for run in runs)
    np.testing.assert_allclose(first, second, atol=0.02)


@contextmanager
def waiting_refused(device: torch.device) -> Iterator[None]:
    """Inside, what makes the host wait for the device raises."""
    if device.type == "cpu":
        with no_waits():
            yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("case", ["prefix on the device", "prefix in main memory", "all layers", "computed again"])
@pytest.mark.parametrize("kind", ["minilm", "modernbert", "mpnet"])
def test_a_training_step_never_waits_for_the_device(
    kind: str, case: str, device: torch.device, formats: tuple[str, ...], tiny_backbone: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(prefix_placement, "fits_beside_training", lambda *sizes: case == "prefix on the device")
    strategy = "top" if case.startswith("prefix") else "all-linear"
    draw = np.random.default_rng(0)
    encoded = pack([draw.integers(7, 60, length).tolist() for length in LENGTHS * 8])
    for precision in formats:
        recipe = resolve_recipe(
            "default", {"backbone": str(tiny_backbone(kind, **SHAPES[kind])), "budget": "200k", "strategy": strategy,
                        "batch_size": 8, "epochs": 9, "prefix_cache": "memory"},
        )  # fmt: skip
        plan, runtime = plan_for(recipe, config_of(recipe.model.backbone, None), 4), Runtime(device, precision)
        model = build(
            resolve(recipe.model.backbone), plan, 4, runtime, ModelSettings(**recipe.model.settings())
        )  # fmt: skip
        model.encoder.gradient_checkpointing = case == "computed again"
        feed = TokenFeed(encoded, 0, 8, 128, device)
        source = choose_batch_sources(model, {"train": feed}, recipe.train, backbone="b").train
        if isinstance(source, Prefix):
            assert source.hidden.device.type == (device.type if case == "prefix on the device" else "cpu")
        assert isinstance(source, Prefix) == (strategy == "top")
        rows = TrainingRows(source, np.arange(len(encoded)) % 4, encoded.lengths, 8)
        accelerator = make_accelerator(recipe.train, runtime, None)
        state = TrainingState(model, rows, recipe.train, accelerator, plan.count.trainable)
        state.losses.at_once = 100
        model.train()
        for _ in range(3):  # kernels tried, masks drawn, factors copied
            step_and_record(state, None, Stop())
        with waiting_refused(device):
            for _ in range(3):
                step_and_record(state, None, Stop())
        report_steps(state, None)
        assert np.isfinite(state.progress.loss_sum)


@pytest.mark.parametrize("encoder", ["fast", "reference"])
def test_layers_computed_again_give_the_same_classifier_in_less_memory(
    encoder: str, settings: dict[str, Any], news: Path, device: torch.device
) -> None:
    runs, peaks = [], []  # bytes; a CPU counts none
    for wanted in ("off", "on"):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        given = settings | {"precision": "fp32", "encoder": encoder, "gradient_checkpointing": wanted}
        runs.append(pw.train(news / "train.csv", **given))
        peaks.append(torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0)
    np.testing.assert_allclose(*(probabilities(run, news) for run in runs), atol=0.02)
    assert [run.metrics["train"]["gradient_checkpointing"] for run in runs] == [False, True]
    assert peaks[1] <= peaks[0]


@pytest.mark.usefixtures("default_signals")
def test_a_run_that_was_stopped_goes_on_where_it_was(settings: dict[str, Any], news: Path, tmp_path: Path) -> None:
    given = settings | {"precision": "fp32"}
    whole = pw.train(news / "train.csv", out=tmp_path / "whole", **given)
    with pytest.raises(Interrupted):
        pw.train(news / "train.csv", out=tmp_path / "run", observer=StopAt(3), **given)
    resumed = pw.train(news / "train.csv", out=tmp_path / "run", resume=True, **given)
    assert resumed.metrics["train"]["steps"] == whole.metrics["train"]["steps"]
    np.testing.assert_allclose(probabilities(resumed, news), probabilities(whole, news), atol=0.02)


def test_a_saved_classifier_predicts_on_the_gpu_and_on_the_cpu(
    settings: dict[str, Any], news: Path, tmp_path: Path, device: torch.device
) -> None:
    classifier = pw.train(news / "train.csv", out=tmp_path / "run", precision="fp32", **settings)
    known = probabilities(classifier, news)
    for where in (device.type, "cpu"):
        loaded = pw.load(tmp_path / "run", device=where, precision="fp32")
        np.testing.assert_allclose(probabilities(loaded, news), known, atol=5e-3)
        assert loaded.predict("bank rate cut") == classifier.predict("bank rate cut")


def test_what_was_trained_on_the_gpu_exports_to_onnx(settings: dict[str, Any], news: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    classifier = pw.train(news / "train.csv", out=tmp_path / "run", precision="fp32", **settings)
    to_onnx(pw.load(tmp_path / "run", device="cpu", precision="fp32").artifact, tmp_path / "onnx")
    exported = pw.load(tmp_path / "onnx")
    np.testing.assert_allclose(probabilities(exported, news), probabilities(classifier, news), atol=5e-3)
