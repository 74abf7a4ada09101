"""The training loop: what is frozen stays frozen, the validation loss is the validation set's."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..data.batching import plan_batches
from ..errors import Interrupted, PennyweightError, RecipeError
from ..model.adapters.adalora import Adaptive, take
from ..model.inference import Feed, evaluating
from ..model.trainable import check_count, trainable
from ..recipe.loading import TrainRecipe
from . import checkpoint
from . import loss as losses
from .accelerator import backward, clip, prepare, run_ids
from .class_balance import oversampled
from .observer import Observer
from .optimizer import adamw, learning_rate
from .signals import stop_requested, way_on
from .state import Fit, Run, restore
from .weight_averaging import Average


def fit(
    model: nn.Module,
    feed: Feed,
    labels: np.ndarray,
    lengths: np.ndarray,
    recipe: TrainRecipe,
    *,
    accelerator: Accelerator,
    evaluate: Callable[[], dict[str, float]] | None,
    planned: int,
    bucket: int,
    weights: np.ndarray | None = None,
    store: Path | None = None,
    fingerprint: dict[str, Any] | None = None,
    resume: checkpoint.State | None = None,
    observer: Observer | None = None,
    adaptive: Adaptive | None = None,
    drawn: Sequence[np.ndarray] | None = None,
) -> Fit:
    """Train and leave the best evaluated weights in `model`.

    Args:
        feed: from row indices to the model's keyword arguments.
        labels: (N,) class indices, or (N, L) of 0 and 1, of the rows that `feed` knows.
        lengths: (N,) tokens of each row, for batches of similar length.
        accelerator: owns device, gradient scaling and experiment trackers.
        evaluate: loss (plain cross-entropy), accuracy and macro_f1 on the validation set; what else it gives is kept.
            None, nothing is held out: the last weights are the best, and a record of the history has no figures.
        planned: trainable parameters in the plan; training refuses to start on any other number.
        bucket: batches are padded to a multiple of this many tokens.
        weights: (L,) of the classes, as `balance.class_weights` gives them.
        store: folder for checkpoints, one at each evaluation, and every `save_steps`. What is in there and later than
            `resume` is dropped.
        fingerprint: what this run depends on, kept with each checkpoint.
        resume: go on from this state.
        adaptive: the ranks that move, if they do.
        drawn: for each epoch the rows it reads, each as many; None, all rows in every epoch.

    Raises:
        Interrupted: after SIGINT, SIGTERM or SIGHUP, once the state is saved.
        ArtifactError: when `resume` does not fit the model.
        PennyweightError: when the loss is no longer a number.
    """
    parameters = trainable(model)
    optimizer = prepare(accelerator, adamw(parameters, recipe))
    check_count(model, planned, optimizer)
    loss_in_batch = losses.make(labels, next(iter(parameters.values())).device, recipe.label_smoothing, weights)
    torch.manual_seed(recipe.seed)
    averages = {} if resume is None else take(resume.optimizer)
    run = Run() if resume is None else restore(resume, parameters, optimizer)
    if resume is not None and accelerator.scaler is not None and "scaler" in resume.progress:
        accelerator.scaler.load_state_dict(resume.progress["scaler"])
    if store is not None:
        checkpoint.keep_up_to(store, resume)

    if adaptive is not None and recipe.average != "none":
        raise RecipeError(
            "ranks that move cannot be averaged: what one step pruned another still had",
            where="train -> average",
            expected="none beside adaptive_ranks",
            received=recipe.average,
        )
    average = Average(recipe, parameters, {} if resume is None else resume.average)

    def batches(epoch: int) -> list[list[np.ndarray]]:
        rows = np.arange(len(lengths)) if drawn is None else drawn[epoch]
        rows = rows[oversampled(labels[rows], seed=recipe.seed, epoch=epoch)] if recipe.oversample else rows
        plain = plan_batches(
            lengths[rows], batch_size=recipe.batch_size, bucket=bucket, seed=recipe.seed, epoch=epoch,
            group=recipe.group_by_length,
        )  # fmt: skip
        plain = [rows[batch] for batch in plain]
        size = recipe.gradient_accumulation_steps
        return [plain[start : start + size] for start in range(0, len(plain), size)]

    per_epoch = len(batches(0))
    total = per_epoch * recipe.epochs
    if recipe.max_steps is not None:
        total = min(total, recipe.max_steps)
    if adaptive is not None:
        adaptive.schedule(total)
        adaptive.restore(averages, run.step)

    def save() -> Path | None:
        if store is None:
            return None
        scaler = None if accelerator.scaler is None else accelerator.scaler.state_dict()
        extras = {"scaler": scaler} if scaler else {}
        extras["trackers"] = run_ids(accelerator)
        state = run.state(parameters, optimizer, fingerprint or {}, extras, average.state())
        if adaptive is not None:
            state.optimizer |= adaptive.state()
        return checkpoint.save(store, state, recipe.save_total_limit)

    def loss_of(indices: np.ndarray) -> Tensor:
        return loss_in_batch(model(**feed(indices)), indices)

    model.train()
    plan: list[list[np.ndarray]] = []
    planned_epoch = -1
    with stop_requested() as stop:
        while True:
            if run.evaluation_due(recipe, per_epoch, total):
                with average.applied(), evaluating(model):
                    scores = stop.unless(evaluate or dict)
                    if scores is not None:
                        if evaluate is not None:
                            _check_finite("validation", scores["loss"], run.step, recipe)
                        rate = learning_rate(run.step - 1, total, recipe)
                        record = run.evaluated(scores, recipe, rate, per_epoch, parameters)
                if scores is not None:
                    if observer is not None:
                        observer.evaluation(record)
                    accelerator.log({f"validation/{key}": value for key, value in scores.items()}, run.step)
                    save()
            elif recipe.save_steps and run.step and run.step % recipe.save_steps == 0 and not stop.is_set():
                save()
            if stop.is_set():
                raise _interrupted(save(), store, run.step, total)
            if run.step >= total or run.fit.stopped_early:
                break
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
                loss = loss_of(indices)
                # Divided by the texts of the whole step: accumulation gives the gradient of one large batch.
                penalty = 0.0 if adaptive is None else adaptive.penalty() * (len(indices) / texts)
                backward(accelerator, loss / texts + penalty)
                loss_value += float(loss.detach())
            if recipe.max_grad_norm:
                clip(accelerator, list(parameters.values()), recipe.max_grad_norm)
            optimizer.step()
            if adaptive is not None:
                adaptive.allocate(run.step + 1)
            optimizer.zero_grad(set_to_none=True)
            _check_finite("training", loss_value, run.step + 1, recipe)
            seconds = time.perf_counter() - began
            run.step += 1
            average.stepped(run.step, per_epoch)
            run.loss_sum += loss_value
            run.loss_texts += texts
            run.fit.texts += texts
            run.fit.seconds += seconds
            if observer is not None:
                observer.step(run.step, total, loss_value / texts, rate, texts, seconds)
            accelerator.log({"train/loss": loss_value / texts, "train/learning_rate": rate}, run.step)
    if run.best_weights:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(run.best_weights[name])
    run.fit.steps = run.step
    model.eval()
    return run.fit


def _check_finite(kind: str, loss: float, step: int, recipe: TrainRecipe) -> None:
    if not math.isfinite(loss):
        raise PennyweightError(
            f"the {kind} loss is {loss} at step {step}",
            remedy=f"lower --learning-rate (now {recipe.learning_rate:g}) or use --precision fp32",
        )


def _interrupted(saved: Path | None, store: Path | None, step: int, total: int) -> Interrupted:
    nothing = "nothing was saved because no run folder was given"
    return Interrupted(
        f"stopped by a signal after step {step} of {total}",
        where=saved,
        remedy=nothing if store is None else f"the state is saved; {way_on(store.parent)}",
    )
