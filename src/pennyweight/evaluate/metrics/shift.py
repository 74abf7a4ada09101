"""Robustness under distribution shift: figures of each corruption at each severity, and of other files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from ...data.corruption import CORRUPTIONS, MIDDLE, SEVERITIES, corrupt
from ...errors import DataError, InputError
from .calibration import confidences, expected_calibration_error
from .intervals import Interval, wilson

#: Rows the suite is measured on unless the caller says otherwise: 16 corruptions of each are as many forward passes.
ROWS = 1000
SEED = 0
FAMILIES = ("training", "held out")


@dataclass(frozen=True)
class Row:
    """Figures of N texts in one condition.

    Attributes:
        name: the corruption, `clean`, or a file's name.
        severity: 1 to 5; 0 where nothing was corrupted.
        interval: 95% Wilson.
        ece: expected calibration error, the classifier's temperature applied.
    """

    name: str
    severity: int
    n: int
    accuracy: float
    interval: Interval
    ece: float


@dataclass(frozen=True)
class FamilyMean:
    """The mean accuracy over a family's corruptions at one severity.

    Attributes:
        interval: 95%, normal, over rows: the same rows stand behind every corruption, so each counts by its mean.
        loss: what the mean lies below the clean accuracy.
        ece: mean of the corruptions' calibration errors.
    """

    family: str
    severity: int
    corruptions: int
    accuracy: float
    interval: Interval
    loss: float
    ece: float


@dataclass(frozen=True)
class Shift:
    """The results under shift.

    Attributes:
        seed: seed of the corruptions and of the sample of rows.
        clean: the same rows as they are.
        rows: one a corruption and severity.
        means: one a family and severity; training could prepare for the family `training`, never for `held out`.
        ood: other labelled files, whole.
    """

    seed: int
    clean: Row
    rows: tuple[Row, ...] = ()
    means: tuple[FamilyMean, ...] = ()
    ood: tuple[Row, ...] = ()

    def mean(self, family: str, severity: int | None = None) -> FamilyMean:
        """The mean of a family, at the middle severity where it was measured, otherwise the first one that was.

        Raises:
            KeyError: not measured.
        """
        found = {one.severity: one for one in self.means if one.family == family}
        if severity is None:
            severity = MIDDLE if MIDDLE in found else min(found, default=0)
        return found[severity]

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `shift` in metrics.json."""
        return {
            "seed": self.seed,
            "clean": _plain(self.clean),
            "corruptions": [_plain(row) | {"family": CORRUPTIONS[row.name].family} for row in self.rows],
            "means": [asdict(one) | {"interval": list(one.interval)} for one in self.means],
            "ood": [_plain(row) for row in self.ood],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Shift:
        """The inverse of `to_json`.

        Raises:
            KeyError, TypeError: something else.
        """

        def row(one: Mapping[str, Any]) -> Row:
            low, high = one["interval"]
            return Row(one["name"], one["severity"], one["n"], one["accuracy"], (low, high), one["ece"])

        return cls(
            values["seed"],
            row(values["clean"]),
            tuple(row(one) for one in values["corruptions"]),
            tuple(FamilyMean(**{**one, "interval": tuple(one["interval"])}) for one in values["means"]),
            tuple(row(one) for one in values["ood"]),
        )

    def __str__(self) -> str:
        """Plain text tables: the rows as they are, each corruption and the two families; then other files."""
        from ..report.text_table import TERMINAL, text_table

        parts = []
        if self.rows:
            severities = sorted({row.severity for row in self.rows})
            header = ["corruption", *(name for severity in severities for name in (f"severity {severity}", "ECE %"))]
            lines = [["clean", *_cells(self.clean), *[""] * (len(header) - 3)]]
            for family in FAMILIES:
                for name, corruption in CORRUPTIONS.items():
                    measured = [row for row in self.rows if row.name == name]
                    if corruption.family == family and measured:
                        lines.append([name, *_in_columns(measured, severities)])
                means = [one for one in self.means if one.family == family]
                if means:
                    lines.append([f"mean, {family} family", *_in_columns(means, severities)])
            parts.append(text_table(header, lines, width=TERMINAL, group=2))
            parts.append(f"accuracy % with its 95% interval, {self.clean.n:,} texts, seed {self.seed}")
        if self.ood:
            rows = [[row.name, *_cells(row), f"{row.n:,}"] for row in self.ood]
            parts.append(text_table(["other file", "accuracy %", "ECE %", "texts"], rows))
        return "\n".join(parts)


def _plain(row: Row) -> dict[str, Any]:
    return asdict(row) | {"interval": list(row.interval)}


def _cells(row: Row | FamilyMean) -> list[str]:
    low, high = (100 * end for end in row.interval)
    return [f"{100 * row.accuracy:.1f} {f'({low:.1f} to {high:.1f})':>15}", f"{100 * row.ece:.1f}"]


def _in_columns(found: Sequence[Row | FamilyMean], severities: Sequence[int]) -> list[str]:
    """The cells of each severity, empty if it was not measured."""
    by_severity = {one.severity: _cells(one) for one in found}
    return [cell for severity in severities for cell in by_severity.get(severity, ["", ""])]


def check_names(names: Sequence[str] | None, severities: Sequence[int]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and severities in the suite's own order, each once; None for all names.

    Raises:
        InputError: for one that is not in the suite, or none at all.
    """
    wrong = [severity for severity in severities if severity not in SEVERITIES]
    if wrong or not severities:
        raise InputError("no such severity", expected="1, 2, 3, 4 or 5", received=wrong[0] if wrong else "none")
    unknown = [name for name in names or () if name not in CORRUPTIONS]
    if unknown:
        raise InputError("no such corruption", expected=f"one of {', '.join(CORRUPTIONS)}", received=unknown[0])
    return tuple(name for name in CORRUPTIONS if names is None or name in names), tuple(sorted(set(severities)))


def suite(
    texts: Sequence[str], *, names: Sequence[str] | None = None, severities: Sequence[int] = (MIDDLE,), seed: int = SEED
) -> Iterator[tuple[str, int, list[str]]]:
    """Every corruption at every severity: (name, severity, N corrupted texts)."""
    chosen, levels = check_names(names, severities)
    for name in chosen:
        for severity in levels:
            yield name, severity, [corrupt(text, name, severity, seed) for text in texts]


def row(name: str, severity: int, labels: np.ndarray, probabilities: np.ndarray, unknown: int = 0) -> Row:
    """Figures of N labels (N,) and probabilities (N, L), and of `unknown` further rows that count as wrong.

    The calibration error is that of the N rows.

    Raises:
        DataError: without rows.
    """
    if not len(labels):
        raise DataError("there are no rows to measure on", where=name)
    correct = int(confidences(labels, probabilities)[1].sum())
    n = len(labels) + unknown
    ece = expected_calibration_error(labels, probabilities)
    return Row(name, severity, n, correct / n, wilson(correct, n), ece)


def shift(
    labels: np.ndarray,
    clean: np.ndarray,
    corrupted: Mapping[tuple[str, int], np.ndarray],
    *,
    ood: Sequence[Row] = (),
    seed: int = SEED,
) -> Shift:
    """Put the figures together.

    Args:
        labels: (N,) class numbers; `clean`: (N, L) probabilities of the texts as they are.
        corrupted: the same texts' probabilities (N, L) by corruption and severity.
        ood: figures of other files.
    """
    as_they_are = row("clean", 0, labels, clean)
    rows = [row(name, severity, labels, found) for (name, severity), found in corrupted.items()]
    means = []
    for family in FAMILIES:
        for severity in sorted({one.severity for one in rows}):
            members = [one for one in rows if one.severity == severity and CORRUPTIONS[one.name].family == family]
            if not members:
                continue
            right = np.mean([corrupted[one.name, severity].argmax(axis=1) == labels for one in members], axis=0)  # (N,)
            accuracy = float(right.mean())
            half = NormalDist().inv_cdf(0.975) * float(right.std(ddof=1 if len(right) > 1 else 0)) / len(right) ** 0.5
            means.append(
                FamilyMean(
                    family,
                    severity,
                    len(members),
                    accuracy,
                    (max(0.0, accuracy - half), min(1.0, accuracy + half)),
                    as_they_are.accuracy - accuracy,
                    float(np.mean([one.ece for one in members])),
                )
            )
    return Shift(seed, as_they_are, tuple(rows), tuple(means), tuple(ood))
