"""Every figure of a run whose texts may carry any number of labels, computed once."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..predict.predictor import Classifier
from .baselines import several
from .baselines.baselines import Baseline
from .baselines.several import SeveralRow
from .evaluation import TFIDF_ROWS, Part, slices_of
from .metrics.error_analysis import Slice
from .metrics.intervals import Interval
from .metrics.multi_label import MultilabelMetrics, score_multilabel
from .metrics.thresholds import Objective, tune_thresholds
from .row_predictions import Answers, fingerprint, identities, sample

logger = logging.getLogger(__name__)

Rival = tuple[Baseline, np.ndarray]


@dataclass(frozen=True)
class SeveralJudgement:
    """What was found out about a classifier on the rows called `name`; `thresholds` (L,) are tuned on validation."""

    name: str
    part: Part
    probabilities: np.ndarray
    thresholds: np.ndarray
    objective: Objective
    metrics: MultilabelMetrics
    intervals: dict[str, Interval]
    validation: MultilabelMetrics | None
    answers: dict[str, Answers]
    baselines: tuple[SeveralRow, ...] = ()
    slices: dict[str, tuple[Slice, ...]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The parts of metrics.json that say how good the classifier is."""
        found: dict[str, Any] = {"task": "multi"}
        found |= {} if self.validation is None else {"validation": self.validation.to_json()}
        found[self.name] = self.metrics.to_json() | {
            "intervals": {key: list(ends) for key, ends in self.intervals.items()},
            "rows_sha256": fingerprint(self.answers[self.name].rows),
        }
        found["thresholds"] = {
            "values": self.thresholds.tolist(),
            "tuned_for": self.objective,
            "tuned_on": "validation" if self.validation is not None else None,
        }
        if self.baselines:
            found["verdict"] = asdict(several.verdict(self.metrics, self.intervals["micro_f1"], self.baselines))
            found["baselines"] = [_plain(row) for row in self.baselines]
        if self.slices:
            found["slices"] = {name: [asdict(row) for row in rows] for name, rows in self.slices.items()}
        return found


def _plain(row: SeveralRow) -> dict[str, Any]:
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(row).items()}
    return values | {"seconds": round(row.seconds, 3)}


def judge_several(
    classifier: Classifier, parts: Mapping[str, Part], *, rivals: Sequence[Rival] = ()
) -> SeveralJudgement:
    """Tune the thresholds on the validation rows and measure on the test rows, or on validation where there are none.

    Without validation rows every threshold is 0.5.

    Args:
        parts: `validation`, `test` or both.
        rivals: baselines on the rows that are measured, each with its probabilities on the validation rows.
    """
    began = time.perf_counter()
    held = parts.get("validation")
    objective = classifier.artifact.recipe.train.thresholds if held is not None else "fixed"
    probabilities = {
        name: classifier.probabilities_of(parts[name].tokens) for name in ("validation", "test") if name in parts
    }
    name = "test" if "test" in probabilities else "validation"
    tuned_on = "validation" if held is not None else name
    thresholds = tune_thresholds(parts[tuned_on].labels, probabilities[tuned_on], objective)
    found = {one: _figures(classifier, parts[one], probabilities[one], thresholds) for one in probabilities}
    part = parts[name]
    predicted = (probabilities[name] >= thresholds).astype(np.int64)
    answers = {one: answers_of(parts[one], probabilities[one], thresholds) for one in probabilities}
    return SeveralJudgement(
        name=name,
        part=part,
        probabilities=probabilities[name],
        thresholds=thresholds,
        objective=objective,
        metrics=found[name],
        intervals=several.f1_intervals(part.labels, predicted) | {"exact_match": found[name].exact_interval},
        validation=found.get("validation"),
        answers=answers,
        baselines=tuple(
            row.with_unknown(len(part.labels), part.unknown)
            for row in several.against(
                part.labels, predicted, rivals, part.labels[:0] if held is None else held.labels, objective
            )
        ),
        slices=slices_of(part, answers[name].labels, answers[name].predicted),
        seconds={
            "measuring": time.perf_counter() - began,
            "baselines": sum(one.seconds for one, _ in rivals),
        },
    )


def _figures(classifier: Classifier, part: Part, found: np.ndarray, thresholds: np.ndarray) -> MultilabelMetrics:
    metrics = score_multilabel(part.labels, found, classifier.labels, threshold=thresholds.tolist())
    return metrics.with_unknown(part.unknown)


def measure_part(classifier: Classifier, part: Part, columns: Sequence[str] | None = None) -> SeveralJudgement:
    """Measure a saved classifier on other rows, with the thresholds it was saved with; `columns` to slice by."""
    probabilities, thresholds = classifier.probabilities_of(part.tokens), classifier.thresholds
    metrics = _figures(classifier, part, probabilities, thresholds)
    predicted = (probabilities >= thresholds).astype(np.int64)
    answers = answers_of(part, probabilities, thresholds)
    return SeveralJudgement(
        name="test",
        part=part,
        probabilities=probabilities,
        thresholds=thresholds,
        objective=classifier.artifact.recipe.train.thresholds,
        metrics=metrics,
        intervals=several.f1_intervals(part.labels, predicted) | {"exact_match": metrics.exact_interval},
        validation=metrics,
        answers={"test": answers},
        slices=slices_of(part, answers.labels, answers.predicted, columns),
    )


def answers_of(part: Part, probabilities: np.ndarray, thresholds: np.ndarray) -> Answers:
    """What there is to keep: a row's set of labels counts as its one class, so that runs compare by exact match.

    The confidence is the chance that all decisions are right, if labels came independently.
    """
    predicted = probabilities >= thresholds  # (N, L)
    sure = np.where(predicted, probabilities, 1 - probabilities)
    return Answers(
        rows=identities(part.table.texts),
        labels=_sets(part.labels),
        predicted=_sets(predicted),
        confidence=sure.prod(axis=1).astype(np.float32),
    )


def _sets(matrix: np.ndarray) -> np.ndarray:
    """(N,) int64: one number for each set of labels, the same in every run with these labels in this order."""
    packed = np.packbits(np.asarray(matrix).astype(bool), axis=1)
    digests = (hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in packed)
    return np.array([int.from_bytes(digest, "big", signed=True) for digest in digests], dtype=np.int64)


def rivals_several(classifier: Classifier, parts: Mapping[str, Part], kind: str) -> tuple[Rival, ...]:
    """The baselines, trained on the run's own training rows.

    Args:
        parts: `train`, and `validation`, `test` or both.
        kind: `full`, or `short` for those that need no forward pass.
    """
    train, validation = parts["train"], parts.get("validation")
    rows = parts["test" if "test" in parts else "validation"]
    seed = classifier.artifact.recipe.train.seed
    logger.info(
        "baselines: commonest labels, TF-IDF + one-vs-rest logistic regression"
        + (", frozen backbone" if kind == "full" else "")
    )
    cut = (
        0 if validation is None else len(validation.labels)
    )  # every baseline answers the validation rows first: its thresholds come from there
    some = sample(len(train.labels), TFIDF_ROWS, seed)
    texts = [train.table.texts[index] for index in some.tolist()]
    asked = [*([] if validation is None else validation.table.texts), *rows.table.texts]
    found = [
        several.commonest(train.labels, len(asked)),
        several.tfidf(texts, train.labels[some], asked, seed=seed),
    ]
    if kind == "full":
        answered = [rows] if validation is None else [validation, rows]
        found.append(_frozen(classifier, train, answered, seed))
    return tuple(
        (Baseline(one.name, one.probabilities[cut:], one.seconds, one.rows), one.probabilities[:cut]) for one in found
    )


def _frozen(classifier: Classifier, train: Part, answered: Sequence[Part], seed: int) -> Baseline:
    from ..train.frozen_features import features_of

    found = features_of(classifier, train.tokens, [one.tokens for one in answered], seed)
    made = several.linear(found.train, train.labels[found.rows], found.others, seed=seed)
    return Baseline(made.name, made.probabilities, made.seconds + found.seconds, made.rows)
