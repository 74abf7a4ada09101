"""The stage itself: what `pipeline` calls after training, and again when the run is saved."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.batching import Encoded
from ..data.table import Table
from ..evaluate.report.text_tables import write_pictures
from ..evaluate.metrics.shift import Shift
from ..evaluate.metrics.thresholds import FIXED
from ..predict.predictor import Classifier
from . import robustness as shift
from ..evaluate.evaluation import Judgement, Part, judge, rivals
from ..evaluate.report.content import write_report
from ..evaluate.several_evaluation import SeveralJudgement, judge_several, rivals_several

logger = logging.getLogger(__name__)

SEVERITIES = (1, 3, 5)


class Report:
    """A run's judgement in the making.

    Args:
        tables, tokens, labels: by name: `train`, and `validation`, `test`, both or none of them.
        kind: `full` or `short` as the recipe's `report` says, `none` where nothing will be written.
        unknown: by name of a table, its further rows that count as wrong answers.

    Attributes:
        judgement: None where there are neither test nor validation rows.
    """

    def __init__(
        self,
        classifier: Classifier,
        tables: Mapping[str, Table],
        tokens: Mapping[str, Encoded],
        labels: Mapping[str, np.ndarray],
        kind: str,
        unknown: Mapping[str, int] | None = None,
    ) -> None:
        self.unknown = unknown or {}
        self.parts = {
            name: Part(tables[name], tokens[name], labels[name], self.unknown.get(name, 0)) for name in tables
        }
        self.classifier = classifier
        self.artifact = classifier.artifact
        self.shift: Shift | None = None
        self.judgement: Judgement | SeveralJudgement | None = None
        if self.parts.keys() == {"train"}:
            logger.info("nothing is measured: no rows were held out, and there are no test texts")
        elif classifier.multi:
            several = rivals_several(classifier, self.parts, kind) if kind != "none" else ()
            self.judgement = judge_several(classifier, self.parts, rivals=several)
        else:
            beaten = rivals(classifier, self.parts, kind) if kind != "none" else ()
            self.judgement = judge(classifier, self.parts, rivals=beaten)
        self.artifact.answers = {
            key: rows
            for name, each in (self.judgement.answers if self.judgement else {}).items()
            for key, rows in each.to_arrays(name).items()
        }

    def to_json(self, training: float, tokenizing: float) -> dict[str, Any]:
        """The figures for metrics.json, with the seconds each part of the run took."""
        measured = {"baselines": 0.0, "measuring": 0.0} if self.judgement is None else self.judgement.seconds
        spent = {
            "training": training,
            "tokenizing": tokenizing,
            "baselines": measured["baselines"],
            "measuring": measured["measuring"],
        }
        figures = _nothing(self.classifier) if self.judgement is None else self.judgement.to_json()
        return figures | {"seconds": {name: round(value, 3) for name, value in spent.items()}}

    def under_shift(self, corrupted: bool, ood: Table | None) -> None:
        """Measure corrupted texts of the test (else the validation) rows and another file, if either is asked for.

        Goes into the artifact's metrics, and into report.html.
        """
        if self.judgement is not None and (corrupted or ood is not None):
            part = self.judgement.part
            self.shift = shift.shift(
                self.classifier, part.table, severities=SEVERITIES if corrupted else (), ood=ood,
                ood_unknown=self.unknown.get("ood", 0),
            )  # fmt: skip
            self.artifact.metrics["shift"] = self.shift.to_json() | {"measured_on": self.judgement.name}

    def write(self, folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
        """Write report.html and the pictures into the run's folder; only the curves where nothing was measured."""
        if self.judgement is None:
            write_pictures(folder / "report", None, history)
            return
        if isinstance(self.judgement, SeveralJudgement):
            write_pictures(folder / "report", None, history)
        else:
            write_pictures(folder / "report", self.judgement.metrics, history)
        write_report(folder / "report.html", self.judgement, self.artifact, self.parts, folder=folder, shift=self.shift)


def _nothing(classifier: Classifier) -> dict[str, Any]:
    """What metrics.json says of a classifier that was not measured; it is served with these values."""
    if not classifier.multi:
        return {}
    return {
        "task": "multi",
        "thresholds": {"values": [FIXED] * len(classifier.labels), "tuned_for": "fixed", "tuned_on": None},
    }
