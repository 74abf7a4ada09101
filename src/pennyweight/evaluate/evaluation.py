"""Every figure of a classifier on labelled rows, computed once: metrics.json, the report and the model card show it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from ..data.table import listed
from ..errors import DataError
from .baselines.baseline import Baseline
from .baselines.comparison import BaselineRow, compare_with_baselines
from .baselines.verdict import Verdict, verdict
from .labelled_rows import LabelledRows
from .metrics.bootstrap import confidence_intervals
from .metrics.calibration import Calibration, Temperature, calibrate, choose_temperature
from .metrics.classification import Metrics, score
from .metrics.intervals import Interval
from .metrics.ordinal import Ordinal, ordinal
from .metrics.probabilities import sigmoid, softmax
from .metrics.selective import Threshold, answered, threshold_for
from .metrics.thresholds import FIXED, Objective, Target, decide, out_of_reach, tune_thresholds
from .row_predictions import RowPredictions, fingerprint, row_predictions
from .slices import Slice, slice_rows

logger = logging.getLogger(__name__)

# Accuracies to abstain for, shown in every report; the first within reach is drawn out.
TARGETS = (0.9, 0.95, 0.98, 0.99)


@dataclass(frozen=True)
class LabelThresholds:
    """The probability from which each of L labels is given, `values` (L,), and what they were tuned for and on.

    `not_reached` names the labels whose precision could not be reached on the rows they were tuned on.
    """

    values: np.ndarray
    tuned_for: Objective = "fixed"
    tuned_on: str | None = None
    not_reached: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values, as in metrics.json."""
        found = {"values": self.values.tolist(), "tuned_for": self.tuned_for, "tuned_on": self.tuned_on}
        return found | ({"not_reached": list(self.not_reached)} if self.not_reached else {})


@dataclass(frozen=True)
class EvaluationSettings:
    """How to evaluate.

    Attributes:
        ordinal: whether the classes have an order.
        objective: what thresholds are tuned for where a text may carry any number of labels.
        slice_columns: columns to slice by; None for every column with few values.
        temperature: the temperature of a saved classifier; None chooses one on the validation rows.
        thresholds: those of a saved classifier; None tunes them on the validation rows.
        note: a sentence on what the classifier is, for the verdict.
    """

    ordinal: bool = False
    objective: Objective = "macro_f1"
    slice_columns: Sequence[str] | None = None
    temperature: Temperature | None = None
    thresholds: LabelThresholds | None = None
    note: str = ""


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a classifier.

    Attributes:
        measured_on: `test` or `validation`, the name of `rows`, which all is about but `validation`.
        names: L class names in label order.
        probabilities: (N, L), the temperature applied.
        intervals: 95%, by the metrics' names in metrics.json.
        predictions: by name of rows: what was predicted for each.
        validation: the metrics on the validation rows, where there are any.
        calibration, ordinal, abstention: with one label per text; abstention holds for each target accuracy the
            threshold picked on the validation rows, and what it gives on the measured ones.
        thresholds: where a text may carry any number of labels.
        note: as in the settings.
    """

    measured_on: str
    rows: LabelledRows
    names: Sequence[str]
    probabilities: np.ndarray
    metrics: Metrics
    intervals: Mapping[str, Interval]
    predictions: Mapping[str, RowPredictions]
    slices: Mapping[str, tuple[Slice, ...]]
    validation: Metrics | None = None
    baselines: tuple[BaselineRow, ...] = ()
    calibration: Calibration | None = None
    ordinal: Ordinal | None = None
    abstention: Mapping[float, tuple[Threshold, Threshold | None]] = field(default_factory=dict)
    thresholds: LabelThresholds | None = None
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        """The classifier against its baselines."""
        return verdict(self.metrics, self.intervals, self.baselines).with_note(self.note)

    def to_json(self) -> dict[str, Any]:
        """The parts of metrics.json that say how good the classifier is."""
        found: dict[str, Any] = {} if self.thresholds is None else {"task": "multi"}
        if self.validation is not None:
            found["validation"] = self.validation.to_json()
        found[self.measured_on] = self.metrics.to_json() | {
            "intervals": {key: list(ends) for key, ends in self.intervals.items()},
            "rows_sha256": fingerprint(self.predictions[self.measured_on].rows),
        }
        if self.ordinal is not None:
            found[self.measured_on]["ordinal"] = self.ordinal.to_json()
        if self.calibration is not None:
            found["calibration"] = {
                "temperature": self.calibration.temperature,
                "fitted_on": "validation" if self.validation is not None else None,
                "not_fitted": self.calibration.reason,
                "measured_on": self.measured_on,
                "ece_before": self.calibration.ece_before,
                "ece_after": self.calibration.ece_after,
            }
        if self.thresholds is not None:
            found["thresholds"] = self.thresholds.to_json()
        if self.baselines:
            found["verdict"] = asdict(self.verdict)
            found["baselines"] = [row.to_json() for row in self.baselines]
        if self.slices:
            found["slices"] = {name: [asdict(row) for row in rows] for name, rows in self.slices.items()}
        if self.abstention:
            found["abstention"] = [
                {"target": target, "picked": asdict(picked), self.measured_on: measured and asdict(measured)}
                for target, (picked, measured) in self.abstention.items()
            ]
        return found


def evaluate(
    rows: Mapping[str, LabelledRows],
    logits: Mapping[str, np.ndarray],
    names: Sequence[str],
    settings: EvaluationSettings | None = None,
    baselines: Sequence[Baseline] = (),
) -> Evaluation:
    """Measure a classifier on its test rows, or on the validation rows where there are none.

    What turns logits into predictions is chosen on the validation rows: the temperature or, where a text may carry any
    number of labels, the thresholds. Without validation rows the temperature is 1 and each threshold 0.5.

    Args:
        rows: `validation`, `test` or both.
        logits: (N, L) of the same rows, by the same names.
        names: L class names in label order.
        baselines: with their probabilities on the rows that are measured.

    Raises:
        DataError: a column to slice by that the rows do not have.
    """
    settings = settings or EvaluationSettings()
    evaluation = _measure(rows, logits, names, settings)
    measured = evaluation.rows
    compared = compare_with_baselines(
        measured.labels,
        decide(evaluation.probabilities, None if evaluation.thresholds is None else evaluation.thresholds.values),
        baselines,
        validation=rows["validation"].labels if "validation" in logits else None,
        objective=settings.objective,
        unknown=measured.unknown,
    )
    return replace(evaluation, baselines=compared, note=settings.note)


def _measure(
    rows: Mapping[str, LabelledRows],
    logits: Mapping[str, np.ndarray],
    names: Sequence[str],
    settings: EvaluationSettings,
) -> Evaluation:
    """All but the baselines."""
    measured_on = "test" if "test" in logits else "validation"
    measured = rows[measured_on]
    temperature = thresholds = limits = None
    if measured.labels.ndim == 2:
        thresholds = settings.thresholds or _tune(rows, logits, names, settings.objective)
        limits = thresholds.values
        probabilities = {name: sigmoid(values) for name, values in logits.items()}
    else:
        temperature = settings.temperature or _fit(rows, logits, len(names))
        probabilities = {name: softmax(values, temperature.value) for name, values in logits.items()}
    metrics, predictions = {}, {}
    for name, found in probabilities.items():
        part = rows[name]
        metrics[name] = score(part.labels, found, names, limits).with_unknown(part.unknown)
        predictions[name] = row_predictions(part.texts, part.labels, found, limits)
    evaluation = Evaluation(
        measured_on=measured_on,
        rows=measured,
        names=names,
        probabilities=probabilities[measured_on],
        metrics=metrics[measured_on],
        intervals=confidence_intervals(measured.labels, probabilities[measured_on], metrics[measured_on]),
        predictions=predictions,
        slices=slice_rows(measured, predictions[measured_on].correct, settings.slice_columns),
        validation=metrics.get("validation"),
        thresholds=thresholds,
    )
    if temperature is None:
        return evaluation
    confusion = evaluation.metrics.confusion
    return replace(
        evaluation,
        calibration=calibrate(measured.labels, logits[measured_on], temperature.value, temperature.reason),
        ordinal=ordinal(confusion) if settings.ordinal and confusion is not None else None,
        abstention=_abstention(rows, probabilities, measured_on),
    )


def _fit(rows: Mapping[str, LabelledRows], logits: Mapping[str, np.ndarray], n_labels: int) -> Temperature:
    if "validation" not in logits:
        return choose_temperature(np.empty((0, n_labels), np.float32), np.empty(0, np.int64))
    return choose_temperature(logits["validation"], rows["validation"].labels)


def _tune(
    rows: Mapping[str, LabelledRows], logits: Mapping[str, np.ndarray], names: Sequence[str], objective: Objective
) -> LabelThresholds:
    if "validation" not in logits:
        return LabelThresholds(np.full(len(names), FIXED))
    labels, probabilities = rows["validation"].labels, sigmoid(logits["validation"])
    missed = out_of_reach(labels, probabilities, objective, names)
    if missed:
        logger.warning(
            f"thresholds: {Target.of(objective)} is out of reach on the {len(labels):,} validation texts for "
            f"{listed(missed)}; the threshold with the highest precision is used instead"
        )
    return LabelThresholds(tune_thresholds(labels, probabilities, objective), objective, "validation", missed)


def _abstention(
    rows: Mapping[str, LabelledRows], probabilities: Mapping[str, np.ndarray], measured_on: str
) -> dict[float, tuple[Threshold, Threshold | None]]:
    """Thresholds by target accuracy, picked on the validation rows, and what they give on the measured ones."""
    found: dict[float, tuple[Threshold, Threshold | None]] = {}
    for target in TARGETS if "validation" in probabilities else ():
        try:
            picked = threshold_for(rows["validation"].labels, probabilities["validation"], target)
        except DataError:  # out of reach on these rows: then there is nothing to show for it
            continue
        found[target] = picked, answered(rows[measured_on].labels, probabilities[measured_on], picked.value)
    return found


def unmeasured(names: Sequence[str], *, multi_label: bool) -> dict[str, Any]:
    """The values in metrics.json for a classifier that was not measured; it is served with them."""
    if not multi_label:
        return {}
    return {"task": "multi", "thresholds": LabelThresholds(np.full(len(names), FIXED)).to_json()}
