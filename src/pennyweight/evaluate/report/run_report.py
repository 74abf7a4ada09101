"""From an evaluation to its report: report.html of a run, or of a saved classifier on other texts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...budget.plan import Plan
from ...budget.plan_table import tabulate
from ...data.table import PAIR
from ..evaluation import Evaluation
from ..labelled_rows import LabelledRows
from ..metrics.selective import Abstention, risk_coverage
from ..metrics.shift import Shift
from ..misclassified import likely_mislabelled, most_confident
from ..row_predictions import identities
from .html import ReportInput, write_html
from .overview import rank_map

SHOWN_MISCLASSIFIED = 12
SHOWN_MISLABELLED = 8
MOST_IN_TITLE = 6


@dataclass(frozen=True)
class RunFacts:
    """The contents of a run's report in addition to its evaluation.

    Attributes:
        plan: what was trained.
        metrics: the whole metrics.json.
        backbone: the name to show.
        commands: those that repeat the run; `recipe`: its recipe as YAML.
        versions: versions of the software that computed the figures.
        shift: what was found on corrupted texts and other files.
        drawn: whether the report has pictures.
        config: the backbone's config.json; size: bytes of what is saved; folder: the run's, as commands name it.
    """

    plan: Plan
    metrics: Mapping[str, Any]
    backbone: str
    commands: Sequence[str]
    recipe: str
    versions: Mapping[str, str]
    shift: Shift | None = None
    drawn: bool = True
    config: Mapping[str, Any] | None = None
    size: int | None = None
    folder: str | None = None


def write_run_report(path: str | Path, evaluation: Evaluation, rows: Mapping[str, LabelledRows], run: RunFacts) -> None:
    """Write report.html of a run.

    Args:
        rows: all of the run's: `train`, and `validation`, `test` or both.

    Raises:
        StorageError: when it cannot be written.
    """
    metrics, train = run.metrics, rows["train"]
    offsets = metrics.get("bias_offsets", {})
    report = replace(
        evaluation_report(evaluation, run.backbone),
        baselines=evaluation.baselines or None,
        note=evaluation.note,
        plan=tabulate(run.plan),
        splits=_splits(rows, metrics["data"]["cleaning"]),
        data={"training texts per label": _counts(rows["train"].labels, evaluation.names)},
        audit=_audit(metrics.get("audit")),
        history=metrics["train"]["history"],
        command="\n".join(run.commands),
        recipe=run.recipe,
        seconds=metrics["seconds"],
        machine={key: "not measurable here" if value is None else value for key, value in metrics["machine"].items()},
        versions=run.versions,
        shift=run.shift,
        drawn=run.drawn,
        ranks=None if run.config is None else rank_map(run.plan, run.config),
        size=run.size,
        folder=run.folder,
        decision=offsets.get("summary"),
        adjusted=any(offsets.get("values", ())),
        pair=any(PAIR in text for text in train.texts[:1]),
        about=f"{_shown(run.backbone)} trained on {len(train.labels):,} texts of {_short(train.source)}",
    )
    write_html(path, report)


def evaluation_report(evaluation: Evaluation, backbone: str) -> ReportInput:
    """The part of a report that needs nothing but an evaluation and the backbone's name."""
    report = ReportInput(
        title=_title(evaluation),
        about=_shown(backbone),
        source=_short(evaluation.rows.source),
        metrics=evaluation.metrics,
        intervals=evaluation.intervals,
        rows=evaluation.measured_on,
        calibration=evaluation.calibration,
        ordinal=evaluation.ordinal,
        slices=evaluation.slices,
        created=time.strftime("%d %B %Y, %H:%M %Z").strip(),
    )
    if evaluation.metrics.multi_label:
        return report
    labels, probabilities, names = evaluation.rows.labels, evaluation.probabilities, evaluation.names
    texts = [text.replace(PAIR, " \N{EM DASH} ") for text in evaluation.rows.texts]
    target, (picked, measured) = next(reversed(list(evaluation.abstention.items())), (None, (None, None)))
    return replace(
        report,
        abstention=Abstention(risk_coverage(labels, probabilities), target, picked, measured, evaluation.measured_on),
        misclassified=most_confident(labels, probabilities, texts, names, limit=SHOWN_MISCLASSIFIED),
        mislabelled=likely_mislabelled(labels, probabilities, texts, names, limit=SHOWN_MISLABELLED),
    )


def _splits(rows: Mapping[str, LabelledRows], cleaning: Mapping[str, Any]) -> dict[str, dict[str, object]]:
    """The size of each split, and how many of its texts are also training texts."""
    known = identities(rows["train"].texts)
    found: dict[str, dict[str, object]] = {}
    for name, part in rows.items():
        dropped = cleaning.get(name, {}).get("dropped")
        seen = None if name == "train" else int(np.isin(identities(part.texts), known).sum())
        found[name] = {
            "source": _short(part.source),
            "texts": len(part.labels),
            "dropped by cleaning": "" if dropped is None else sum(dropped.values()),
            "median tokens": int(np.median(part.lengths)) if len(part.lengths) else 0,
            "truncated": part.truncated,
            "also in training": "" if seen is None else seen,
        }
    return found


def _audit(found: Mapping[str, Any] | None) -> list[str] | None:
    """The short audit in sentences: the warnings first, then what was counted."""
    if found is None or found["mode"] == "off":
        return None
    if found["mode"] == "skipped":
        return ["Skipped because there are too many rows; `pennyweight audit` has no limit."]
    warnings = [warning[:1].upper() + warning[1:] + "." for warning in found["warnings"]]
    counted = (
        f"Of the training texts, {found['exact_duplicates']:,} are exact and {found['near_duplicates']:,} near "
        f"duplicates of an earlier text, and {100 * found['truncated']:.1f}% are truncated."
    )
    return [*(warnings or ["No warnings."]), counted]


def _counts(labels: np.ndarray, names: Sequence[str]) -> object:
    counts = Counter(labels.tolist()) if labels.ndim == 1 else Counter(dict(enumerate(labels.sum(axis=0).tolist())))
    each = {name: counts[index] for index, name in enumerate(names)}
    few = sorted(each.values())
    return each if len(each) <= 20 else f"{len(each)} labels, {few[0]:,} to {few[-1]:,} texts each"


def _title(evaluation: Evaluation) -> str:
    """The title: the classes, such as `Business, Sci/Tech, Sports or World`, or their number."""
    names = [name if len(name) <= 30 else name[:29] + "…" for name in evaluation.names]
    if len(names) > MOST_IN_TITLE:
        return f"Texts of {len(names)} {'labels' if evaluation.metrics.multi_label else 'classes'}"
    last = "and" if evaluation.metrics.multi_label else "or"
    return f"{', '.join(names[:-1])} {last} {names[-1]}" if len(names) > 1 else names[0]


def _shown(backbone: str) -> str:
    return "all-MiniLM-L6-v2" if backbone == "embedded" else _short(backbone)


def _short(source: str) -> str:
    return Path(source).name or source
