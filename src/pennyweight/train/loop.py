"""The training loop: what is frozen stays frozen, the validation loss is the validation set's."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..data.batch import plan_batches
from ..errors import Interrupted, PennyweightError
from ..model.adapt import check_count, trainable
from ..model.infer import Feed
from ..recipe import TrainRecipe
from . import checkpoint
from .optim import adamw, learning_rate
from .signals import stop_requested


class Observer(Protocol):
    """Who watches a run: a progress bar, a log."""

    def step(self, step: int, total: int, loss: float, rate: float, texts: int, seconds: float) -> None: ...

    def evaluation(self, record: dict[str, Any]) -> None: ...


@dataclass
class Fit:
    """What came of a run.

    Attributes:
        history: one record an evaluation: step, epoch, train_loss, validation_loss, accuracy, macro_f1, learning_rate.
        best: the record that was chosen.
        texts: texts seen in training, repeats included.
        seconds: training time, evaluations excluded.
        steps: optimizer steps done.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    texts: int = 0
    seconds: float = 0.0
    steps: int = 0
    stopped_early: bool = False

    def to_json(self) -> dict[str, Any]:
        """The `train` part of metrics.json."""
        return {
            "steps": self.steps,
            "texts": self.texts,
            "seconds": round(self.seconds, 3),
            "texts_per_second": round(self.texts / self.seconds, 2) if self.seconds else None,
            "stopped_early": self.stopped_early,
            "best": self.best,
            "history": self.history,
        }


@dataclass
class _Run:
    """The moving parts that a checkpoint must hold."""

    step: int = 0
    waited: int = 0
    loss_sum: float = 0.0
    loss_texts: int = 0
    fit: Fit = field(default_factory=Fit)
    best_weights: dict[str, Tensor] = field(default_factory=dict)


def fit(
    model: nn.Module,
    feed: Feed,
    labels: np.ndarray,
    lengths: np.ndarray,
    recipe: TrainRecipe,
    *,
    accelerator: Accelerator,
    evaluate: Callable[[], dict[str, float]],
    planned: int,
    bucket: int,
    store: Path | None = None,
    fingerprint: dict[str, Any] | None = None,
    resume: checkpoint.State | None = None,
    observer: Observer | None = None,
) -> Fit:
    """Train and leave the best evaluated weights in `model`.

    Args:
        feed: from row indices to the model's keyword arguments.
        labels: (N,) class indices.
        lengths: (N,) tokens of each text, for batches of similar length.
        accelerator: owns device, mixed precision, gradient scaling and experiment trackers.
        evaluate: loss (plain cross-entropy), accuracy and macro_f1 on the validation set.
        planned: trainable parameters in the plan; training refuses to start on any other number.
        bucket: batches are padded to a multiple of this many tokens.
        store: folder for checkpoints, one at each evaluation.
        fingerprint: what this run depends on, kept with each checkpoint.
        resume: go on from this state.

    Raises:
        Interrupted: after SIGINT or SIGTERM, once the state is saved.
        PennyweightError: when the loss is no longer a number.
    """
    parameters = trainable(model)
    optimizer = accelerator.prepare_optimizer(adamw(parameters, recipe))
    check_count(model, planned, optimizer)
    names = {id(parameter): name for name, parameter in parameters.items()}
    targets = torch.from_numpy(labels).to(next(iter(parameters.values())).device)
    torch.manual_seed(recipe.seed)
    run = _Run() if resume is None else _restore(resume, parameters, optimizer)

    def batches(epoch: int) -> list[list[np.ndarray]]:
        plain = plan_batches(
            lengths, batch_size=recipe.batch_size, bucket=bucket, seed=recipe.seed, epoch=epoch,
            group=recipe.group_by_length,
        )  # fmt: skip
        size = recipe.gradient_accumulation_steps
        return [plain[start : start + size] for start in range(0, len(plain), size)]

    per_epoch = len(batches(0))
    total = per_epoch * recipe.epochs
    if recipe.max_steps is not None:
        total = min(total, recipe.max_steps)

    def save() -> Path | None:
        if store is None:
            return None
        return checkpoint.save(
            store, _state(run, parameters, optimizer, names, fingerprint or {}), recipe.save_total_limit
        )

    model.train()
    plan: list[list[np.ndarray]] = []
    planned_epoch = -1
    with stop_requested() as signalled:
        while run.step < total and not run.fit.stopped_early:
            epoch, position = divmod(run.step, per_epoch)
            if epoch != planned_epoch:
                plan, planned_epoch = batches(epoch), epoch
            began = time.perf_counter()
            rate = learning_rate(run.step, total, recipe)
            for group in optimizer.param_groups:
                group["lr"] = rate
            texts = sum(len(indices) for indices in plan[position])
            loss_value = 0.0
            for indices in plan[position]:
                with accelerator.autocast():
                    loss = cross_entropy(
                        model(**feed(indices)).float(),
                        targets[torch.from_numpy(indices).to(targets.device)],
                        label_smoothing=recipe.label_smoothing,
                        reduction="sum",
                    )
                # Divided by the texts of the whole step: accumulation gives the gradient of one large batch.
                accelerator.backward(loss / texts)
                loss_value += float(loss.detach())
            if recipe.max_grad_norm:
                accelerator.clip_grad_norm_(list(parameters.values()), recipe.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if not math.isfinite(loss_value):
                raise PennyweightError(
                    f"the training loss is {loss_value} at step {run.step + 1}",
                    remedy=f"lower --learning-rate (now {recipe.learning_rate:g}) or use --precision fp32",
                )
            seconds = time.perf_counter() - began
            run.step += 1
            run.loss_sum += loss_value
            run.loss_texts += texts
            run.fit.texts += texts
            run.fit.seconds += seconds
            if observer is not None:
                observer.step(run.step, total, loss_value / texts, rate, texts, seconds)
            accelerator.log({"train/loss": loss_value / texts, "train/learning_rate": rate}, run.step)
            due = run.step % recipe.eval_steps == 0 if recipe.eval_steps else position + 1 == per_epoch
            if due or run.step == total:
                scores = evaluate()
                _evaluated(run, scores, recipe, rate, per_epoch, parameters)
                record = run.fit.history[-1]
                if observer is not None:
                    observer.evaluation(record)
                accelerator.log({f"validation/{key}": value for key, value in scores.items()}, run.step)
                save()
            if signalled.is_set():
                path = save()
                raise Interrupted(
                    f"stopped by a signal after step {run.step} of {total}",
                    where=path,
                    remedy="the state is saved; go on with the same command and --resume"
                    if path
                    else "nothing was saved because no run folder was given",
                )
    if run.best_weights:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(run.best_weights[name])
    run.fit.steps = run.step
    model.eval()
    return run.fit


def _evaluated(
    run: _Run,
    scores: dict[str, float],
    recipe: TrainRecipe,
    rate: float,
    per_epoch: int,
    parameters: dict[str, nn.Parameter],
) -> None:
    """Record an evaluation and keep the weights if they are the best so far."""
    record = {
        "step": run.step,
        "epoch": run.step / per_epoch,
        "train_loss": run.loss_sum / max(1, run.loss_texts),
        "learning_rate": rate,
        "validation_loss": scores["loss"],
        "accuracy": scores["accuracy"],
        "macro_f1": scores["macro_f1"],
    }
    run.loss_sum, run.loss_texts = 0.0, 0

    def value(one: dict[str, Any]) -> float:
        return float(-one["validation_loss"] if recipe.metric == "loss" else one[recipe.metric])

    if not run.fit.best or value(record) > value(run.fit.best):
        run.fit.best = record
        run.waited = 0
        run.best_weights = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    else:
        run.waited += 1
    run.fit.history.append(record)
    run.fit.stopped_early = recipe.early_stopping_patience is not None and run.waited >= recipe.early_stopping_patience


def _state(
    run: _Run,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    names: dict[int, str],
    fingerprint: dict[str, Any],
) -> checkpoint.State:
    progress = {
        "step": run.step,
        "waited": run.waited,
        "loss_sum": run.loss_sum,
        "loss_texts": run.loss_texts,
        "history": run.fit.history,
        "best": run.fit.best,
        "texts": run.fit.texts,
        "seconds": run.fit.seconds,
        "stopped_early": run.fit.stopped_early,
    }
    return checkpoint.State(
        weights={name: parameter.detach().clone() for name, parameter in parameters.items()},
        optimizer=checkpoint.optimizer_tensors(optimizer, names),
        best=run.best_weights,
        random=checkpoint.random_state(),
        progress=progress,
        fingerprint=fingerprint,
    )


def _restore(state: checkpoint.State, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> _Run:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state.weights[name])
    checkpoint.set_optimizer_tensors(optimizer, parameters, state.optimizer)
    checkpoint.set_random_state(state.random)
    saved = state.progress
    done = Fit(saved["history"], saved["best"], saved["texts"], saved["seconds"], saved["step"], saved["stopped_early"])
    return _Run(saved["step"], saved["waited"], saved["loss_sum"], saved["loss_texts"], done, state.best)
