"""The state of a training run: everything that changes from step to step, and the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from ..errors import ArtifactError, RecipeError
from ..model.classifier import SequenceClassifier
from ..model.trainable import check_count, trainable
from ..recipe.schema import TrainRecipe
from .accelerator import prepare_optimizer, tracker_runs
from .checkpoint import Checkpoint, check_fits, optimizer_tensors, set_optimizer_tensors
from .epochs import count_epochs
from .frozen_head import FrozenHead
from .optimizer import adamw, learning_rate
from .process_group import ProcessGroup
from .random_state import random_state, set_random_state
from .step_losses import StepLosses, steps_at_once
from .training_rows import TrainingRows
from .weight_averaging import Average

#: The share of rows that are right in one evaluation and wrong in the other; in AG News 0 to 5% once the learning rate
#: has fallen by half, and up to 16% before (docs/log.md).
CHANGED = 0.05


@dataclass
class FitResult:
    """The result of a training run.

    Attributes:
        history: one record an evaluation: step, epoch, train_loss, validation_loss, accuracy, macro_f1, learning_rate.
        best: the record of the evaluation that was chosen.
        texts: texts seen in training, repeats included.
        seconds: training time, evaluations excluded.
        steps: optimizer steps done.
        few_labels: what was compared and chosen by `train.few_labels`; None if the loop trained.
        remark: a sentence on that for the verdict.
        frozen_head: frozen head that the trained adapter was compared with; None if it was not.
        gradient_checkpointing: whether layers were computed again in the backward pass.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    texts: int = 0
    seconds: float = 0.0
    steps: int = 0
    stopped_early: bool = False
    few_labels: Mapping[str, Any] | None = None
    remark: str = ""
    frozen_head: FrozenHead | None = None
    gradient_checkpointing: bool = False

    @property
    def keeps_frozen(self) -> bool:
        """Whether a comparison left the frozen backbone with a linear head."""
        if self.frozen_head is not None:
            return self.frozen_head.wins
        return self.few_labels is not None and not self.steps

    @property
    def note(self) -> str:
        """A sentence for the verdict on what was chosen; empty where there is nothing to say."""
        return self.remark if self.frozen_head is None else self.frozen_head.note

    def to_json(self) -> dict[str, Any]:
        """The `train` part of metrics.json."""
        chosen = {} if self.few_labels is None else {"few_labels": dict(self.few_labels)}
        compared = {} if self.frozen_head is None else {"frozen_head": self.frozen_head.to_json()}
        return (
            chosen
            | compared
            | {
                "steps": self.steps,
                "texts": self.texts,
                "seconds": round(self.seconds, 3),
                "texts_per_second": round(self.texts / self.seconds, 2) if self.seconds else None,
                "stopped_early": self.stopped_early,
                "gradient_checkpointing": self.gradient_checkpointing,
                "best": self.best,
                "history": self.history,
            }
        )


def score_of(record: Mapping[str, Any], metric: str) -> float:
    """The score of an evaluation by a metric of the recipe; for `loss`, lower is better."""
    if metric == "loss":
        return float(record["validation_loss"])
    if metric == "auto":  # of a run without rare classes, see `train.auto_settings`
        metric = "accuracy"
    # With one label per text micro F1 is the accuracy.
    return float(record["accuracy" if metric == "micro_f1" and "micro_f1" not in record else metric])


def rank(record: Mapping[str, Any], metric: str) -> tuple[float, float]:
    """Orders evaluations, the best highest: by the metric, of equals by the validation loss."""
    score = score_of(record, metric)
    return -score if metric == "loss" else score, -float(record["validation_loss"])


def chance(rows: int) -> float:
    """The standard error of the difference of two evaluations' accuracies on the same rows."""
    return float((CHANGED / rows) ** 0.5)


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: optimizer steps done.
        waited: evaluations since one was better than all before it.
        loss_sum: training loss summed over `loss_texts` texts since the last evaluation.
        best_weights: the trained parameters at the evaluation that was chosen.
        held_out: number of validation rows.
    """

    step: int = 0
    waited: int = 0
    loss_sum: float = 0.0
    loss_texts: int = 0
    result: FitResult = field(default_factory=FitResult)
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    held_out: int = 0

    def count_step(self, loss_sum: float, texts: int, seconds: float) -> None:
        """Add up what is known of an optimizer step: its loss summed over its texts, and the seconds it took."""
        self.loss_sum += loss_sum
        self.loss_texts += texts
        self.result.texts += texts
        self.result.seconds += seconds

    def record_evaluation(
        self, scores: Mapping[str, float], settings: TrainRecipe, rate: float, epoch: float,
        parameters: Mapping[str, nn.Parameter],
    ) -> dict[str, Any]:  # fmt: skip
        """Record an evaluation, keep the weights if they are chosen, and note whether patience has ended.

        Chosen is the latest of the evaluations that chance may set apart from the best (see `chance`): while the
        learning rate is high, single evaluations on few rows are high by luck. Patience counts the evaluations since
        the best, which is what `rank` puts first: as good by the metric with a lower loss is a gain.

        Without `scores`, where nothing is held out, the latest weights are the best.
        """
        record = {
            "step": self.step,
            "epoch": epoch,
            "train_loss": self.loss_sum / max(1, self.loss_texts),
            "learning_rate": rate,
        } | {"validation_loss" if key == "loss" else key: value for key, value in scores.items()}
        self.loss_sum, self.loss_texts = 0.0, 0

        ahead = not scores or self._ahead(record, settings.metric)
        self.waited = 0 if ahead else self.waited + 1
        if ahead or self._level(record, settings):
            self.result.best = record
            self.best_weights = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        self.result.history.append(record)
        patience = settings.early_stopping_patience
        self.result.stopped_early = patience is not None and self.waited >= patience
        return record

    def _ahead(self, record: Mapping[str, Any], metric: str) -> bool:
        """Whether it is better than every evaluation before it."""
        return all(rank(record, metric) > rank(earlier, metric) for earlier in self.result.history)

    def _level(self, record: Mapping[str, Any], settings: TrainRecipe) -> bool:
        """Whether only chance may set it apart from the best evaluation.

        Never by the loss, which is more precise, and never where training may stop before the learning rate has fallen.
        """
        if settings.metric == "loss" or settings.early_stopping_patience is not None or not self.held_out:
            return False
        most = max(score_of(earlier, settings.metric) for earlier in self.result.history)
        return score_of(record, settings.metric) >= most - chance(self.held_out)

    def to_json(self) -> dict[str, Any]:
        """As a checkpoint holds it."""
        return {
            "step": self.step,
            "waited": self.waited,
            "loss_sum": self.loss_sum,
            "loss_texts": self.loss_texts,
            "history": self.result.history,
            "best": self.result.best,
            "texts": self.result.texts,
            "seconds": self.result.seconds,
            "stopped_early": self.result.stopped_early,
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Progress:
        """The inverse of `to_json`.

        Raises:
            ArtifactError: an entry is missing.
        """
        try:
            result = FitResult(
                saved["history"], saved["best"], saved["texts"], saved["seconds"], saved["step"], saved["stopped_early"]
            )
            return cls(saved["step"], saved["waited"], saved["loss_sum"], saved["loss_texts"], result)
        except KeyError as error:
            raise ArtifactError(f"the checkpoint's progress lacks {error}") from error


class TrainingState:
    """A model in training, with its optimizer, average and progress.

    Args:
        model: what is trained of it has `requires_grad`.
        rows: what it is trained on.
        accelerator: owns device, gradient scaling and experiment trackers.
        planned: trainable parameters in the plan.
        held_out: number of validation rows.
        resumed: the checkpoint to continue from; None for a new run.
        group: the processes that train; None for this one alone.

    Raises:
        BudgetError: the model or the optimizer has another number of trainable parameters than the plan.
        RecipeError: averaging with adaptive ranks, or too few steps for these.
        ArtifactError: `resumed` does not fit the model.
    """

    def __init__(
        self,
        model: SequenceClassifier,
        rows: TrainingRows,
        settings: TrainRecipe,
        accelerator: Accelerator,
        planned: int,
        held_out: int = 0,
        resumed: Checkpoint | None = None,
        group: ProcessGroup | None = None,
    ) -> None:
        if model.adapter.adaptive and settings.average != "none":
            raise RecipeError(
                "weights cannot be averaged with adaptive ranks, because the ranks change during training",
                where="train -> average",
                expected="none with adaptive_ranks",
                received=settings.average,
            )
        self.model, self.rows, self.settings, self.accelerator = model, rows, settings, accelerator
        self.group = group or ProcessGroup()
        self.parameters = trainable(model)
        self.group.spread(list(self.parameters.values()))
        self.optimizer = prepare_optimizer(accelerator, adamw(self.parameters, settings))
        check_count(model, planned, self.optimizer)
        self.device = next(iter(self.parameters.values())).device
        self.losses = StepLosses(steps_at_once(self.device, self.group.size))
        self.loss = rows.loss(self.device, settings.label_smoothing)
        self._batches: tuple[int, list[list[np.ndarray]]] = (0, rows.batches(0, settings))
        self.steps_per_epoch = len(self._batches[1])
        total = self.steps_per_epoch * count_epochs(settings, rows.texts)
        self.total_steps = total if settings.max_steps is None else min(total, settings.max_steps)
        torch.manual_seed(settings.seed)
        adapter_state = {} if resumed is None else model.adapter.take_resume_state(resumed.optimizer)
        self.progress = Progress() if resumed is None else self._restore(resumed)
        self.progress.held_out = held_out
        self.average = Average(settings, self.parameters, {} if resumed is None else resumed.average)
        model.adapter.begin(self.total_steps)
        model.adapter.resume(adapter_state, self.progress.step)

    @property
    def is_done(self) -> bool:
        """Whether all steps are done, or patience has ended."""
        return self.progress.step >= self.total_steps or self.progress.result.stopped_early

    @property
    def evaluation_due(self) -> bool:
        """Whether the weights of this step are to be evaluated, and are not yet."""
        step, history = self.progress.step, self.progress.result.history
        if not step or (history and history[-1]["step"] == step):
            return False
        return step % (self.settings.eval_steps or self.steps_per_epoch) == 0 or step == self.total_steps

    @property
    def losses_due(self) -> bool:
        """Whether the losses of the last steps are to be read now: enough of them, or what follows needs them."""
        return self.losses.full or self.evaluation_due or self.checkpoint_due or self.is_done

    @property
    def checkpoint_due(self) -> bool:
        """Whether this step is one of every `save_steps`."""
        every, step = self.settings.save_steps, self.progress.step
        return bool(every and step and step % every == 0)

    def learning_rate(self, step: int) -> float:
        """The learning rate of optimizer step `step` (from 0)."""
        return learning_rate(step, self.total_steps, self.settings)

    def next_batches(self) -> list[np.ndarray]:
        """The batches of the next optimizer step."""
        epoch, position = divmod(self.progress.step, self.steps_per_epoch)
        if epoch != self._batches[0]:
            self._batches = epoch, self.rows.batches(epoch, self.settings)
        return self._batches[1][position]

    def checkpoint(self, fingerprint: dict[str, Any]) -> Checkpoint:
        """All of it, to be saved."""
        names = {id(parameter): name for name, parameter in self.parameters.items()}
        scaler = None if self.accelerator.scaler is None else self.accelerator.scaler.state_dict()
        extras = {"scaler": scaler} if scaler else {}
        extras["trackers"] = tracker_runs(self.accelerator)
        moments = optimizer_tensors(self.optimizer, names) | self.model.adapter.resume_state()
        return Checkpoint(
            weights={name: parameter.detach().clone() for name, parameter in self.parameters.items()},
            optimizer=moments,
            best=self.progress.best_weights,
            random=random_state(self.device),
            progress=extras | self.progress.to_json(),
            fingerprint=fingerprint,
            average=self.average.state(),
        )

    def finish(self) -> FitResult:
        """Put the weights that were chosen into the model, in evaluation mode."""
        with torch.no_grad():
            for name, weight in self.progress.best_weights.items():
                self.parameters[name].copy_(weight)
        self.progress.result.steps = self.progress.step
        self.progress.result.gradient_checkpointing = self.model.encoder.gradient_checkpointing
        self.model.eval()
        return self.progress.result

    def _restore(self, saved: Checkpoint) -> Progress:
        """Put a checkpoint back into model, optimizer, gradient scaler and random generators."""
        check_fits(saved, self.parameters)
        progress = Progress.from_json(saved.progress)
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(saved.weights[name])
        progress.best_weights = {
            name: tensor.to(self.parameters[name].device) for name, tensor in saved.best.items()
        }  # fmt: skip
        set_optimizer_tensors(self.optimizer, self.parameters, saved.optimizer)
        if self.accelerator.scaler is not None and "scaler" in saved.progress:
            self.accelerator.scaler.load_state_dict(saved.progress["scaler"])
        set_random_state(saved.random, self.device)
        return progress
