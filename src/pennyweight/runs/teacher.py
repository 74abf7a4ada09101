"""A teacher read for distillation: a saved classifier, or a table of probabilities, asked once before the training."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..data.file_options import MAX_BYTES
from ..data.load import Data
from ..data.provenance import source_name
from ..data.sources import read_columns, without_flags
from ..data.table import Columns, listed, shown
from ..data.table_builder import build_table
from ..errors import DataError, RecipeError
from ..evaluate.row_predictions import RowPredictions, row_predictions
from ..recipe.schema import TrainRecipe
from ..train.distillation import SoftTargets, Teaching

if TYPE_CHECKING:
    from ..evaluate.evaluation import Evaluation

logger = logging.getLogger(__name__)

WHERE = "train -> teacher"
OFF_ONE = 0.005  # by how much each probability of a table may be off: tables are written with two decimals or more
MOST_OFF = 0.05  # by how much their sum may be off, however many classes there are
PREFIX = "p_"  # of the columns that predict writes
AGAIN = "predicted_"  # in front of that, where its input had such columns already


class Teacher(Protocol):
    """A source of probabilities for texts."""

    @property
    def kind(self) -> str:
        """`classifier` or `table`."""

    @property
    def thresholds(self) -> np.ndarray | None:
        """(L,) the probability from which each label is given; None if a text has one label."""

    @property
    def fingerprint(self) -> str:
        """The same for the same probabilities."""

    def knows(self, texts: Sequence[str]) -> np.ndarray:
        """(N,) whether it knows each text."""

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """(N, L) float32 of texts that it knows."""


def consult_teacher(settings: TrainRecipe, splits: Data, targets: Mapping[str, np.ndarray]) -> Teaching:
    """Ask the recipe's teacher about the training, the validation and the unlabelled texts.

    Args:
        targets: by split: (N,) class numbers, or (N, L) of 0 and 1.

    Raises:
        InputError: no teacher, one of other labels, another task or other inputs, or a table that lacks texts or holds
            what are no probabilities; the line says what was expected.
    """
    assert settings.teacher is not None
    teacher = _open(settings.teacher, splits, settings.device)
    training = splits.train
    _refuse_unknown(teacher, training.texts, settings.teacher, "training")
    own = teacher.probabilities(training.texts)
    said = row_predictions(training.texts, targets["train"], own, teacher.thresholds)
    texts, unlabelled, counts = _unlabelled(teacher, settings, splits)
    figures: dict[str, Any] = {
        "teacher": source_name(settings.teacher),
        "kind": teacher.kind,
        "temperature": settings.distillation_temperature,
        "weight": settings.distillation_weight,
        "agreement_with_labels": float(said.correct.mean()),
        "unlabelled": counts,
    }
    logger.info(_in_words(figures, len(training)))
    soft = SoftTargets(
        np.concatenate([own, unlabelled]),
        np.arange(len(own) + len(unlabelled)) < len(own),
        splits.labels.multi,
        settings.distillation_temperature,
        settings.distillation_weight,
    )
    if not splits.labels.multi:
        figures["shares"] = soft.shares(targets["train"]).tolist()
    fingerprint = sha256("\x00".join([teacher.fingerprint, *texts]).encode("utf-8", "surrogatepass")).hexdigest()
    return Teaching(texts, soft, _on_validation(teacher, splits, targets), fingerprint, figures)


def distilled(teaching: Teaching | None, evaluation: Evaluation | None) -> dict[str, Any]:
    """The `distillation` part of metrics.json; empty if there was no teacher.

    Args:
        evaluation: evaluation of the student; None if nothing was measured.
    """
    if teaching is None:
        return {}
    figures = dict(teaching.figures)
    student = None if evaluation is None else evaluation.predictions.get("validation")
    if teaching.validation is not None and student is not None:
        figures["validation"] = {
            "n": len(student.rows),
            "agreement": float((student.predicted == teaching.validation.predicted).mean()),
            "teacher_accuracy": float(teaching.validation.correct.mean()),
            "student_accuracy": float(student.correct.mean()),
        }
        shares = figures["validation"]
        logger.info(
            f"distillation: the classifier agrees with its teacher on {shares['agreement']:.1%} of {shares['n']:,} "
            f"validation texts (accuracy {shares['student_accuracy']:.1%}, teacher {shares['teacher_accuracy']:.1%})"
        )
    return {"distillation": figures}


def _on_validation(teacher: Teacher, splits: Data, targets: Mapping[str, np.ndarray]) -> RowPredictions | None:
    """The teacher's predictions for the validation rows, if there are any and it knows all of them."""
    if splits.validation is None:
        return None
    texts = splits.validation.texts
    if not teacher.knows(texts).all():
        logger.info("teacher: agreement is not measured, because the table lacks some of the validation texts")
        return None
    return row_predictions(texts, targets["validation"], teacher.probabilities(texts), teacher.thresholds)


def _unlabelled(
    teacher: Teacher, settings: TrainRecipe, splits: Data
) -> tuple[list[str], np.ndarray, dict[str, Any] | None]:
    """The unlabelled texts to train on, the teacher's probabilities for them (U, L), and counts; None without any.

    Texts of the training have labels already, and those of other splits are there to measure on: neither is used.
    """
    nothing = np.zeros((0, len(splits.labels.names)), dtype=np.float32)
    if splits.unlabelled is None:
        return [], nothing, None
    tables = [*splits.tables().values(), *([] if splits.ood is None else [splits.ood])]
    known = {text for table in tables for text in table.texts}
    texts = [text for text in splits.unlabelled.texts if text not in known]
    _refuse_unknown(teacher, texts, splits.unlabelled.source, "unlabelled")
    found = teacher.probabilities(texts) if texts else nothing
    sure = found.max(axis=1) if not splits.labels.multi else np.maximum(found, 1 - found).min(axis=1)
    used = np.flatnonzero(sure >= settings.unlabelled_confidence)
    counts = {
        "rows": len(splits.unlabelled),
        "labelled_elsewhere": len(splits.unlabelled) - len(texts),
        "abstained": len(texts) - len(used),
        "used": len(used),
        "confidence": settings.unlabelled_confidence,
    }
    return [texts[row] for row in used.tolist()], found[used], counts


def _in_words(figures: Mapping[str, Any], rows: int) -> str:
    found = (
        f"teacher: {figures['teacher']} ({figures['kind']}) agrees with the labels of "
        f"{figures['agreement_with_labels']:.1%} of {rows:,} training texts"
    )
    counts = figures["unlabelled"]
    if counts is None:
        return found
    reasons = [f"{counts['abstained']:,} below a confidence of {counts['confidence']:g}"] if counts["abstained"] else []
    if counts["labelled_elsewhere"]:
        reasons.append(f"{counts['labelled_elsewhere']:,} among the labelled texts")
    left_out = f", left out {' and '.join(reasons)}" if reasons else ""
    return f"{found}; it labels {counts['used']:,} of {counts['rows']:,} further ones{left_out}"


def _open(name: str, splits: Data, device: str) -> Teacher:
    return TableTeacher.read(name, splits) if os.path.isfile(name) else ClassifierTeacher(name, splits, device)


class ClassifierTeacher:
    """A saved classifier, or one exported as ONNX.

    Args:
        folder: folder of a run, or a name on the hub.
        splits: the student's data, whose labels and inputs have to be the classifier's.
        device: where it computes.
    """

    kind = "classifier"

    def __init__(self, folder: str, splits: Data, device: str) -> None:
        import torch

        from ..predict.load_classifier import load

        threads = torch.get_num_threads()
        try:
            self._classifier = load(folder, device=device)
        finally:
            torch.set_num_threads(threads)  # the teacher's recipe does not say how many the student has
        names, own = splits.labels.names, self._classifier.labels
        if set(own) != set(names):
            raise _other_labels(folder, names, own)
        tasks, inputs = ("one label per text", "any number of labels per text"), ("single texts", "pairs of texts")
        for what, kinds, wanted, received in (
            ("has another task", tasks, splits.labels.multi, self._classifier.multi),
            ("reads other inputs", inputs, splits.input_spec.pair, self._classifier.pair),
        ):
            if received != wanted:
                raise RecipeError(
                    f"the teacher {folder} {what}", where=WHERE, expected=kinds[wanted], received=kinds[received]
                )
        self._order = [own.index(name) for name in names]
        self.thresholds = self._classifier.thresholds[self._order] if splits.labels.multi else None
        self.fingerprint = json.dumps(self._classifier.identity)

    def knows(self, texts: Sequence[str]) -> np.ndarray:
        """It knows every text."""
        return np.ones(len(texts), dtype=bool)

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """(N, L) float32, in the order of the student's labels."""
        found: np.ndarray = self._classifier.predict_proba(list(texts))[:, self._order].astype(np.float32)
        return found


@dataclass(frozen=True)
class TableTeacher:
    """Probabilities from a file with texts and a column for each class.

    Attributes:
        rows: text to row number; of equal texts the first.
        values: (N, L) float32.
    """

    rows: Mapping[str, int]
    values: np.ndarray
    thresholds: np.ndarray | None
    fingerprint: str
    kind: str = "table"

    @classmethod
    def read(cls, file: str, splits: Data) -> TableTeacher:
        """Read what `pennyweight predict` writes, or a table whose columns are called like the classes.

        Raises:
            DataError: a class without a column, a column for what is no class, no text column, or numbers that are no
                probabilities.
        """
        with without_flags("save it as CSV in UTF-8, with the texts and a column of probabilities for each class"):
            columns = read_columns(file, "train", MAX_BYTES)
        names = _class_columns(columns, splits.labels.names)
        others = {name: held for name, held in columns.values.items() if name not in names}
        spec = replace(splits.input_spec, label_column=None)
        texts = build_table(replace(columns, values=others), spec, labelled=False).texts
        values = _probabilities(columns, names, multi=splits.labels.multi)
        rows = _by_text(columns, [spec.cleaned(text) for text in texts], values)
        thresholds = np.full(len(names), 0.5) if splits.labels.multi else None
        return cls(rows, values, thresholds, sha256(values.tobytes()).hexdigest())

    def knows(self, texts: Sequence[str]) -> np.ndarray:
        """(N,) whether the file has each text."""
        return np.array([text in self.rows for text in texts], dtype=bool)

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """(N, L) float32, as written, brought to a sum of 1 where a text has one label."""
        found: np.ndarray = self.values[[self.rows[text] for text in texts]]
        return found


def _by_text(columns: Columns, texts: Sequence[str], values: np.ndarray) -> dict[str, int]:
    """The first row number of each text.

    Raises:
        DataError: two rows of one text whose probabilities differ by more than rounding.
    """
    rows: dict[str, int] = {}
    for row, text in enumerate(texts):
        first = rows.setdefault(text, row)
        if np.abs(values[row] - values[first]).max() > MOST_OFF:
            raise DataError(
                "the teacher's table has two rows with different probabilities for the same text",
                where=columns.where(row),
                expected=f"the probabilities of {columns.where(first)}",
                received=f"others for {shown(text)!r}",
                remedy="remove one of the rows",
            )
    return rows


def _class_columns(columns: Columns, labels: Sequence[str]) -> list[str]:
    """The columns that hold the probabilities of the classes, in their order."""
    written = [_newest(columns, f"{PREFIX}{name}") for name in labels]
    probabilities = [name for name in columns.values if name.startswith(PREFIX)]
    if any(f"{PREFIX}{name}" in columns.values for name in labels):
        found = [name.removeprefix(PREFIX) for name in probabilities]
        if set(labels) < set(found):
            more = [name for name in probabilities if name.removeprefix(PREFIX) not in labels]
            raise DataError(
                f"the teacher's table has columns for what is no class of the data: {listed(more, 6)}",
                where=columns.source,
                expected=f"of the columns named {PREFIX}CLASS, one for each of {listed(labels)}",
                remedy=f"remove {'it' if len(more) == 1 else 'them'}, or rename what is no probability of a class",
            )
        if set(found) != set(labels):
            raise _other_labels(columns.source, labels, found)
        return written
    missing = [name for name in labels if name not in columns.values]
    if missing:
        raise DataError(
            f"the teacher's table has no probabilities for {listed(missing, 6)}",
            where=columns.source,
            expected="a column for each class, named p_CLASS, as written by predict, or CLASS",
            received=f"columns {listed(columns.values, 12)}",
        )
    return list(labels)


def _newest(columns: Columns, name: str) -> str:
    """The column of this name that was written last, if a table of predictions was predicted again."""
    while f"{AGAIN}{name}" in columns.values:
        name = f"{AGAIN}{name}"
    return name


def _probabilities(columns: Columns, names: Sequence[str], *, multi: bool) -> np.ndarray:
    """(N, L) float32 from cells.

    Raises:
        DataError: the first cell that is no probability, or the first row that does not sum to 1.
    """
    found = np.empty((len(columns.lines), len(names)))
    for number, name in enumerate(names):
        for row, cell in enumerate(columns.values[name]):
            try:
                found[row, number] = float(cell)
            except (TypeError, ValueError):
                raise _no_probability(columns, row, name, cell) from None
    wrong = np.argwhere(~((found >= 0) & (found <= 1)))  # NaN is neither
    if len(wrong):
        row, number = wrong[0].tolist()
        raise _no_probability(columns, row, names[number], columns.values[names[number]][row])
    if multi:
        return found.astype(np.float32)
    sums = found.sum(axis=1)
    allowed = min(max(2, len(names)) * OFF_ONE, MOST_OFF) + 1e-9
    off = np.flatnonzero(np.abs(sums - 1) > allowed)
    if len(off):
        raise DataError(
            f"the teacher's probabilities do not sum to 1 in {len(off):,} of {len(found):,} rows",
            where=columns.where(int(off[0])),
            expected=f"a sum of 1, give or take {allowed:.2g} for rounding, over {listed(names, 6)}",
            received=f"{sums[off[0]]:.4g}",
            remedy="give probabilities (a softmax of logits), a column for every class",
        )
    brought_to_one: np.ndarray = (found / sums[:, None]).astype(np.float32)
    return brought_to_one


def _no_probability(columns: Columns, row: int, name: str, cell: object) -> DataError:
    return DataError(
        f"the teacher's column {shown(name)} has a value that is not a probability", where=columns.where(row),
        expected="a number from 0 to 1", received=shown(cell) or "an empty cell",
    )  # fmt: skip


def _refuse_unknown(teacher: Teacher, texts: Sequence[str], where: str, what: str) -> None:
    known = teacher.knows(texts)
    if not known.all():
        first = texts[int(np.flatnonzero(~known)[0])]
        raise DataError(
            f"the teacher's table lacks {int((~known).sum()):,} of {len(known):,} {what} texts",
            where=where,
            expected=f"a row for each {what} text",
            received=f"none for {shown(first)!r}",
            remedy="write it with `pennyweight predict RUN FILE --out TABLE` for the same file",
        )


def _other_labels(where: str, labels: Sequence[str], received: Sequence[str]) -> RecipeError:
    return RecipeError(
        f"the teacher {where} has other labels", where=WHERE, expected=f"{len(labels)}: {listed(labels)}",
        received=f"{len(received)}: {listed(received)}", remedy="rename the data's labels with --label-map",
    )  # fmt: skip
