"""A submission in a contest's form, `ID,Label`: its class numbers, and the check before it is sent."""

from __future__ import annotations

import csv
import os
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.columns import id_column, is_id_name, is_null
from ..data.labels import is_ordered
from ..data.table import Columns, Table, listed, shown
from ..errors import DataError, InputError
from .predictor import Classifier

HEADER = ["ID", "Label"]


@dataclass(frozen=True)
class CheckedSubmission:
    """A submission without faults: its rows, and how many carry each label, by class number."""

    path: str
    rows: int
    counts: dict[int, int]

    def __str__(self) -> str:
        each = ", ".join(f"{label}: {count:,}" for label, count in self.counts.items())
        return f"{self.path}: {self.rows:,} rows, every id once, labels in range ({each})"


def class_numbers(classifier: Classifier, order: str | None = None) -> dict[str, int]:
    """The number, from 0, of each class in a submission.

    Args:
        order: the labels in the contest's order, separated by commas (a label that contains one goes in double quotes);
            None for the order of the training data, if they have one.

    Raises:
        InputError: for a multi-label classifier; an `order` that does not name each label once; no `order` where that
            of the training data was only alphabetical.
    """
    if classifier.multi:
        raise InputError("a submission has one label per text, but this classifier is multi-label")
    labels = classifier.labels
    if order is not None:
        names = [name.strip() for name in next(csv.reader([order], skipinitialspace=True), [])]
        if sorted(names) != sorted(labels):
            raise InputError(
                "--label-order has to name each label once",
                expected=f"{listed(labels)}, in any order",
                received=shown(order),
            )
        return {name: number for number, name in enumerate(names)}
    noted = classifier.metrics.get("data", {}).get("label_order")
    if not is_ordered(noted, labels, classifier.artifact.recipe.data.label_names):
        raise InputError(
            "a submission needs class numbers, but the training data does not define the order of the classes",
            expected="--label-order with all labels in the contest's order, number 0 first",
            received=f"{listed(labels)}, which is only alphabetical",
        )
    return {name: number for number, name in enumerate(labels)}


def submission_rows(
    predictions: Iterable[tuple[dict[str, Any], dict[str, Any]]], numbers: dict[str, int]
) -> Iterator[dict[str, Any]]:
    """Rows of a submission: `ID` and `Label`, a class number.

    Args:
        predictions: pairs of a text's fields (its id, or none) and its prediction; without ids texts count from 0.
        numbers: from `class_numbers`.

    Raises:
        DataError: an id that is missing or repeated.
    """
    seen: dict[Any, int] = {}
    for place, (fields, found) in enumerate(predictions):
        own = next(iter(fields.values()), place)
        if is_null(own) or own == "":
            raise DataError(f"text {place + 1:,} has no id", expected="an id for each text of a submission")
        if seen.setdefault(own, place) != place:
            raise DataError(
                f"texts {seen[own] + 1:,} and {place + 1:,} have the same id",
                expected="different ids in a submission",
                received=shown(own),
            )
        yield {"ID": own, "Label": numbers[found["label"]]}


def refuse_unnamed_ids(names: Iterable[str], wanted: str | None) -> None:
    """Refuse to number the texts if a column looks like their ids but is not called `id`.

    Raises:
        InputError: naming the column and the flag.
    """
    names = list(names)
    likely = [name for name in names if is_id_name(name)]
    if wanted is None and likely and not any(name.strip().lower() == "id" for name in names):
        raise InputError(
            f"column {shown(likely[0])} looks like the ids of the submission",
            remedy=f"confirm it with --id-column {shlex.quote(likely[0])}, or rename the column if it is something "
            "else",
        )


def read_ids(table: Table, wanted: str | None = None) -> list[str]:
    """The ids of a test file as a submission writes them, otherwise its row numbers from 0."""
    own = id_column(Columns(table.extras, table.lines, table.source), wanted)
    return [str(number) for number in range(len(table))] if own is None else [str(one) for one in table.extras[own]]


def check_submission(path: str | Path, ids: Sequence[str], labels: int) -> CheckedSubmission:
    """Check `ID,Label` rows against the ids asked for.

    Args:
        ids: the test file's.
        labels: number of classes; labels are 0 to labels - 1.

    Raises:
        DataError: all faults, with line numbers, in one message.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise DataError("no such submission", where=path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            rows = list(csv.reader(handle))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError("not a CSV file in UTF-8", where=path, received=str(error)) from error
    if not rows or rows[0] != HEADER:
        raise DataError(
            "not a submission",
            where=f"{path}:1",
            expected="ID,Label",
            received=shown(",".join(rows[0] if rows else [])),
        )
    body = [(number, row) for number, row in enumerate(rows[1:], 2) if row]
    ragged = [number for number, row in body if len(row) != len(HEADER)]
    if ragged:
        raise DataError(
            "a row does not have two cells", where=f"{path}:{ragged[0]}", received=f"{len(ragged):,} such rows"
        )
    problems = [*_ids(body, ids), *_labels(body, labels)]
    if problems:
        raise DataError("the submission would be refused: " + " | ".join(problems), where=path)
    counts = Counter(int(row[1]) for _, row in body)
    return CheckedSubmission(str(path), len(body), {label: counts[label] for label in range(labels)})


def _ids(body: list[tuple[int, list[str]]], ids: Sequence[str]) -> list[str]:
    given, wanted = Counter(row[0] for _, row in body), set(ids)
    missing = [one for one in ids if one not in given]
    foreign = [f"{row[0]} (line {number})" for number, row in body if row[0] not in wanted]
    twice = [one for one, count in given.items() if count > 1]
    found = []
    for words, those in (("missing", missing), ("unknown", foreign), ("repeated", twice)):
        if those:
            found.append(f"{len(those):,} ids {words}: {listed(those, 5)}")
    return found


def _labels(body: list[tuple[int, list[str]]], labels: int) -> list[str]:
    valid = {str(number) for number in range(labels)}
    wrong = [f"{shown(row[1], 20)!r} (line {number})" for number, row in body if row[1] not in valid]
    return [f"{len(wrong):,} labels not a class number from 0 to {labels - 1}: {listed(wrong, 5)}"] if wrong else []
