"""The frozen head as an alternative to the trained adapter: it is kept unless the adapter beats it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..budget.plan import Plan
from ..data.batching import Encoded, select
from ..data.sampling import sample_rows
from ..evaluate.baselines.baseline import Baseline
from ..evaluate.baselines.linear_probe import LINEAR_PROBE
from ..evaluate.baselines.logistic_regression import ROWS_TO_CHOOSE_ON_MULTI_LABEL
from ..evaluate.metrics.bootstrap import paired_macro_f1, paired_micro_f1
from ..evaluate.metrics.classification import averages
from ..evaluate.metrics.intervals import NORMAL_95, standard_error
from ..evaluate.metrics.paired_tests import Comparison, compare
from ..evaluate.metrics.probabilities import sigmoid, softmax
from ..evaluate.metrics.thresholds import decide, tune_thresholds
from ..recipe.schema import PlanRecipe, TrainRecipe
from .frozen_features import MOST_ROWS, FrozenBackbone
from .inference_precision import ReadyModel
from .logistic_head import LogisticHead, cross_entropy, fit_logistic_head

logger = logging.getLogger(__name__)

STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # inverse, of the penalty on vectors of about unit length
FEWEST_TO_DECIDE = 20  # validation rows: fewer would choose by chance
# Where the paired interval is wider than this to either side, many adapters worth having lead by less than its error.
WIDEST = 0.025
# A recipe that sets another field of the plan, or one of ADAPTER_SETTINGS, asks for the adapter, which is then kept.
FREE_PLAN_FIELDS = {"budget", "head", "head_rank", "head_dropout", "min_rank", "max_rank", "bases"}
ADAPTER_SETTINGS = ("class_weights", "oversample", "teacher", "start_from", "adapter_scale")


@dataclass(frozen=True)
class FrozenHead:
    """Logistic regression on the frozen backbone's mean embeddings, compared with the trained adapter.

    Attributes:
        head: fitted on `rows` training rows.
        strength: the inverse of its penalty, chosen for the least loss on the validation rows.
        comparison: the trained adapter (second) against this head (first), on the validation rows.
        scores: accuracies of head and adapter there; micro F1 of multi-label texts.
        held_out: (V, L) the head's logits there, of multi-label texts; otherwise None.
        wins: whether the head is what is left.
        seconds: to compute features and fit.
    """

    head: LogisticHead
    strength: float
    comparison: Comparison
    scores: tuple[float, float]
    wins: bool
    rows: int
    seconds: float
    held_out: np.ndarray | None = None

    @property
    def reason(self) -> str:
        """In a sentence without a full stop, for the log, the plan and the verdict."""
        on = f"on {self.comparison.n:,} validation texts {self.comparison}"
        if self.wins:
            return f"head alone: {on}, so the adapter is not kept"
        if self.comparison.second_is_better:
            return f"adapter: {on}"
        sure = self.comparison.difference > standard_error(self.comparison.interval)
        lead = "leads by more than a standard error" if sure else "leads, on too few texts for a test,"
        return f"adapter: {on}; the adapter {lead} and is kept"

    @property
    def note(self) -> str:
        """A sentence for the verdict, of a classifier that is this head; otherwise empty."""
        return f"It is the frozen backbone with a linear head: {self.reason[12:]}." if self.wins else ""

    def to_json(self) -> dict[str, Any]:
        """As in metrics.json."""
        found, (head, adapter) = self.comparison, self.scores
        score = "accuracy" if self.held_out is None else "micro_f1"
        return {
            "kept": "frozen head" if self.wins else "adapter",
            "C": self.strength,
            "validation": found.n,
            score: head,
            f"adapter_{score}": adapter,
            "compared": found.figure,
            "difference": found.difference,
            "interval": list(found.interval),
            "p": found.p,
        }

    def baseline(self, frozen: FrozenBackbone, tokens: Encoded) -> Baseline:
        """The head as a baseline on other rows."""
        began = time.perf_counter()
        logits = self.head.logits(frozen.features(tokens))
        seconds = self.seconds + time.perf_counter() - began
        if self.held_out is None:
            return Baseline(LINEAR_PROBE, softmax(logits, 1.0), seconds, self.rows)
        return Baseline(LINEAR_PROBE, sigmoid(logits), seconds, self.rows, validation=sigmoid(self.held_out))


def compare_head(
    ready: ReadyModel,
    frozen: FrozenBackbone,
    planned: Plan,
    tokens: Mapping[str, Encoded],
    labels: Mapping[str, np.ndarray],
    prepare: Callable[[Plan], ReadyModel],
) -> tuple[ReadyModel, FrozenHead | None]:
    """The trained model or, where it does not beat the frozen head on the validation rows, that head in its place.

    Args:
        ready: the trained model; `planned`: as it was trained.
        frozen: its backbone.
        tokens, labels: by split.
        prepare: makes the model ready again, once its adapter is taken out.

    Returns:
        What is left, and the comparison; None if there was none.
    """
    train, plan = frozen.recipe.train, frozen.recipe.plan
    known = {name: labels[name] for name in tokens if name in labels}
    if (why := why_not_compared(train, plan, planned, known)) is not None:
        if why:
            logger.info(
                f"adapter: kept and not compared with the frozen head, because {why}; it may be behind that head"
            )
        return ready, None
    n_labels = len(ready.text_model.model.head.out.bias)
    adapter = ready.text_model.logits(tokens["validation"])
    found = fit_frozen_head(frozen, tokens, labels, adapter, train)
    logger.info(found.reason)
    if not found.wins:
        return ready, found
    model = ready.text_model.model
    model.pooling = "mean"
    left = model.drop_adapter(ready.plan, n_labels, frozen.backbone.config, found.reason)
    found.head.put_into(model.head)
    frozen.release()  # until a baseline needs it: the next engine takes its memory
    return prepare(left), found


def why_not_compared(
    train: TrainRecipe, plan: PlanRecipe, planned: Plan, labels: Mapping[str, np.ndarray]
) -> str | None:
    """Why the frozen head may not take the adapter's place; None if it may.

    Args:
        labels: by split: (N,) class numbers, or (N, L) of 0 and 1.

    Returns:
        For the log, where the user may not expect it; empty where there is nothing to compare, or where the recipe
        describes the adapter itself.
    """
    if train.frozen_head == "off" or planned.adapter is None:
        return ""
    if asked := settings_of_adapter(train):
        return f"the recipe sets {', '.join(asked)}"
    rows = len(labels.get("validation", ()))
    if 0 < rows < FEWEST_TO_DECIDE:
        return f"there are {rows} validation texts, fewer than {FEWEST_TO_DECIDE}"
    one_class = labels["train"].ndim == 1 and len(np.unique(labels["train"])) < 2
    return "" if not rows or one_class or planned.head.kind != "linear" or not leaves_adapter_open(plan) else None


def settings_of_adapter(train: TrainRecipe) -> list[str]:
    """The settings that a recipe sets and that a frozen head would not follow."""
    fields = TrainRecipe.model_fields
    return [key for key in ADAPTER_SETTINGS if getattr(train, key) != fields[key].default]


def leaves_adapter_open(plan: PlanRecipe) -> bool:
    """Whether a recipe sets nothing of the adapter but the budget and the limits of its ranks."""
    default = PlanRecipe().model_dump(exclude=FREE_PLAN_FIELDS)
    return plan.model_dump(exclude=FREE_PLAN_FIELDS) == default


def fit_frozen_head(
    frozen: FrozenBackbone,
    tokens: Mapping[str, Encoded],
    labels: Mapping[str, np.ndarray],
    adapter: np.ndarray,
    settings: TrainRecipe,
) -> FrozenHead:
    """Fit the head with the strength of least validation loss, on at most 20,000 training rows, and compare.

    Args:
        adapter: (V, L) logits of the trained model on the validation rows.
        settings: of the training: what chooses an evaluation, and what thresholds are tuned for.
    """
    began = time.perf_counter()
    chosen = sample_rows(len(tokens["train"]), MOST_ROWS, settings.seed)
    whole = len(chosen) == len(tokens["train"])
    features = frozen.features(tokens["train"] if whole else select(tokens["train"], chosen), fitted=True)
    held_out, truth = frozen.features(tokens["validation"]), labels["validation"]
    strength, head = _fit(features, labels["train"][chosen], held_out, truth, adapter.shape[1])
    logits = head.logits(held_out)
    comparison, scores = _compare(truth, logits, adapter, settings)
    seconds = time.perf_counter() - began
    kept = logits if truth.ndim == 2 else None
    return FrozenHead(head, strength, comparison, scores, head_wins(comparison), len(chosen), seconds, kept)


def _fit(
    features: np.ndarray, labels: np.ndarray, held_out: np.ndarray, truth: np.ndarray, n_labels: int
) -> tuple[float, LogisticHead]:
    """The strength of least loss on held-out rows (V, H) with the labels `truth`, and the head that it gives.

    With any number of labels per text, where each label is fitted for itself, strengths are compared on fewer rows.
    """
    few = slice(ROWS_TO_CHOOSE_ON_MULTI_LABEL if labels.ndim == 2 else None)
    best: tuple[float, float, LogisticHead] | None = None
    for strength in STRENGTHS:
        head = fit_logistic_head(features[few], labels[few], n_labels, strength)
        loss = cross_entropy(head.logits(held_out), truth)
        if best is not None and loss >= best[0]:
            break  # a weaker penalty costs the most time, and only overfits from here on
        best = loss, strength, head
    assert best is not None
    _, strength, head = best
    whole = len(features[few]) == len(features)
    return strength, head if whole else fit_logistic_head(features, labels, n_labels, strength)


def _compare(
    truth: np.ndarray, head: np.ndarray, adapter: np.ndarray, settings: TrainRecipe
) -> tuple[Comparison, tuple[float, float]]:
    """The adapter against the head on the validation rows, by logits (V, L), and the scores of head and adapter."""
    names = ("the frozen head", "the adapter")
    if truth.ndim == 2:  # each with thresholds of its own, as both are reported
        both = [sigmoid(head), sigmoid(adapter)]
        guesses = [decide(each, tune_thresholds(truth, each, settings.thresholds)) for each in both]
        gap, interval = paired_micro_f1(truth, *guesses)
        compared = Comparison(*names, len(truth), gap, interval, figure="micro F1")
        return compared, (averages(truth, guesses[0], "micro").f1, averages(truth, guesses[1], "micro").f1)
    guesses = [head.argmax(axis=1), adapter.argmax(axis=1)]
    if settings.metric == "macro_f1":
        gap, interval = paired_macro_f1(truth, *guesses)
        compared = Comparison(*names, len(truth), gap, interval, figure="macro F1")
    else:
        compared = compare(truth, *guesses, names=names)
    return compared, (float((guesses[0] == truth).mean()), float((guesses[1] == truth).mean()))


def head_wins(comparison: Comparison) -> bool:
    """Whether the first, simpler one is kept.

    The second has to lead by more than a standard error of the paired difference. Where there are so few rows that
    gains of some points are within that error, it is enough for it to be ahead.
    """
    error = standard_error(comparison.interval)
    return comparison.difference <= (0 if error * NORMAL_95 > WIDEST else error)
