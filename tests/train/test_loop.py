"""The training loop where losses are read in several steps at once, as on a GPU: same figures, nothing waits."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pennyweight.data.batching import Windows, pack
from pennyweight.errors import Interrupted, PennyweightError
from pennyweight.model.backbone import config_of, resolve
from pennyweight.model.classifier import ModelSettings, build
from pennyweight.model.device import Runtime
from pennyweight.model.encoders import bert, modernbert
from pennyweight.model.inference import TokenFeed
from pennyweight.model.kernels import choose_kernels
from pennyweight.model.trainable import trainable
from pennyweight.recipe import loading as recipe
from pennyweight.recipe.planning import plan_for
from pennyweight.train import checkpoint
from pennyweight.train.accelerator import make_accelerator, prepare_optimizer
from pennyweight.train.batch_source import choose_batch_sources
from pennyweight.train.distillation import SoftTargets
from pennyweight.train.loop import batch_loss, fit, step_and_record
from pennyweight.train.loss import divergence
from pennyweight.train.signals import Stop
from pennyweight.train.state import TrainingState
from pennyweight.train.training_rows import TrainingRows

from ..device_waits import DeviceWait, no_waits

CPU = torch.device("cpu")
ROWS = 24  # six steps an epoch


@pytest.fixture
def start(tiny_backbone: Callable[..., Path]) -> Callable[..., TrainingState]:
    """A function that begins a training, or resumes one."""

    def make(
        kind: str = "bert",
        *,
        at_once: int = 1,
        labels: np.ndarray | None = None,
        resumed: checkpoint.Checkpoint | None = None,
        prefix: bool = False,
        windows: bool = False,
        rows: dict[str, Any] | None = None,
        **settings: Any,
    ) -> TrainingState:
        wanted = recipe.load(
            backbone=str(tiny_backbone(kind)), **(
                {"budget": "9k", "strategy": "top" if prefix else "all-linear", "epochs": 2, "batch_size": 4,
                 "learning_rate": 1e-2, "lora_dropout": 0.1, "precision": "fp32"} | settings
            ),
        )  # fmt: skip
        plan = plan_for(wanted, config_of(wanted.model.backbone), 3)
        draw, pieces = np.random.default_rng(0), np.arange(ROWS) % 2 + 1
        encoded = pack([draw.integers(5, 40, 4 + number % 7).tolist() for number in range(ROWS)])
        if windows:  # of four tokens, with what is left in the last; every other text has one
            encoded = replace(encoded, windows=Windows.of_lengths(
                [[4] * (count - 1) + [int(each) - 4 * (count - 1)] if each > 4 else [int(each)]
                 for each, count in zip(encoded.lengths, pieces, strict=True)]
            ))  # fmt: skip
        model = build(
            resolve(wanted.model.backbone), plan, 3, Runtime(CPU, "fp32"), ModelSettings(**wanted.model.settings())
        )
        model.encoder.gradient_checkpointing = wanted.train.gradient_checkpointing == "on"
        feed: Any = TokenFeed(encoded, 0, 8, 64, CPU)
        if prefix:
            feed = choose_batch_sources(model, {"train": feed}, wanted.train, backbone="b").train
        targets = np.arange(ROWS) % 3 if labels is None else labels
        counts = None if encoded.windows is None else encoded.windows.counts
        made = TrainingRows(feed, targets, encoded.lengths, 8, windows=counts, **(rows or {}))
        accelerator = make_accelerator(wanted.train, Runtime(CPU, "fp32"), None)
        state = TrainingState(model, made, wanted.train, accelerator, plan.count.trainable, resumed=resumed)
        state.losses.at_once = at_once
        return state

    return make


class Told:
    """What an observer is told, but for the seconds."""

    def __init__(self, signal_at: int | None = None) -> None:
        self.all: list[Any] = []
        self._signal_at = signal_at

    def step(self, step: int, total: int, loss: float, rate: float, texts: int, seconds: float) -> None:
        self.all.append((step, total, loss, rate, texts))
        assert seconds > 0
        if step == self._signal_at:
            os.kill(os.getpid(), 15)

    def evaluation(self, record: dict[str, Any]) -> None:
        self.all.append(record)


def evaluation() -> dict[str, float]:
    return {"loss": 0.5, "accuracy": 0.5, "macro_f1": 0.5}


def weights(state: TrainingState) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in trainable(state.model).values()])


BINARY = np.eye(3, dtype=np.int64)[np.arange(ROWS) % 3]
TEACHER = SoftTargets(np.full((ROWS, 3), 1 / 3, dtype=np.float32), np.arange(ROWS) % 2 == 0, False, 2.0, 0.5)
CASES: dict[str, dict[str, Any]] = {
    "bert": {},
    "mean pooling": {"pooling": "mean"},
    "modernbert": {"kind": "modernbert"},
    "mpnet": {"kind": "mpnet"},
    "no clipping": {"max_grad_norm": 0.0},
    "label smoothing and weights": {"label_smoothing": 0.1, "rows": {"class_weights": np.array([1.0, 2.0, 0.5])}},
    "multi-label": {"labels": BINARY},
    "R-Drop": {"r_drop": 2.0},
    "R-Drop, multi-label": {"r_drop": 2.0, "labels": BINARY},
    "distillation": {"rows": {"soft": TEACHER}},
    "accumulation and average": {"gradient_accumulation_steps": 2, "average": "ema"},
    "kept prefix": {"prefix": True},
    "kept vectors": {"prefix": True, "strategy": "head-only"},
    "windows": {"windows": True},
    "dora": {"use_dora": True},
    "ranks of several sizes": {"strategy": "graded"},
    "layers computed again": {"gradient_checkpointing": "on"},
    "modernbert's layers computed again": {"kind": "modernbert", "gradient_checkpointing": "on"},
}


def test_r_drop_reads_a_batch_twice_and_adds_half_of_the_divergence(start: Callable[..., TrainingState]) -> None:
    state, rows = start(r_drop=3.0, lora_dropout=0.3, adapter="lora", warmup_ratio=0.0), np.arange(4)
    state.model.train()
    step_and_record(state, None, Stop())  # until then the adapter adds nothing
    torch.manual_seed(0)
    found = batch_loss(state, rows)
    torch.manual_seed(0)
    one, other = (state.model(**state.rows.source(rows)) for _ in range(2))
    assert not torch.equal(one, other)
    by_hand = (state.loss(one, rows) + state.loss(other, rows) + 3 * divergence(one, other, multi=False)) / 2
    assert float(found.detach()) == pytest.approx(float(by_hand.detach()), rel=1e-5)
    state.model.eval()  # without dropout both passes are the same
    assert float(batch_loss(state, rows).detach()) == pytest.approx(
        float(state.loss(state.model(**state.rows.source(rows)), rows).detach()), rel=1e-6
    )


@pytest.mark.parametrize("kernels", ["cpu", "cuda"])
@pytest.mark.parametrize("case", CASES)
def test_nothing_in_a_step_waits_for_the_device(
    case: str, kernels: str, start: Callable[..., TrainingState], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernels of a GPU run on a CPU too; only Flash Attention is replaced by what stands in for it."""
    for module in (bert, modernbert):
        monkeypatch.setattr(module, "choose_kernels", lambda device: choose_kernels(torch.device(kernels)))
    state, told, stop = start(at_once=3, **CASES[case]), Told(), Stop()
    state.model.train()
    step_and_record(state, told, stop)  # what is made once: kernels tried, masks drawn, factors copied
    assert told.all == []
    with no_waits():
        step_and_record(state, told, stop)
    assert told.all == []
    step_and_record(state, told, stop)
    assert [step for step, *_ in told.all] == [1, 2, 3]


def test_gradient_scaling_waits_for_nothing(start: Callable[..., TrainingState]) -> None:
    """The scaler of a GPU on a CPU; the fused optimizer skips a step by itself, without telling the host."""
    state = start(at_once=3)
    state.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    state.accelerator.native_amp = True
    state.accelerator.state._mixed_precision = "fp16"  # which Accelerate itself refuses without a GPU
    state.optimizer = prepare_optimizer(state.accelerator, state.optimizer)
    state.accelerator._optimizers = [state.optimizer]
    state.model.train()
    step_and_record(state, None, Stop())
    before = weights(state)
    with no_waits():
        step_and_record(state, None, Stop())
    assert not torch.equal(weights(state), before)


def test_a_loss_that_is_read_is_noticed(start: Callable[..., TrainingState]) -> None:
    state = start()
    with no_waits(), pytest.raises(DeviceWait):
        step_and_record(state, None, Stop())


@pytest.mark.parametrize("operation", [
    lambda x: float(x.sum()), lambda x: x.nonzero(), lambda x: x[x > 0], lambda x: x.tolist(), lambda x: x.cpu(),
    lambda x: bool((x > 0).all()), lambda x: torch.repeat_interleave(x, x.long()),
])  # fmt: skip
def test_what_would_wait_is_noticed(operation: Callable[[Tensor], Any]) -> None:
    with no_waits(), pytest.raises(DeviceWait):
        operation(torch.ones(3))


@pytest.mark.parametrize("settings", [
    {"eval_steps": 4}, {"save_steps": 5, "gradient_accumulation_steps": 2}, {"max_steps": 5, "average": "last_epochs"},
], ids=["evaluations", "checkpoints", "an end"])  # fmt: skip
def test_losses_read_together_are_those_read_in_every_step(
    settings: dict[str, Any], start: Callable[..., TrainingState], tmp_path: Path
) -> None:
    found = []
    for at_once in (1, 3, 100):
        state, told, store = start(at_once=at_once, **settings), Told(), tmp_path / str(at_once)
        result = fit(state, evaluate=evaluation, store=store, fingerprint={}, observer=told)
        saved = checkpoint.latest(store)
        assert saved is not None
        plain = {key: value for key, value in saved.progress.items() if key != "seconds"}
        moments = torch.cat([each.flatten() for _, each in sorted(saved.optimizer.items())])
        found.append((told.all, result.history, result.texts, plain, weights(state).tolist(), moments.tolist()))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("at_once", [1, 4])
def test_a_loss_that_is_no_number_is_reported_at_its_step(
    at_once: int, start: Callable[..., TrainingState], tmp_path: Path
) -> None:
    state, told = start(at_once=at_once, save_steps=4), Told()
    whole, steps = state.loss, iter(range(1, 99))
    state.loss = lambda logits, rows: whole(logits, rows) * (float("nan") if next(steps) >= 3 else 1.0)
    with pytest.raises(PennyweightError, match=r"^the training loss is nan at step 3; "):
        fit(state, evaluate=evaluation, store=tmp_path, fingerprint={}, observer=told)
    assert [step for step, *_ in told.all] == [1, 2]
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("default_signals")
def test_a_run_stopped_between_two_readings_goes_on_where_it_was(
    start: Callable[..., TrainingState], tmp_path: Path
) -> None:
    whole, known = start(), Told()
    fit(whole, evaluate=evaluation, observer=known)
    state, told = start(at_once=4), Told(signal_at=2)
    with pytest.raises(Interrupted, match=r"stopped by a signal after step 4 of 12"):
        fit(state, evaluate=evaluation, store=tmp_path, fingerprint={}, observer=told)
    saved = checkpoint.latest(tmp_path)
    assert saved is not None
    resumed, more = start(at_once=4, resumed=saved), Told()
    fit(resumed, evaluate=evaluation, observer=more)
    assert told.all + more.all == known.all
    assert torch.equal(weights(resumed), weights(whole))
