"""A saved classifier evaluated on other labelled texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data.cleaning import CleanReport
from ..data.cut_tokens import warn_of_cut
from ..data.file_options import AS_NAMED, FileOptions
from ..data.html_table import html_text
from ..data.input_spec import InputSpec
from ..data.load import LabelRenamer, apply_unknown_labels, describe_labels, read_labelled
from ..data.table import Table, shown
from ..errors import DataError
from ..evaluate.evaluation import Evaluation, EvaluationSettings, LabelThresholds, evaluate
from ..evaluate.labelled_rows import LabelledRows
from ..evaluate.metrics.calibration import Temperature
from ..evaluate.metrics.shift import ROWS, Shift, check_names
from ..evaluate.report.html import write_html
from ..evaluate.report.metrics_table import metrics_table
from ..evaluate.report.run_report import evaluation_report
from ..evaluate.report.text_table import text_table
from ..predict.predictor import Classifier
from .robustness import refuse_multi_label, shift


@dataclass(frozen=True)
class EvaluationData:
    """Labelled texts to evaluate a classifier on.

    Attributes:
        table: the rows whose labels are classes; `texts`: of all rows, also of those with other labels.
        unknown: further rows, left out of it, that count as wrong.
        ood: texts of another kind, or None; `ood_unknown`: as `unknown`.
        notes: what was decided about the labels, in words.
        cleaning: what the filters dropped; None for a `Table`, which is taken as it is.
    """

    table: Table
    texts: Sequence[str]
    unknown: int = 0
    ood: Table | None = None
    ood_unknown: int = 0
    notes: tuple[str, ...] = ()
    cleaning: CleanReport | None = None


def read_evaluation_data(
    classifier: Classifier,
    data: Any,
    *,
    ood: Any = None,
    input_spec: InputSpec | None = None,
    label_map: Mapping[str, str] | None = None,
    unknown_labels: str = "error",
    split: str = "test",
    options: FileOptions = AS_NAMED,
) -> EvaluationData:
    """Read labelled texts as in the classifier's training.

    Args:
        data, ood: a path, a `Table`, or anything `pennyweight.train` takes.
        input_spec: how they are read where that differs from the training's.
        label_map: what labels in the data are called, label to class name. It replaces the training's.
        unknown_labels: rows with a label that is no class: `error`, `drop` leaves them out, `wrong` counts them as
            wrong in the accuracy (the exact match) and leaves them out of all other figures.
        split: which part of a source with several.
        options: encoding and header of the files, where their content does not say.

    Raises:
        DataError: when the data cannot be read, or a label is unknown.
        RecipeError: when no label of the map occurs.
    """
    spec = input_spec or classifier.input_spec
    if label_map is not None:
        spec = spec.changed(label_map={})
    renamer, labels = LabelRenamer(label_map), classifier.artifact.labels

    def known(table: Table) -> tuple[Table, int, tuple[str, ...]]:
        found, left_out, notes = apply_unknown_labels(labels, renamer.rename(table), unknown_labels)
        return found, left_out if unknown_labels == "wrong" else 0, (*describe_labels(labels, found), *notes)

    every, cleaning = read_labelled(spec, data, split=split, options=options)
    table, unknown, notes = known(every)
    found = EvaluationData(table, every.texts, unknown, notes=notes, cleaning=cleaning)
    if ood is not None:
        other, other_unknown, said = known(read_labelled(spec, ood, split=split, options=options)[0])
        found = replace(found, ood=other, ood_unknown=other_unknown, notes=notes + said)
    renamer.check()
    return found


@dataclass(frozen=True)
class SavedEvaluation:
    """The evaluation of a saved classifier on given texts.

    Attributes:
        backbone: its name.
        notes: what was decided about the texts' labels, in words.
    """

    evaluation: Evaluation
    backbone: str
    shift: Shift | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The figures, with intervals, calibration and slices, in the form of metrics.json's `test`."""
        found = self.evaluation.to_json()
        notes = {"notes": list(self.notes)} if self.notes else {}
        parts = {key: found[key] for key in ("calibration", "thresholds", "slices") if key in found}
        shifted = {} if self.shift is None else {"shift": self.shift.to_json()}
        figures: dict[str, Any] = found["test"]
        return notes | figures | parts | shifted

    def write_report(self, path: str | Path) -> None:
        """Write a report of these texts; baselines are left out, since their training rows are not at hand."""
        write_html(path, replace(evaluation_report(self.evaluation, self.backbone), shift=self.shift))

    def _repr_html_(self) -> str:
        return html_text(str(self))

    def __str__(self) -> str:
        """The metrics as plain text, then slices, then figures under shift."""
        parts = ["\n".join(self.notes)] if self.notes else []
        parts.append(metrics_table(self.evaluation.metrics))
        parts += [str(self.evaluation.ordinal)] if self.evaluation.ordinal else []
        for name, slices in self.evaluation.slices.items():
            rows = [
                [
                    f"  {row.name}",
                    f"{100 * row.accuracy:.1f}%",
                    f"({100 * row.interval[0]:.1f} to {100 * row.interval[1]:.1f})",
                    f"{row.n:,} texts",
                ]
                for row in slices
            ]
            parts.append(f"by {name}\n{text_table([], rows)}")
        parts += [str(self.shift)] if self.shift is not None else []
        return "\n\n".join(parts)


def evaluate_saved(
    classifier: Classifier,
    data: EvaluationData,
    *,
    slice_columns: Sequence[str] | None = None,
    severities: Sequence[int] = (),
    rows: int | None = ROWS,
) -> SavedEvaluation:
    """Evaluate a classifier with the temperature or thresholds it was saved with.

    Args:
        slice_columns: columns to slice by; None for every column with few values.
        severities, rows: of corruptions, as for `robustness.shift`; none if not given.

    Raises:
        InputError: a severity that does not exist, or figures under shift where a text may carry any number of labels.
        DataError: when there is no such column to slice by.
    """
    if severities:
        check_names(None, severities)  # before anything is computed
    _refuse_label_column(data.table, slice_columns or ())
    shifted = bool(severities) or data.ood is not None
    if classifier.multi and shifted:
        refuse_multi_label()
    tokens, recipe = classifier.tokens(data.table.texts), classifier.artifact.recipe
    measured = LabelledRows.of_table(data.table, tokens, classifier.artifact.labels.encode(data.table), data.unknown)
    settings = EvaluationSettings(
        ordinal=recipe.data.ordinal,
        slice_columns=slice_columns,
        temperature=_saved_temperature(classifier),
        thresholds=LabelThresholds(classifier.thresholds, recipe.train.thresholds, "validation")
        if classifier.multi
        else None,
    )
    evaluation = evaluate({"test": measured}, {"test": classifier.logits_of(tokens)}, classifier.labels, settings)
    warning = warn_of_cut(tokens, recipe.data.max_length, "test", measured.labels, classifier.labels)
    notes = data.notes if warning is None else (*data.notes, f"warning: {warning}")
    found = None
    if shifted:
        found = shift(
            classifier, data.table, severities=severities, ood=data.ood, rows=rows, ood_unknown=data.ood_unknown
        )
    return SavedEvaluation(evaluation, classifier.artifact.backbone.name, found, notes)


def _refuse_label_column(table: Table, columns: Sequence[str]) -> None:
    if table.label_column is not None and table.label_column in columns:
        raise DataError(
            f"column {shown(table.label_column)} has the labels, and cannot be used for slices",
            where=table.source,
            remedy="leave it out of --slice: the table already shows each class",
        )


def _saved_temperature(classifier: Classifier) -> Temperature:
    return Temperature(classifier.temperature, 0, classifier.metrics.get("calibration", {}).get("not_fitted"))
