"""The frozen head as an alternative to the trained adapter: it is kept unless the adapter beats it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..budget.plan import Plan
from ..data.batching import Encoded, select
from ..data.sampling import sample_rows
from ..evaluate.baselines.baseline import Baseline
from ..evaluate.baselines.linear_probe import LINEAR_PROBE
from ..evaluate.metrics.bootstrap import paired_macro_f1
from ..evaluate.metrics.paired_tests import Comparison, compare
from ..evaluate.metrics.probabilities import softmax
from ..recipe.schema import PlanRecipe, TrainRecipe
from .frozen_features import MOST_ROWS, FrozenBackbone
from .inference_precision import ReadyModel
from .logistic_head import LogisticHead, cross_entropy, fit_logistic_head

logger = logging.getLogger(__name__)

STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # inverse, of the penalty on vectors of about unit length
FEWEST_TO_DECIDE = 20  # validation rows: fewer would choose by chance
# Where the paired interval is wider than this to either side, the test would miss gains that are worth having.
WIDEST = 0.025
# Who sets another field of the plan, or one of these, has asked for what the adapter gives.
FREE_PLAN_FIELDS = {"budget", "head", "head_rank", "head_dropout", "min_rank", "max_rank"}
ADAPTER_SETTINGS = ("class_weights", "oversample", "teacher", "start_from", "adapter_scale")


@dataclass(frozen=True)
class FrozenHead:
    """Logistic regression on the frozen backbone's mean embeddings, and what the adapter is against it.

    Attributes:
        head: fitted on `rows` training rows.
        strength: the inverse of its penalty, of least loss on the validation rows.
        comparison: the trained adapter (second) against this head (first), on the validation rows.
        accuracies: accuracies of head and adapter there.
        wins: whether the head is what is left.
        seconds: to compute features and fit.
    """

    head: LogisticHead
    strength: float
    comparison: Comparison
    accuracies: tuple[float, float]
    wins: bool
    rows: int
    seconds: float

    @property
    def reason(self) -> str:
        """In a sentence without a full stop, for the log, the plan and the verdict."""
        on = f"on {self.comparison.n:,} validation texts {self.comparison}"
        if self.wins:
            return f"head alone: {on}, so the adapter is not kept"
        if self.comparison.second_is_better:
            return f"adapter: {on}"
        return f"adapter: {on}, too few texts for a test; the adapter is ahead and is kept"

    @property
    def note(self) -> str:
        """A sentence for the verdict, of a classifier that is this head; otherwise empty."""
        return f"It is the frozen backbone with a linear head: {self.reason[12:]}." if self.wins else ""

    def to_json(self) -> dict[str, Any]:
        """As in metrics.json."""
        found, (head, adapter) = self.comparison, self.accuracies
        return {
            "kept": "frozen head" if self.wins else "adapter",
            "C": self.strength,
            "validation": found.n,
            "accuracy": head,
            "adapter_accuracy": adapter,
            "compared": found.figure,
            "difference": found.difference,
            "interval": list(found.interval),
            "p": found.p,
        }

    def baseline(self, frozen: FrozenBackbone, tokens: Encoded) -> Baseline:
        """The head as a baseline on other rows."""
        began = time.perf_counter()
        probabilities = softmax(self.head.logits(frozen.features(tokens)), 1.0)
        seconds = self.seconds + time.perf_counter() - began
        return Baseline(LINEAR_PROBE, probabilities, seconds, self.rows)


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
    if not is_candidate(train, plan, planned, {name: labels[name] for name in tokens if name in labels}):
        return ready, None
    n_labels = len(ready.text_model.model.head.out.bias)
    adapter = ready.text_model.logits(tokens["validation"])
    found = fit_frozen_head(frozen, tokens, labels, adapter, train.metric, train.seed)
    logger.info(found.reason)
    if not found.wins:
        return ready, found
    model = ready.text_model.model
    model.pooling = "mean"
    left = model.drop_adapter(ready.plan, n_labels, frozen.backbone.config, found.reason)
    found.head.put_into(model.head)
    frozen.release()  # until a baseline needs it: the next engine takes its memory
    return prepare(left), found


def is_candidate(train: TrainRecipe, plan: PlanRecipe, planned: Plan, labels: Mapping[str, np.ndarray]) -> bool:
    """Whether the frozen head may take the adapter's place.

    Args:
        labels: by split: (N,) class numbers, or (N, L) of 0 and 1.
    """
    if train.frozen_head == "off" or planned.adapter is None or planned.head.kind != "linear":
        return False
    if "validation" not in labels or labels["train"].ndim == 2 or len(labels["validation"]) < FEWEST_TO_DECIDE:
        return False
    if len(np.unique(labels["train"])) < 2:
        return False
    fields = TrainRecipe.model_fields
    asked = any(getattr(train, key) != fields[key].default for key in ADAPTER_SETTINGS)
    return not asked and leaves_adapter_open(plan)


def leaves_adapter_open(plan: PlanRecipe) -> bool:
    """Whether a recipe sets nothing of the adapter but the budget and the limits of its ranks."""
    default = PlanRecipe().model_dump(exclude=FREE_PLAN_FIELDS)
    return plan.model_dump(exclude=FREE_PLAN_FIELDS) == default


def fit_frozen_head(
    frozen: FrozenBackbone,
    tokens: Mapping[str, Encoded],
    labels: Mapping[str, np.ndarray],
    adapter: np.ndarray,
    metric: str,
    seed: int,
) -> FrozenHead:
    """Fit the head with the strength of least validation loss, on at most 20,000 training rows, and compare.

    Args:
        adapter: (V, L) logits of the trained model on the validation rows.
        metric: what chooses an evaluation; `macro_f1` also compares by it.
    """
    began = time.perf_counter()
    chosen = sample_rows(len(tokens["train"]), MOST_ROWS, seed)
    whole = len(chosen) == len(tokens["train"])
    features = frozen.features(tokens["train"] if whole else select(tokens["train"], chosen))
    held_out, truth = frozen.features(tokens["validation"]), labels["validation"]
    best: tuple[float, float, LogisticHead] | None = None
    for strength in STRENGTHS:
        head = fit_logistic_head(features, labels["train"][chosen], adapter.shape[1], strength)
        loss = cross_entropy(head.logits(held_out), truth)
        if best is not None and loss >= best[0]:
            break  # a weaker penalty costs the most time, and only overfits from here on
        best = loss, strength, head
    assert best is not None
    guesses = best[2].logits(held_out).argmax(axis=1), adapter.argmax(axis=1)
    names = ("the frozen head", "the adapter")
    comparison = compare(truth, *guesses, names=names)
    if metric == "macro_f1":
        gap, interval = paired_macro_f1(truth, *guesses)
        comparison = replace(
            comparison, difference=gap, interval=interval, figure="macro F1", p=None, only_first=None, only_second=None
        )
    accuracies = float((guesses[0] == truth).mean()), float((guesses[1] == truth).mean())
    seconds = time.perf_counter() - began
    return FrozenHead(best[2], best[1], comparison, accuracies, head_wins(comparison), len(chosen), seconds)


def head_wins(comparison: Comparison) -> bool:
    """Whether the first, simpler one is kept.

    The second has to be better by the paired test. Where there are so few rows that the test would miss a gain of some
    points, it is enough for it to be ahead.
    """
    if comparison.second_is_better:
        return False
    low, high = comparison.interval
    return comparison.difference <= 0 or (high - low) / 2 <= WIDEST
