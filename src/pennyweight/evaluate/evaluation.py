"""Every figure of a run, computed once: what metrics.json, the report and the model card all draw on."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..data.batching import Encoded
from ..data.columns import is_id_name
from ..data.table import Table
from ..errors import DataError
from ..predict.predictor import Classifier
from .baselines import baselines
from .baselines.verdict import BaselineRow, against, verdict
from .metrics.bootstrap import ece_interval, log_loss_interval, macro_f1_interval
from .metrics.calibration import Calibration, calibrate, choose_temperature, softmax
from .metrics.error_analysis import Slice, by_column, by_number
from .metrics.ordinal import Ordinal, ordinal
from .metrics.selective import Threshold, answered, threshold_for
from .metrics.single_label import Metrics, score
from .row_predictions import Answers, answers, fingerprint, sample

# Past these a linear model learns nothing more, and a baseline should cost seconds.
TFIDF_ROWS = 200_000
# Accuracies to abstain for, shown in every report; the first within reach is drawn out.
TARGETS = (0.9, 0.95, 0.98, 0.99)
MOST_VALUES = 20
LEAST_ROWS = 4

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """Labelled rows as a run holds them: N texts, their ids and their class numbers (N,).

    `unknown` further rows, with labels that are no classes, count as wrong answers.
    """

    table: Table
    tokens: Encoded
    labels: np.ndarray
    unknown: int = 0


@dataclass(frozen=True)
class Judgement:
    """What was found out about a classifier on the rows called `name`; probabilities carry the temperature."""

    name: str
    part: Part
    probabilities: np.ndarray
    metrics: Metrics
    intervals: dict[str, tuple[float, float]]
    calibration: Calibration
    validation: Metrics | None
    answers: dict[str, Answers]
    baselines: tuple[BaselineRow, ...] = ()
    slices: dict[str, tuple[Slice, ...]] = field(default_factory=dict)
    thresholds: dict[float, tuple[Threshold, Threshold | None]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    ordinal: Ordinal | None = None

    def to_json(self) -> dict[str, Any]:
        """The parts of metrics.json that say how good the classifier is."""
        found: dict[str, Any] = {} if self.validation is None else {"validation": self.validation.to_json()}
        found[self.name] = self.metrics.to_json() | {
            "intervals": {key: list(ends) for key, ends in self.intervals.items()},
            "rows_sha256": fingerprint(self.answers[self.name].rows),
        }
        if self.ordinal is not None:
            found[self.name]["ordinal"] = self.ordinal.to_json()
        found["calibration"] = {
            "temperature": self.calibration.temperature,
            "fitted_on": "validation" if "validation" in self.answers else None,
            "not_fitted": self.calibration.reason,
            "measured_on": self.name,
            "ece_before": self.calibration.ece_before,
            "ece_after": self.calibration.ece_after,
        }
        if self.baselines:
            found["verdict"] = asdict(verdict(self.metrics, self.baselines))
            found["baselines"] = [_baseline(row) for row in self.baselines]
        if self.slices:
            found["slices"] = {name: [asdict(row) for row in rows] for name, rows in self.slices.items()}
        if self.thresholds:
            found["abstention"] = [
                {"target": target, "picked": asdict(picked), self.name: on_rows and asdict(on_rows)}
                for target, (picked, on_rows) in self.thresholds.items()
            ]
        return found


def _baseline(row: BaselineRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "rows": row.rows,
        "accuracy": row.accuracy,
        "accuracy_interval": list(row.accuracy_interval),
        "macro_f1": row.macro_f1,
        "seconds": round(row.seconds, 3),
        "difference": row.comparison.difference,
        "difference_interval": list(row.comparison.interval),
        "p": row.comparison.p,
    }


def judge(classifier: Classifier, parts: Mapping[str, Part], *, rivals: Sequence[baselines.Baseline] = ()) -> Judgement:
    """Measure a classifier on its test rows, or on the validation rows where there are none.

    The temperature is chosen on the validation rows, whatever the classifier's own is; without such rows it is 1, and
    there is no threshold to abstain at.

    Args:
        parts: `validation`, `test` or both.
        rivals: baselines' probabilities on the rows that are measured.
    """
    began = time.perf_counter()
    names = classifier.labels
    logits = {name: classifier.logits_of(parts[name].tokens) for name in ("validation", "test") if name in parts}
    held = parts.get("validation")
    nothing = np.empty((0, len(names)), np.float32), np.empty(0, np.int64)
    temperature = choose_temperature(*(nothing if held is None else (logits["validation"], held.labels)))
    probabilities = {name: softmax(values, temperature.value) for name, values in logits.items()}
    name = "test" if "test" in logits else "validation"
    part, answered_rows = parts[name], probabilities[name]
    measured = {
        one: score(parts[one].labels, found, names).with_unknown(parts[one].unknown)
        for one, found in probabilities.items()
    }
    kept = {one: answers(parts[one].table.texts, parts[one].labels, probabilities[one]) for one in probabilities}
    return Judgement(
        name=name,
        part=part,
        probabilities=answered_rows,
        metrics=measured[name],
        intervals=intervals(part.labels, answered_rows, measured[name]),
        calibration=calibrate(part.labels, logits[name], temperature.value, temperature.reason),
        validation=measured.get("validation"),
        answers=kept,
        baselines=tuple(row.with_unknown(part.unknown) for row in against(part.labels, answered_rows, rivals)),
        slices=slices(part, answered_rows),
        thresholds={}
        if held is None
        else _thresholds(held.labels, probabilities["validation"], part.labels, answered_rows),
        seconds={"measuring": time.perf_counter() - began, "baselines": sum(one.seconds for one in rivals)},
        ordinal=ordinal(measured[name]) if classifier.artifact.recipe.data.ordinal else None,
    )


def intervals(labels: np.ndarray, probabilities: np.ndarray, metrics: Metrics) -> dict[str, tuple[float, float]]:
    """95% intervals of the headline figures, by their names in `Metrics.to_json`."""
    return {
        "accuracy": metrics.accuracy_interval,
        "macro_f1": macro_f1_interval(metrics),
        "log_loss": log_loss_interval(labels, probabilities),
        "ece": ece_interval(labels, probabilities),
    }


def slices(part: Part, probabilities: np.ndarray, columns: Sequence[str] | None = None) -> dict[str, tuple[Slice, ...]]:
    """Accuracy by length, and by each column named, else by every column with 2 to 20 different values of
    at least four rows on average, ids aside.

    Raises:
        DataError: for a column the rows do not have.
    """
    return slices_of(part, part.labels, probabilities.argmax(axis=1), columns)


def slices_of(
    part: Part, labels: np.ndarray, predicted: np.ndarray, columns: Sequence[str] | None = None
) -> dict[str, tuple[Slice, ...]]:
    """As `slices`, of labels and predictions (N,) that are right where they are equal."""
    found = {"length in tokens": by_number(labels, predicted, part.tokens.lengths, "tokens")}
    extras = part.table.extras
    for name in columns if columns is not None else extras:
        if name not in extras:
            raise DataError(
                f"there is no column {name!r} to slice by",
                where=part.table.source,
                expected=", ".join(extras) or "a file with further columns",
            )
        values = len({str(value) for value in extras[name]})
        # A slice of a text or two says nothing: ids and dates are none, unless they are asked for.
        few = 2 <= values <= MOST_VALUES and values * LEAST_ROWS <= len(labels) and not is_id_name(name)
        if columns is not None or few:
            found[name] = by_column(labels, predicted, extras[name])
    return found


def _thresholds(
    labels: np.ndarray, probabilities: np.ndarray, rows: np.ndarray, on_rows: np.ndarray
) -> dict[float, tuple[Threshold, Threshold | None]]:
    found = {}
    for target in TARGETS:
        try:
            picked = threshold_for(labels, probabilities, target)
        except DataError:  # out of reach on these rows: then there is nothing to show for it
            continue
        found[target] = picked, answered(rows, on_rows, picked.value)
    return found


def rivals(classifier: Classifier, parts: Mapping[str, Part], kind: str) -> tuple[baselines.Baseline, ...]:
    """The baselines, trained on the run's own training rows.

    Args:
        parts: `train`, and the rows to answer: `test`, else `validation`.
        kind: `full`, or `short` for those that need no forward pass.
    """
    train, rows = parts["train"], parts["test" if "test" in parts else "validation"]
    count = len(classifier.labels)
    seed = classifier.artifact.recipe.train.seed
    logger.info(
        "baselines: majority class, TF-IDF + logistic regression" + (", frozen backbone" if kind == "full" else "")
    )
    some = sample(len(train.labels), TFIDF_ROWS, seed)
    texts = [train.table.texts[index] for index in some.tolist()]
    found = [
        baselines.majority(train.labels, len(rows.labels), count),
        baselines.tfidf(texts, train.labels[some], rows.table.texts, count, seed=seed),
    ]
    if kind == "full":
        found.append(_frozen(classifier, train, rows, count, seed))
    return tuple(found)


def _frozen(classifier: Classifier, train: Part, rows: Part, count: int, seed: int) -> baselines.Baseline:
    from ..train.frozen_features import features_of

    found = features_of(classifier, train.tokens, [rows.tokens], seed)
    made = baselines.linear(found.train, train.labels[found.rows], found.others, count, seed=seed)
    return baselines.Baseline(made.name, made.probabilities, made.seconds + found.seconds, made.rows)
