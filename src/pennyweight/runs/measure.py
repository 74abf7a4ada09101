"""A saved classifier measured once more, on other labelled texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data.file_options import AS_NAMED, FileOptions
from ..data.load import LabelRenamer, apply_unknown_labels, describe_labels, read_labelled
from ..data.table import Table
from ..evaluate.evaluation import Judgement, Part, intervals, slices
from ..evaluate.metrics.calibration import calibrate, softmax
from ..evaluate.metrics.ordinal import ordinal
from ..evaluate.metrics.shift import ROWS, Shift, check_names
from ..evaluate.metrics.single_label import score
from ..evaluate.report.content import page
from ..evaluate.report.html import write_html
from ..evaluate.report.text_tables import several_table, text_table
from ..evaluate.row_predictions import answers
from ..evaluate.several_evaluation import SeveralJudgement, measure_part
from ..predict.predictor import Classifier
from .robustness import refuse_several, shift


@dataclass(frozen=True)
class Measured:
    """What a classifier reached on given texts; `notes` says what was decided about their labels."""

    classifier: Classifier
    judgement: Judgement | SeveralJudgement
    shift: Shift | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The figures, with intervals, calibration and slices, in the form of metrics.json's `test`."""
        found = self.judgement.to_json()
        figures: dict[str, Any] = found["test"]
        shifted = {} if self.shift is None else {"shift": self.shift.to_json()}
        notes = {"notes": list(self.notes)} if self.notes else {}
        return (
            notes
            | figures
            | {key: found[key] for key in ("calibration", "thresholds", "slices") if key in found}
            | shifted
        )

    def write(self, path: str | Path) -> None:
        """Write a report of these texts; baselines are left out, since their training rows are not at hand."""
        write_html(path, replace(page(self.judgement, self.classifier.artifact), shift=self.shift))

    def __str__(self) -> str:
        if isinstance(self.judgement, SeveralJudgement):
            lines = [several_table(self.judgement.metrics)]
        else:
            lines = [text_table(self.judgement.metrics)]
            lines += ["", str(self.judgement.ordinal)] if self.judgement.ordinal else []
        lines = [*self.notes, *([""] if self.notes else []), *lines]
        for name, rows in self.judgement.slices.items():
            width = max(len(row.name) for row in rows)
            lines += ["", f"by {name}"]
            lines += [
                f"  {row.name:<{width}}  {100 * row.accuracy:5.1f}%  "
                f"({100 * row.interval[0]:.1f} to {100 * row.interval[1]:.1f})  {row.n:,} texts"
                for row in rows
            ]
        if self.shift is not None:
            lines += ["", str(self.shift)]
        return "\n".join(lines)


def measure(
    classifier: Classifier,
    data: Any,
    *,
    split: str = "test",
    slices_by: Sequence[str] | None = None,
    severities: Sequence[int] = (),
    ood: Any = None,
    rows: int | None = ROWS,
    unknown: str = "error",
    label_map: Mapping[str, str] | None = None,
    options: FileOptions = AS_NAMED,
) -> Measured:
    """Measure a classifier on labelled texts, with the temperature it was saved with.

    Args:
        data: a path, a `Table`, or anything `pennyweight.train` takes.
        slices_by: columns to slice by; None for every column with few values.
        severities, ood, rows: corruptions and another source, as for `reporting.shift.shift`; none if not given.
        unknown: rows with a label that is no class: `error`, `drop` leaves them out, `wrong` counts them as wrong
            answers in the accuracy (the exact match) and leaves them out of all other figures.
        label_map: what labels in the data are called, label to class name.
        options: encoding and header of the files, where their content does not say.

    Raises:
        DataError: when the data cannot be read, a label is unknown, or there is no such column.
    """
    if severities:
        check_names(None, severities)  # before anything is computed
    if classifier.multi and (severities or ood is not None):
        refuse_several()
    renamer = LabelRenamer(label_map)
    # Another map takes the place of the training's.
    input_spec = classifier.input_spec if label_map is None else classifier.input_spec.changed(label_map={})

    def read(source: Any) -> tuple[Table, int, tuple[str, ...]]:
        found = renamer.rename(read_labelled(input_spec, source, split=split, options=options)[0])
        known, gone, notes = apply_unknown_labels(classifier.artifact.labels, found, unknown)
        return known, gone, (*describe_labels(classifier.artifact.labels, known), *notes)

    table, gone, notes = read(data)
    other, other_gone, said = (None, 0, ()) if ood is None else read(ood)
    renamer.check()
    notes += said
    counted = unknown == "wrong"
    tokens = classifier.tokens(table.texts)
    part = Part(table, tokens, classifier.artifact.labels.encode(table), gone if counted else 0)
    if classifier.multi:
        return Measured(classifier, measure_part(classifier, part, slices_by), notes=notes)
    judgement = _judgement(classifier, part, slices_by)
    found = None
    if severities or other is not None:
        found = shift(
            classifier, table, severities=severities, ood=other, rows=rows, ood_unknown=other_gone if counted else 0
        )
    return Measured(classifier, judgement, found, notes)


def _judgement(classifier: Classifier, part: Part, slices_by: Sequence[str] | None) -> Judgement:
    """Every figure of one label a text, with the temperature the classifier was saved with."""
    logits = classifier.logits_of(part.tokens)
    probabilities = softmax(logits, classifier.temperature)
    metrics = score(part.labels, probabilities, classifier.labels).with_unknown(part.unknown)
    return Judgement(
        name="test",
        part=part,
        probabilities=probabilities,
        metrics=metrics,
        intervals=intervals(part.labels, probabilities, metrics),
        calibration=calibrate(
            part.labels, logits, classifier.temperature, classifier.metrics.get("calibration", {}).get("not_fitted")
        ),
        validation=metrics,
        answers={"test": answers(part.table.texts, part.labels, probabilities)},
        slices=slices(part, probabilities, slices_by),
        ordinal=ordinal(metrics) if classifier.artifact.recipe.data.ordinal else None,
    )
