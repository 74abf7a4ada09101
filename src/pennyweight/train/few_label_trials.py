"""Few labels: ways of training compared on held-out halves of the training rows, and the choice among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..evaluate.metrics import epoch_metrics
from ..evaluate.metrics.bootstrap import paired_macro_f1
from ..evaluate.metrics.calibration import fit_temperature, row_losses
from ..evaluate.metrics.intervals import NORMAL_95, standard_error
from .state import rank

HALVES_BELOW = 100  # with fewer rows each half is held out once, with more of them one half is enough
FEWEST_TO_DECIDE = 100  # held-out rows
FROZEN_CHOSEN = "It is the frozen backbone with a linear head, chosen by cross-validation on the training texts."


@dataclass(frozen=True)
class Trial:
    """A candidate on held-out halves.

    Attributes:
        steps: steps of the contrastive phase; 0 leaves the backbone frozen.
        strength: the inverse strength of the head's penalty that was best.
        logits: (M, L) and labels: (M,) of the held-out rows.
        described: whether descriptions of the classes were learnt from.
        metric: what candidates are compared by, as the training loop compares evaluations.
    """

    steps: int
    strength: float
    logits: np.ndarray
    labels: np.ndarray
    described: bool = False
    metric: str = "accuracy"

    @cached_property
    def record(self) -> dict[str, float]:
        """The figures of the held-out rows, as the training loop records those of the validation rows."""
        found = epoch_metrics.figures(self.labels, self.logits, [str(name) for name in range(self.logits.shape[1])])
        return {"validation_loss": found.pop("loss")} | found

    @property
    def rank(self) -> tuple[float, float]:
        """Orders candidates, the best highest: by the metric, of equals by the cross-entropy."""
        return rank(self.record, self.metric)

    @property
    def row_scores(self) -> np.ndarray:
        """(M,) what each held-out row adds to the metric: whether it was right, or its log-likelihood (nats)."""
        if self.metric == "loss":
            return -row_losses(self.logits, self.labels)
        return np.asarray(self.logits.argmax(axis=1) == self.labels, dtype=float)

    @property
    def calibrated_losses(self) -> np.ndarray:
        """(M,) cross-entropy of each held-out row (nats) at the best temperature, as penalties scale logits."""
        return row_losses(self.logits, self.labels, fit_temperature(self.logits, self.labels))

    @property
    def beats_commonest_class(self) -> bool:
        """Whether it is ahead of always predicting the class that most held-out rows have."""
        counts = np.bincount(self.labels, minlength=self.logits.shape[1])
        always = np.tile(np.log(counts.clip(0.5) / len(self.labels)), (len(self.labels), 1))
        return self.lead_over(replace(self, logits=always))[0] > 0

    def lead_over(self, other: Trial) -> tuple[float, float]:
        """By how much it is ahead of another on the same rows, and the standard error of that difference."""
        if self.metric == "macro_f1":
            guesses = other.logits.argmax(axis=1), self.logits.argmax(axis=1)
            gap, interval = paired_macro_f1(self.labels, *guesses)
            return gap, standard_error(interval)
        differences = self.row_scores - other.row_scores
        return _with_error(differences)

    def surer_than(self, other: Trial) -> tuple[float, float]:
        """By how much its log loss is lower on the same rows, and the standard error; by macro F1 as `lead_over`."""
        if self.metric == "macro_f1":
            return self.lead_over(other)
        return _with_error(other.calibrated_losses - self.calibrated_losses)

    @property
    def score(self) -> str:
        """In words, how good it was."""
        rows = f"of {len(self.labels):,} held-out rows"
        if not len(self.labels):
            return "not compared: every class has one row"
        if self.metric == "macro_f1":
            return f"macro F1 {100 * self.record['macro_f1']:.1f}%, {100 * self.record['accuracy']:.1f}% {rows}"
        return f"{100 * self.record['accuracy']:.1f}% {rows}"

    @property
    def name(self) -> str:
        """In words."""
        return f"contrastive, {self.steps} steps" if self.steps else "frozen backbone"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        figures = {name: self.record[name] if len(self.labels) else None for name in ("accuracy", "macro_f1")}
        return {
            "name": self.name, "steps": self.steps, "C": self.strength, **figures, "descriptions": self.described
        }  # fmt: skip


def halves(labels: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Row numbers to train on and to hold out, each class in proportion: both halves in turn, or one of many rows.

    The only row of a class is always trained on. Where every class has one there is nothing to hold out, and no halves.
    """
    from sklearn.model_selection import StratifiedKFold

    alone = np.bincount(labels)[labels] == 1  # (N,)
    single, several = np.flatnonzero(alone), np.flatnonzero(~alone)
    if not len(several):
        return []
    folds = StratifiedKFold(2, shuffle=True, random_state=seed).split(np.zeros(len(several)), labels[several])
    found = [(np.sort(np.concatenate([several[kept], single])), several[held]) for kept, held in folds]
    return found if len(labels) < HALVES_BELOW else found[:1]


def choose_trial(trials: Sequence[Trial], *, forced: bool) -> Trial:
    """A contrastive phase, or the frozen backbone.

    On enough held-out rows the phase has to be ahead. On a few dozen, where a real gain is easily hidden, the frozen
    backbone has to be better beyond chance, by the 95% interval of the paired difference: the phase gained on nearly
    all such data that was tried. A phase that is no better than the commonest class has learnt nothing and gets no such
    allowance.

    Args:
        trials: the frozen backbone first, then phases from the shortest to the longest.
        forced: whether the frozen backbone is out, if there is anything else.
    """
    frozen, *trained = trials
    if not trained:
        return frozen
    best = choose_phase(trained)
    ahead, error = best.lead_over(frozen)
    allowed = NORMAL_95 * error if len(best.labels) <= FEWEST_TO_DECIDE and best.beats_commonest_class else 0.0
    return best if forced or ahead > -allowed else frozen


def choose_phase(trials: Sequence[Trial]) -> Trial:
    """The longest phase, unless a shorter one's log loss on the held-out rows is lower by more than a standard error.

    On topics the lengths differ by about a point. Where classes are something else, and the frozen backbone knows
    little of them, the longer phase gained 8 to 28 points that a few dozen held-out rows hardly showed (docs/log.md).

    Args:
        trials: from the shortest phase to the longest.
    """
    *shorter, longest = trials
    for trial in shorter:
        ahead, error = trial.surer_than(longest)
        if ahead > error:
            return trial
    return longest


def best_or_usual(usual: Trial, trials: Sequence[Trial]) -> Trial:
    """The best trial if it is ahead of the usual one by more than a standard error, otherwise the usual one.

    The best of several trials on a few held-out rows is often the best by chance. The rule is that of Breiman et al.
    1984, "Classification and Regression Trees", section 3.4.3.
    """
    best = max(trials, key=lambda trial: trial.rank)
    ahead, error = best.lead_over(usual)
    return best if ahead > error else usual


def in_words(trials: Sequence[Trial], chosen: Trial) -> str:
    """What the choice rests on, for the verdict: validation rows, if there are any, are few.

    Args:
        trials: as for `choose_trial`.
    """
    if len(trials) == 1:
        return ""
    if not chosen.steps:
        return FROZEN_CHOSEN
    key, what = ("macro_f1", "a macro F1 of ") if chosen.metric == "macro_f1" else ("accuracy", "")
    ours, theirs = (f"{what}{100 * each.record[key]:.1f}%" for each in (chosen, trials[0]))
    right = "" if what else " right"
    return f"In cross-validation on the training texts it gets {ours}{right}; the frozen backbone alone, {theirs}."


def _with_error(differences: np.ndarray) -> tuple[float, float]:
    """The sum of paired differences and its standard error, if their mean were 0."""
    return float(differences.sum()), float((differences**2).sum() ** 0.5)
