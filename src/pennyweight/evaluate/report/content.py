"""From a run's figures to its report.html."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...artifact.artifact import Artifact, handed_on, versions
from ...artifact.model_card import shown_backbone
from ...budget.plan_table import bill
from ...data.provenance import SOURCES, source_name
from ...data.table import PAIR
from ..evaluation import Judgement, Part
from ..metrics import error_analysis as mistakes
from ..metrics.selective import Abstention, risk_coverage
from ..metrics.shift import Shift
from ..row_predictions import identities
from ..several_evaluation import SeveralJudgement
from .html import Bill, BillRow, ReportInput, write_html

SHOWN_MISTAKES = 12
SHOWN_SUSPECTS = 8


def write_report(
    path: str | Path,
    judgement: Judgement | SeveralJudgement,
    artifact: Artifact,
    parts: Mapping[str, Part],
    *,
    folder: Path,
    shift: Shift | None = None,
) -> None:
    """Write report.html of a run; `artifact.metrics` is complete by then.

    Args:
        parts: all of the run's rows: `train`, `validation` and perhaps `test`.
        folder: the run's folder, for the command that repeats it.
        shift: what was found on corrupted texts and other files.

    Raises:
        StorageError: when it cannot be written.
    """
    metrics, plan = artifact.metrics, artifact.plan
    rows = [BillRow(row.part, row.where, row.rank, row.parameters) for row in bill(plan)]
    report = replace(
        page(judgement, artifact),
        baselines=judgement.baselines or None,
        bill=Bill(rows, plan.count.trainable, plan.count.total, plan.budget),
        splits=_splits(parts, metrics),
        data={"training texts with each label": _counts(parts["train"].labels, metrics["data"]["labels"])},
        audit=_audit(metrics.get("audit")),
        history=metrics["train"]["history"],
        command="\n".join(commands(artifact, folder)),
        recipe=_recipe(artifact),
        seconds=metrics["seconds"],
        machine={key: "not measurable here" if value is None else value for key, value in metrics["machine"].items()},
        versions=versions(),
        shift=shift,
    )
    write_html(path, report)


def page(judgement: Judgement | SeveralJudgement, artifact: Artifact) -> ReportInput:
    """The part of a report that needs nothing but a classifier and the rows it was measured on."""
    if isinstance(judgement, SeveralJudgement):
        return ReportInput(
            title=f"{_short(judgement.part.table.source)}, {len(artifact.labels.names)} labels, {_backbone(artifact)}",
            metrics=judgement.metrics,
            intervals=judgement.intervals,
            rows=judgement.name,
            slices=judgement.slices,
            created=time.strftime("%d %B %Y, %H:%M %Z").strip(),
        )
    labels, probabilities = judgement.part.labels, judgement.probabilities
    texts = [text.replace(PAIR, " \N{EM DASH} ") for text in judgement.part.table.texts]
    names = artifact.labels.names
    target, (picked, on_rows) = next(iter(reversed(judgement.thresholds.items())), (None, (None, None)))
    return ReportInput(
        title=f"{_short(judgement.part.table.source)}, {len(names)} labels, {_backbone(artifact)}",
        metrics=judgement.metrics,
        intervals=judgement.intervals,
        rows=judgement.name,
        calibration=judgement.calibration,
        ordinal=judgement.ordinal,
        abstention=Abstention(risk_coverage(labels, probabilities), target, picked, on_rows),
        slices=judgement.slices,
        mistakes=mistakes.most_confident(labels, probabilities, texts, names, limit=SHOWN_MISTAKES),
        mislabelled=mistakes.likely_mislabelled(labels, probabilities, texts, names, limit=SHOWN_SUSPECTS),
        created=time.strftime("%d %B %Y, %H:%M %Z").strip(),
    )


def commands(artifact: Artifact, folder: Path) -> list[str]:
    """What was typed, if it was typed, and what trains the same again from the resolved recipe.

    Reports are handed on: of absolute paths the last part is shown.
    """
    named = {key: getattr(artifact.recipe.data, key) for key in SOURCES}
    files = {key: source_name(name) for key, name in named.items() if name is not None}
    first = [files.pop("train")] if "train" in files else []
    others = [word for key, name in files.items() for word in (f"--{key}", name)]
    again = ["pennyweight", "train", *first, *others, "--recipe", f"{folder.name}/recipe.yaml", "--out", "AGAIN"]
    program = Path(sys.argv[0])
    typed = program.name == "pennyweight" or (program.name == "__main__.py" and program.parent.name == "pennyweight")
    lines = [shlex.join(["pennyweight", *map(_without_folder, sys.argv[1:])])] if typed else []
    if artifact.recipe.data.train is None:
        return [*lines, f"# trained on data given in Python; with it in a file: {shlex.join([*again, 'FILE'])}"]
    return [*lines, f"# the same from the resolved recipe:\n{shlex.join(again)}" if lines else shlex.join(again)]


def _recipe(artifact: Artifact) -> str:
    recipe = handed_on(artifact.recipe)
    model = recipe.model.model_copy(update={"backbone": shown_backbone(recipe.model.backbone)})
    return recipe.model_copy(update={"model": model}).to_yaml()


def _without_folder(word: str) -> str:
    flag, equals, value = word.rpartition("=") if word.startswith("--") else ("", "", word)
    return f"{flag}{equals}{os.path.basename(os.path.normpath(value))}" if os.path.isabs(value) else word


def _splits(parts: Mapping[str, Part], metrics: Mapping[str, Any]) -> dict[str, dict[str, object]]:
    """What each split holds, and how many of its texts stand among the training texts too."""
    known = identities(parts["train"].table.texts)
    cleaning = metrics["data"]["cleaning"]
    found: dict[str, dict[str, object]] = {}
    for name, part in parts.items():
        lengths = part.tokens.lengths
        dropped = cleaning.get(name, {}).get("dropped")
        seen = None if name == "train" else int(np.isin(identities(part.table.texts), known).sum())
        found[name] = {
            "source": _short(part.table.source),
            "texts": len(part.labels),
            "dropped by cleaning": "" if dropped is None else sum(dropped.values()),
            "median tokens": int(np.median(lengths)) if len(lengths) else 0,
            "cut to length": part.tokens.truncated,
            "also in training": "" if seen is None else seen,
        }
    return found


def _audit(found: Mapping[str, Any] | None) -> list[str] | None:
    """The short audit in sentences: the warnings first, then what was counted."""
    if found is None or found["mode"] == "off":
        return None
    if found["mode"] == "skipped":
        return ["Left out for the number of rows; `pennyweight audit` looks at any number."]
    warnings = [warning[:1].upper() + warning[1:] + "." for warning in found["warnings"]]
    counted = (
        f"{found['exact_duplicates']:,} training texts repeat an earlier one, {found['near_duplicates']:,} nearly do; "
        f"{100 * found['truncated']:.1f}% lose their end."
    )
    return [*(warnings or ["Nothing to warn of."]), counted]


def _counts(labels: np.ndarray, names: list[str]) -> object:
    counts = Counter(labels.tolist()) if labels.ndim == 1 else Counter(dict(enumerate(labels.sum(axis=0).tolist())))
    each = {name: counts[index] for index, name in enumerate(names)}
    few = sorted(each.values())
    return each if len(each) <= 20 else f"{len(each)} labels, {few[0]:,} to {few[-1]:,} texts each"


def _short(source: str) -> str:
    return Path(source).name or source


def _backbone(artifact: Artifact) -> str:
    return "all-MiniLM-L6-v2" if artifact.backbone.name == "embedded" else _short(artifact.backbone.name)
