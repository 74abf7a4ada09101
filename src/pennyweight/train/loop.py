"""The training loop: step, evaluate when due, save, and stop when asked to."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import Interrupted, PennyweightError
from ..model.inference import evaluating
from ..recipe.schema import TrainRecipe
from . import checkpoint
from .accelerator import backward, clip
from .loss import divergence
from .observer import Observer
from .signals import Stop, resume_command, stop_requested
from .state import FitResult, TrainingState
from .step_losses import add_up

Evaluate = Callable[[], Mapping[str, float]]


def fit(
    state: TrainingState,
    *,
    evaluate: Evaluate | None,
    store: Path | None = None,
    fingerprint: dict[str, Any] | None = None,
    observer: Observer | None = None,
) -> FitResult:
    """Train, and leave the best evaluated weights in the model.

    Args:
        evaluate: loss (plain cross-entropy), accuracy and macro_f1 on the validation set; what else it gives is kept.
            None, nothing is held out: the last weights are the best, and a record of the history has no figures.
        store: folder for checkpoints, one at each evaluation, and every `save_steps`.
        fingerprint: what this run depends on, kept with each checkpoint.

    Raises:
        Interrupted: after SIGINT, SIGTERM or SIGHUP, once the state is saved.
        PennyweightError: when the loss is no longer a number.
    """

    def save() -> Path | None:
        if store is None:
            return None
        return checkpoint.save(store, state.checkpoint(fingerprint or {}), state.settings.save_total_limit)

    state.model.train()
    with stop_requested(alone=state.group.size == 1) as stop:
        while True:
            if state.evaluation_due:
                if evaluate_and_record(state, evaluate, stop, observer):
                    save()
            elif state.checkpoint_due and not stop.is_set():
                save()
            if stop.is_set():
                report_steps(state, observer)
                raise _interrupted(save(), store, state)
            if state.is_done:
                return state.finish()
            step_and_record(state, observer, stop)


def step_and_record(state: TrainingState, observer: Observer | None, stop: Stop) -> None:
    """One optimizer step of all processes, timed; all who want to know are told of it once its loss is read."""
    began = time.perf_counter()
    progress = state.progress
    batches = state.next_batches()
    rate = state.learning_rate(progress.step)
    texts = sum(len(indices) for indices in batches)
    losses = train_step(state, batches, rate, texts, stop)
    progress.step += 1
    state.average.update(progress.step, state.steps_per_epoch)
    state.losses.add(progress.step, losses, rate=rate, texts=texts, seconds=time.perf_counter() - began)
    if state.losses_due:
        report_steps(state, observer)


def report_steps(state: TrainingState, observer: Observer | None) -> None:
    """Read the losses that were left on the device, and tell of their steps, in order; nothing where all are read.

    Raises:
        PennyweightError: a loss is not a number; the first such step is named, although later ones may have been taken.
    """
    for step in state.losses.read():
        _check_finite("training", step.loss_sum, step.number, state.settings)
        state.progress.count_step(step.loss_sum, step.texts, step.seconds)
        mean = step.loss_sum / step.texts
        if observer is not None:
            observer.step(step.number, state.total_steps, mean, step.rate, step.texts, step.seconds)
        state.accelerator.log({"train/loss": mean, "train/learning_rate": step.rate}, step.number)


def train_step(
    state: TrainingState, batches: list[np.ndarray], rate: float, texts: int, stop: Stop
) -> list[Tensor | float]:
    """One optimizer step over batches of row numbers, `texts` in all.

    Of several processes each computes its share of every batch, so that the learning rate means what it means in one.
    Where one process trains by a fast encoder, nothing here makes the host wait for the device.

    Returns:
        Losses in nats, each summed over the texts of a batch: scalars on the device, or one number of several
        processes.
    """
    group, parameters = state.group, list(state.parameters.values())
    group.seed_step(state.settings.seed, state.progress.step)
    for kind in state.optimizer.param_groups:
        kind["lr"] = rate
    losses: list[Tensor | float] = []
    for batch in batches:
        indices = group.deal(batch, state.rows.lengths)
        if not len(indices):
            continue
        loss = batch_loss(state, indices)
        # Divided by the texts of the whole step: accumulation gives the gradient of one large batch.
        penalty = state.model.adapter.penalty() * (len(indices) / texts)
        backward(state.accelerator, loss / texts + penalty)
        losses.append(loss.detach())
    if group.size > 1:
        # Read in every step: the same buffer tells all of them whether to stop.
        loss_sum, asked = group.sum_step(parameters, add_up(losses), stop.is_asked)
        stop.agree(asked)
        losses = [loss_sum]
    if state.settings.max_grad_norm:
        clip(state.accelerator, parameters, state.settings.max_grad_norm)
    state.optimizer.step()
    state.model.adapter.after_step(state.progress.step + 1)
    state.optimizer.zero_grad(set_to_none=True)
    return losses


def batch_loss(state: TrainingState, indices: np.ndarray) -> Tensor:
    """The loss of a batch of row numbers, summed over its texts; with R-Drop, the mean of two passes and its term."""
    inputs, weight = state.rows.source(indices), state.settings.r_drop
    logits: Tensor = state.model(**inputs)
    loss = state.loss(logits, indices)
    if not weight:
        return loss
    # Half of the paper's loss, so that a learning rate means what it means without R-Drop.
    again: Tensor = state.model(**inputs)
    between = divergence(logits, again, multi=state.rows.labels.ndim == 2)
    return (loss + state.loss(again, indices) + weight * between) / 2


def evaluate_and_record(state: TrainingState, evaluate: Evaluate | None, stop: Stop, observer: Observer | None) -> bool:
    """Evaluate the weights, averaged where the recipe says so; False if a signal broke it off."""
    progress = state.progress
    with state.average.applied(), evaluating(state.model):
        scores = stop.interruptible(evaluate or dict)
        if scores is None:
            return False
        if evaluate is not None:
            _check_finite("validation", scores["loss"], progress.step, state.settings)
        record = progress.record_evaluation(
            scores, state.settings, state.learning_rate(progress.step - 1), progress.step / state.steps_per_epoch,
            state.parameters,
        )  # fmt: skip
    if observer is not None:
        observer.evaluation(record)
    state.accelerator.log({f"validation/{key}": value for key, value in scores.items()}, progress.step)
    return True


def _check_finite(kind: str, loss: float, step: int, settings: TrainRecipe) -> None:
    if not math.isfinite(loss):
        raise PennyweightError(
            f"the {kind} loss is {loss} at step {step}",
            remedy=f"lower --learning-rate (now {settings.learning_rate:g}) or use --precision fp32",
        )


def _interrupted(saved: Path | None, store: Path | None, state: TrainingState) -> Interrupted:
    nothing = "nothing was saved because no run folder was given"
    return Interrupted(
        f"stopped by a signal after step {state.progress.step} of {state.total_steps}",
        where=saved,
        remedy=nothing if store is None else f"the state is saved; {resume_command(store.parent)}",
    )
