"""How far a run is, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArtifactError
from ..recipe.loading import TrainRecipe
from . import checkpoint


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


def score_of(record: Mapping[str, Any], metric: str) -> float:
    """What an evaluation's record says by a metric of the recipe; for `loss` the lower the better."""
    if metric == "loss":
        return float(record["validation_loss"])
    # With one label a text micro F1 is the accuracy.
    return float(record["accuracy" if metric == "micro_f1" and "micro_f1" not in record else metric])


def rank(record: Mapping[str, Any], metric: str) -> tuple[float, float]:
    """Orders evaluations, the best highest: by the metric, of equals by the validation loss."""
    score = score_of(record, metric)
    return -score if metric == "loss" else score, -float(record["validation_loss"])


@dataclass
class Run:
    """The moving parts of a run, which a checkpoint must hold.

    Attributes:
        waited: evaluations since the best one.
        loss_sum: training loss summed over `loss_texts` texts since the last evaluation.
    """

    step: int = 0
    waited: int = 0
    loss_sum: float = 0.0
    loss_texts: int = 0
    fit: Fit = field(default_factory=Fit)
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def evaluation_due(self, recipe: TrainRecipe, per_epoch: int, total: int) -> bool:
        """Whether the weights of this step are to be evaluated, and are not yet."""
        if not self.step or (self.fit.history and self.fit.history[-1]["step"] == self.step):
            return False
        return self.step % (recipe.eval_steps or per_epoch) == 0 or self.step == total

    def evaluated(
        self,
        scores: dict[str, float],
        recipe: TrainRecipe,
        rate: float,
        per_epoch: int,
        parameters: dict[str, nn.Parameter],
    ) -> dict[str, Any]:
        """Record an evaluation, keep the weights if they are the best so far, and say whether patience has ended.

        The best is what `rank` puts first, of full equals the earliest; patience counts the evaluations since then. So
        an evaluation that is as good by the metric with a lower loss is a gain: where the metric stands still, at 100%
        of few texts, the loss still tells a trained classifier from one that has hardly begun.

        Without `scores`, where nothing is held out, the latest weights are the best.
        """
        record = {
            "step": self.step,
            "epoch": self.step / per_epoch,
            "train_loss": self.loss_sum / max(1, self.loss_texts),
            "learning_rate": rate,
        } | {"validation_loss" if key == "loss" else key: value for key, value in scores.items()}
        self.loss_sum, self.loss_texts = 0.0, 0

        best = self.fit.best
        if not scores or not best or rank(record, recipe.metric) > rank(best, recipe.metric):
            self.fit.best = record
            self.waited = 0
            self.best_weights = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        else:
            self.waited += 1
        self.fit.history.append(record)
        patience = recipe.early_stopping_patience
        self.fit.stopped_early = patience is not None and self.waited >= patience
        return record

    def state(
        self,
        parameters: dict[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        fingerprint: dict[str, Any],
        extras: dict[str, Any],
        average: dict[str, Tensor],
    ) -> checkpoint.State:
        """All of it, to be saved. `extras` is plain JSON that goes with the progress."""
        names = {id(parameter): name for name, parameter in parameters.items()}
        progress = {
            "step": self.step,
            "waited": self.waited,
            "loss_sum": self.loss_sum,
            "loss_texts": self.loss_texts,
            "history": self.fit.history,
            "best": self.fit.best,
            "texts": self.fit.texts,
            "seconds": self.fit.seconds,
            "stopped_early": self.fit.stopped_early,
        }
        return checkpoint.State(
            weights={name: parameter.detach().clone() for name, parameter in parameters.items()},
            optimizer=checkpoint.optimizer_tensors(optimizer, names),
            best=self.best_weights,
            random=checkpoint.random_state(),
            progress=extras | progress,
            fingerprint=fingerprint,
            average=average,
        )


def restore(state: checkpoint.State, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> Run:
    """Put a saved state back into model, optimizer and generators.

    Raises:
        ArtifactError: when it does not fit them.
    """
    checkpoint.check_fits(state, parameters)
    saved = state.progress
    try:
        done = Fit(
            saved["history"], saved["best"], saved["texts"], saved["seconds"], saved["step"], saved["stopped_early"]
        )
        run = Run(saved["step"], saved["waited"], saved["loss_sum"], saved["loss_texts"], done)
    except KeyError as error:
        raise ArtifactError(f"the checkpoint's progress lacks {error}") from error
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state.weights[name])
    run.best_weights = {name: tensor.to(parameters[name].device) for name, tensor in state.best.items()}
    checkpoint.set_optimizer_tensors(optimizer, parameters, state.optimizer)
    checkpoint.set_random_state(state.random)
    return run
