"""The stage itself: what `pipeline` calls after training, and again when the run is saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.batch import Encoded
from ..data.table import Table
from ..evaluate.report import write_pictures
from ..evaluate.shift import Shift
from ..predict import Classifier
from . import shift
from .judge import Judgement, Part, judge, rivals
from .page import write_report
from .several import SeveralJudgement, judge_several, rivals_several

SEVERITIES = (1, 3, 5)


class Report:
    """A run's judgement in the making.

    Args:
        kind: `full` or `short` as the recipe's `report` says, `none` where nothing will be written.
    """

    def __init__(
        self,
        classifier: Classifier,
        tables: Mapping[str, Table],
        tokens: Mapping[str, Encoded],
        labels: Mapping[str, np.ndarray],
        kind: str,
        say: Callable[[str], None],
    ) -> None:
        self.parts = {name: Part(tables[name], tokens[name], labels[name]) for name in tables}
        self.classifier = classifier
        self.artifact = classifier.artifact
        self.shift: Shift | None = None
        self.judgement: Judgement | SeveralJudgement
        if classifier.multi:
            several = rivals_several(classifier, self.parts, kind, say) if kind != "none" else ()
            self.judgement = judge_several(classifier, self.parts, rivals=several)
        else:
            beaten = rivals(classifier, self.parts, kind, say) if kind != "none" else ()
            self.judgement = judge(classifier, self.parts, rivals=beaten)
        self.artifact.answers = {
            key: rows for name, each in self.judgement.answers.items() for key, rows in each.to_arrays(name).items()
        }

    def to_json(self, training: float, tokenizing: float) -> dict[str, Any]:
        """The figures for metrics.json, with the seconds each part of the run took."""
        spent = {
            "training": training,
            "tokenizing": tokenizing,
            "baselines": self.judgement.seconds["baselines"],
            "measuring": self.judgement.seconds["measuring"],
        }
        return self.judgement.to_json() | {"seconds": {name: round(value, 3) for name, value in spent.items()}}

    def under_shift(self, corrupted: bool, ood: Table | None) -> None:
        """Measure corrupted texts of the test (else the validation) rows and another file, if either is asked for.

        Goes into the artifact's metrics, and into report.html.
        """
        if corrupted or ood is not None:
            part = self.judgement.part
            self.shift = shift.shift(self.classifier, part.table, severities=SEVERITIES if corrupted else (), ood=ood)
            self.artifact.metrics["shift"] = self.shift.to_json() | {"measured_on": self.judgement.name}

    def write(self, folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
        """Write report.html and the pictures into the run's folder."""
        if isinstance(self.judgement, SeveralJudgement):
            write_pictures(folder / "report", None, history)
        else:
            write_pictures(folder / "report", self.judgement.metrics, history)
        write_report(folder / "report.html", self.judgement, self.artifact, self.parts, folder=folder, shift=self.shift)
