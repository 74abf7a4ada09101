"""The report and the pictures of a run, in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..artifact.artifact import Artifact
from ..artifact.model_card import shared_recipe, shown_backbone
from ..artifact.versions import versions
from ..data.provenance import RUNS, SOURCES
from ..evaluate.evaluation import Evaluation
from ..evaluate.labelled_rows import LabelledRows
from ..evaluate.metrics.shift import Shift
from ..evaluate.report.command_line import commands, shown_folder
from ..evaluate.report.pictures import write_pictures
from ..evaluate.report.run_report import RunFacts, write_run_report
from ..recipe.loading import differences


def write_reports(
    folder: Path,
    artifact: Artifact,
    evaluation: Evaluation | None,
    rows: Mapping[str, LabelledRows],
    shift: Shift | None = None,
    *,
    shown: Path | None = None,
) -> None:
    """Write the pictures, unless the recipe leaves them out, and, where anything was measured, report.html.

    Args:
        rows: rows of the run, by split.
        shown: the folder that the report names, where the run is to be moved to another one.

    Raises:
        StorageError: they cannot be written.
    """
    metrics = None if evaluation is None else evaluation.metrics
    drawn = artifact.recipe.train.report != "tables"
    if drawn:
        write_pictures(folder / "report", metrics, artifact.metrics["train"]["history"])
    if evaluation is None:
        return
    sources = {key: getattr(artifact.recipe.data, key) for key in SOURCES}
    sources |= {key.replace("_", "-"): getattr(artifact.recipe.train, key) for key in RUNS}
    run = RunFacts(
        plan=artifact.plan,
        metrics=artifact.metrics,
        backbone=shown_backbone(artifact.backbone.name),
        commands=commands(sources, shown or folder),
        recipe=differences(shared_recipe(artifact.recipe)),
        versions=versions(),
        shift=shift,
        drawn=drawn,
        config=artifact.backbone.config,
        size=sum(each.nbytes for each in (*artifact.tensors.adapter.values(), *artifact.tensors.head.values())),
        folder=shown_folder(shown or folder),
    )
    write_run_report(folder / "report.html", evaluation, rows, run)
