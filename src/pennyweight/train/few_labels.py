"""Few labels: frozen head or contrastive phase, chosen by cross-validation, in place of the training loop.

With some dozens of texts per class or fewer, a handful of held-back rows says nothing and a head trained by gradient
steps stays behind logistic regression. So a few whole ways of training are compared on halves of the training rows, and
the best of them is repeated on all of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..budget.plan import Plan
from ..data.batching import Encoded, join
from ..errors import RecipeError
from ..evaluate.metrics.calibration import choose_temperature
from ..model.classifier import Pooled
from ..model.inference import Feed, evaluating, logits
from ..model.text_model import TextModel
from ..model.trainable import check_count, trainable
from ..recipe.schema import Recipe, TrainRecipe
from .contrastive import train_contrastive, upper_half
from .few_label_trials import Trial, best_or_usual, choose_trial, halves, in_words
from .frozen_features import FrozenBackbone
from .frozen_head import leaves_adapter_open
from .logistic_head import cross_entropy, fit_logistic_head
from .state import FitResult
from .validator import make_validator

logger = logging.getLogger(__name__)

ROWS_A_CLASS = 64  # on average; with more of them the training loop is ahead
STEPS = (20, 60)  # of the contrastive phase; more of them fit the texts, and not the classes
FEWEST_FOR_MORE_STEPS = 12  # rows per class, on average
DESCRIBED_ROWS_A_CLASS = 8  # on average; of more texts each description is one of many
UNTRIED_STRENGTH = 0.1  # where no row can be held out: the best of four on such draws, see docs/log.md
FROZEN_STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # inverse, of the penalty on vectors of about unit length
TRAINED_STRENGTHS = (1.0, 10.0)
USUAL_STRENGTH = 1.0  # the best on most draws, see docs/log.md
FROZEN_WON = "cross-validation found the adapter no better than the frozen backbone: the head alone is kept"
NO_PHASE = "few labels, and texts in windows have no contrastive phase: the head alone is trained"
# Who sets one of these means the training loop.
LOOP_SETTINGS = (
    "epochs", "max_steps", "batch_size", "gradient_accumulation_steps", "learning_rate", "weight_decay", "scheduler",
    "num_cycles", "warmup_ratio", "warmup_steps", "class_weights", "oversample", "label_smoothing", "eval_steps",
    "early_stopping_patience", "augment", "lp_ft", "average", "teacher", "start_from", "max_grad_norm", "adam_beta1",
    "adam_beta2", "adam_epsilon", "r_drop",
)  # fmt: skip


@dataclass(frozen=True)
class FewLabels:
    """The result of training on few labels; the weights are in the model.

    Attributes:
        plan: the plan, or the plan of the head alone if the frozen backbone won.
        result: as the training loop's, with what was compared.
    """

    plan: Plan
    result: FitResult


@dataclass
class FewLabelTrainer:
    """All that a candidate is trained from.

    Args:
        text_model: its model as it was built; its pooling becomes the mean.
        source: training batches: token ids, or a prefix where the plan has an adapter.
        tokens: the training texts, and behind them the descriptions.
        labels: (N,) class numbers below `n_labels`, of both.
        frozen: the model's backbone.
        described: number of descriptions, which are learnt from but never held out; 0 for none.
        metric: what candidates are compared by.

    Attributes:
        texts: seen by the contrastive phase so far, repeats included.
    """

    text_model: TextModel
    source: Feed
    tokens: Encoded
    labels: np.ndarray
    n_labels: int
    frozen: FrozenBackbone
    seed: int
    described: int = 0
    metric: str = "accuracy"
    texts: int = 0
    initial: dict[str, torch.Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.text_model.model.pooling = "mean"
        self.initial = {name: each.detach().clone() for name, each in self._adapter().items()}

    def features(self, steps: int, rows: np.ndarray) -> np.ndarray:
        """(N, H) of all texts, after a contrastive phase of `steps` on some rows; the model keeps what was trained."""
        model = self.text_model.model
        with torch.no_grad():
            for name, parameter in self._adapter().items():
                parameter.copy_(self.initial[name])
        if not steps:
            return self.frozen.features(self.tokens)
        lengths = self.tokens.lengths
        self.texts += train_contrastive(model, self.source, self.labels, lengths, rows, steps=steps, seed=self.seed)
        with evaluating(model):
            size, bucket = self.text_model.batch_size, self.text_model.bucket
            return logits(Pooled(model), self.source, lengths, batch_size=size, bucket=bucket)

    @property
    def texts_alone(self) -> int:
        """N without the descriptions."""
        return len(self.labels) - self.described

    def trials(self, counts: Sequence[int]) -> list[Trial]:
        """The frozen backbone and contrastive phases of these lengths, with descriptions where these help the first."""
        if not halves(self.labels[: self.texts_alone], self.seed):
            return [self.untried()]
        plain = self.trial(0)
        described = self.trial(0, described=True) if self.described else plain
        used = described.rank > plain.rank
        if self.described:
            better = "learnt from" if used else "left out"
            by = "macro_f1" if self.metric == "macro_f1" else "accuracy"
            shares = [f"{100 * each.record[by]:.1f}%" for each in (described, plain)]
            logger.info(
                f"few labels: descriptions of the classes are {better}: "
                f"{'macro F1 ' if by == 'macro_f1' else ''}{shares[0]} with them, {shares[1]} without"
            )
        return [described if used else plain, *(self.trial(steps, described=used) for steps in counts)]

    def untried(self) -> Trial:
        """The frozen backbone where no row can be held out: with the descriptions, if there are any."""
        nothing = np.empty((0, self.n_labels)), np.empty(0, dtype=np.int64)
        return Trial(0, UNTRIED_STRENGTH, *nothing, bool(self.described), self.metric)

    def trial(self, steps: int, *, described: bool = False) -> Trial:
        """A candidate, measured on rows that it was not trained on.

        Args:
            described: whether it learns from the descriptions, too.
        """
        strengths = TRAINED_STRENGTHS if steps else FROZEN_STRENGTHS
        found: dict[float, list[np.ndarray]] = {strength: [] for strength in strengths}
        rows = []
        further = np.arange(self.texts_alone, len(self.labels)) if described else np.empty(0, dtype=np.int64)
        for kept, held in halves(self.labels[: self.texts_alone], self.seed):
            kept = np.concatenate([kept, further])
            features = self.features(steps, kept)
            rows.append(held)
            for strength in strengths:
                head = fit_logistic_head(features[kept], self.labels[kept], self.n_labels, strength)
                found[strength].append(head.logits(features[held]))
        labels = self.labels[np.concatenate(rows)]
        trials = {
            strength: Trial(steps, strength, np.concatenate(parts), labels, described, self.metric)
            for strength, parts in found.items()
        }
        return best_or_usual(trials[USUAL_STRENGTH], list(trials.values()))

    def fit(self, chosen: Trial) -> float:
        """Train the chosen candidate on all rows, its head calibrated on the held-out ones; the mean cross-entropy."""
        rows = np.arange(len(self.labels) if chosen.described else self.texts_alone)
        features, labels = self.features(chosen.steps, rows)[rows], self.labels[rows]
        head = fit_logistic_head(features, labels, self.n_labels, chosen.strength)
        if len(chosen.labels):
            head = head.scaled(1 / choose_temperature(chosen.logits, chosen.labels).value)
        head.put_into(self.text_model.model.head)
        return cross_entropy(head.logits(features), labels)

    def _adapter(self) -> dict[str, torch.nn.Parameter]:
        return trainable(self.text_model.model.module)


def fit_few_labels(
    text_model: TextModel,
    plan: Plan,
    tokens: Mapping[str, Encoded],
    labels: Mapping[str, np.ndarray],
    names: Sequence[str],
    frozen: FrozenBackbone,
    descriptions: Sequence[str] = (),
) -> FewLabels | None:
    """Compare the candidates, choose one, and train it on all training rows; None if the training loop is meant.

    Args:
        text_model, plan: as they were built, and as planned.
        tokens, labels: by split; validation rows are measured, and choose nothing.
        names: L class names.
        frozen: the model's backbone, and the recipe.
        descriptions: of each class; empty for none.

    Raises:
        RecipeError: the contrastive phase was asked for where it cannot be.
        BudgetError: the model has another number of trainable parameters than the plan.
    """
    settings, in_windows = frozen.recipe.train, tokens["train"].windows is not None
    suits = suits_few_labels(settings, plan, labels["train"], len(names), frozen.group.size)
    if not suits or (in_windows and keeps_adapter(frozen)):
        _say_unused_descriptions(frozen.recipe, "training runs in epochs")
        return None
    began = time.perf_counter()
    _say_unused_dropout(frozen.recipe)
    model, rows = text_model.model, len(labels["train"])
    check_count(model, plan.count.trainable)
    feeds = {name: text_model.batches(each) for name, each in tokens.items()}
    texts, truth = tokens["train"], labels["train"]
    if _uses_descriptions(text_model.pair, rows / len(names), frozen.recipe) and descriptions:
        texts = join(texts, text_model.encode(descriptions))
        truth = np.concatenate([truth, np.arange(len(descriptions))])
    train = text_model.batches(texts)
    has_phase = plan.adapter is not None and not in_windows
    source = upper_half(model, train) if has_phase else train
    options = settings.seed, len(truth) - rows, settings.metric
    trainer = FewLabelTrainer(text_model, source, texts, truth, len(names), frozen, *options)
    trials = trainer.trials(steps_for(rows / len(names)) if has_phase else ())
    for trial in trials:
        logger.info(f"few labels: {trial.name}: {trial.score}")
    chosen = choose_trial(trials, forced=settings.contrastive == "on")
    loss = trainer.fit(chosen)
    logger.info(f"few labels: {chosen.name}, trained on all {rows:,} rows")
    left, why = plan, NO_PHASE if in_windows else FROZEN_WON
    if plan.adapter is not None and not chosen.steps:
        left = model.drop_adapter(plan, len(names), frozen.backbone.config, why)
    model.eval()
    seconds = time.perf_counter() - began
    record: dict[str, Any] = {"step": chosen.steps, "epoch": 1.0, "train_loss": loss, "learning_rate": 0.0}
    validate = make_validator(text_model, feeds.get("validation"), tokens, labels, names)
    scores = {} if validate is None else validate()
    record |= {"validation_loss" if key == "loss" else key: value for key, value in scores.items()}
    choice = {"chosen": chosen.name, "candidates": [trial.to_json() for trial in trials]}
    made = trainer.texts, seconds, chosen.steps
    return FewLabels(left, FitResult([record], record, *made, few_labels=choice, remark=in_words(trials, chosen)))


def suits_few_labels(settings: TrainRecipe, plan: Plan, labels: np.ndarray, n_labels: int, processes: int = 1) -> bool:
    """Whether to train by `fit_few_labels` rather than by the training loop.

    Args:
        labels: (N,) class numbers, or (N, L) of 0 and 1, of the training rows.
        processes: number of them that train together.

    Raises:
        RecipeError: it was asked for where it cannot be.
    """
    if settings.contrastive == "off":
        return False
    problem = _problem(plan, labels, processes)
    fewest = int(np.bincount(labels, minlength=n_labels).min()) if labels.ndim == 1 else 0
    if settings.contrastive == "on":
        if problem is None and fewest < 2:
            problem = "at least two training rows of each class", f"{fewest} of the smallest"
        if problem is not None:
            expected, received = problem
            raise RecipeError(
                "the contrastive phase cannot be used", where="train -> contrastive", expected=expected,
                received=received, remedy="use --contrastive off",
            )  # fmt: skip
        return True
    fields = type(settings).model_fields
    by_loop = any(getattr(settings, key) != fields[key].default for key in LOOP_SETTINGS)
    return problem is None and not by_loop and len(labels) <= ROWS_A_CLASS * n_labels


def keeps_adapter(frozen: FrozenBackbone) -> bool:
    """Whether the recipe asks for an adapter: it sets a field of it, or excludes the frozen head."""
    recipe = frozen.recipe
    return recipe.train.frozen_head == "off" or not leaves_adapter_open(recipe.plan)


def _say_unused_dropout(recipe: Recipe) -> None:
    usual = Recipe().dropouts()
    for name, value in recipe.dropouts().items():
        if value not in (0, usual[name]):
            logger.info(
                f"few labels: {name} {value:g} has no effect, because training uses no dropout here "
                "(--contrastive off trains in epochs, with dropout)"
            )


def _uses_descriptions(pair: bool, rows_a_class: float, recipe: Recipe) -> bool:
    """Whether descriptions of the classes are learnt from; if not, and a file of them was given, the log says why."""
    if pair:
        _say_unused_descriptions(recipe, "the texts are pairs")
    elif rows_a_class > DESCRIBED_ROWS_A_CLASS:
        _say_unused_descriptions(recipe, f"there are more than {DESCRIBED_ROWS_A_CLASS} training texts per class")
    else:
        return True
    return False


def _say_unused_descriptions(recipe: Recipe, why: str) -> None:
    if recipe.data.label_descriptions is not None:
        logger.info(f"--label-descriptions has no effect, because {why}")


def _problem(plan: Plan, labels: np.ndarray, processes: int) -> tuple[str, str] | None:
    """The requirement that the contrastive phase lacks, and the value received; None if it can run."""
    if processes > 1:
        return "one process", f"{processes} that train together"
    if labels.ndim == 2:
        return "one label per text", "any number of labels per text"
    if plan.head.kind != "linear":
        return "a linear head", f"the head {plan.head.kind}"
    if plan.adapter is not None and plan.adapter.adaptive_ranks:
        return "an adapter with fixed ranks", "adaptive_ranks"
    return None


def steps_for(rows_a_class: float) -> tuple[int, ...]:
    """The lengths of contrastive phases to compare."""
    return STEPS[:1] if rows_a_class < FEWEST_FOR_MORE_STEPS else STEPS
