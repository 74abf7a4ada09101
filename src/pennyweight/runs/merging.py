"""Saved classifiers of one backbone merged into one: a soup at one run's size, or composed exactly."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..artifact.artifact import Artifact, TrainedTensors
from ..artifact.load_artifact import rebuilt
from ..artifact.model_card import model_card
from ..artifact.save_artifact import save_artifact
from ..budget.count import count
from ..budget.plan import Plan
from ..data.html_table import html_text
from ..data.sources import without_flags
from ..errors import InputError
from ..evaluate.evaluation import Evaluation, EvaluationSettings, LabelThresholds, evaluate, unmeasured
from ..evaluate.labelled_rows import LabelledRows
from ..evaluate.metrics.calibration import Temperature
from ..evaluate.metrics.paired_tests import Comparison, compare
from ..evaluate.report.text_table import text_table
from ..evaluate.row_predictions import RowPredictions, fingerprint, row_predictions
from ..model.adapters.combined import WeightedAdapter, average, combine
from ..model.device import Runtime
from ..predict.predictor import Classifier, load
from ..storage.folders import refuse_nonempty_folder
from .saved_evaluation import EvaluationData, read_evaluation_data

logger = logging.getLogger(__name__)

Method = Literal["soup", "compose"]
METHODS: tuple[Method, ...] = ("soup", "compose")
# Of a run's metrics.json what a merged classifier has from its first run.
KEPT = ("data", "machine")


@dataclass(frozen=True)
class MergedRuns:
    """A merged classifier, and how good it and its runs are on the same rows.

    Attributes:
        classifier: as saved.
        names: names of the runs.
        weights: weights of the runs, with a sum of 1.
        kept: share of the summed update's squared norm that is left after its ranks were cut; 1, nothing was cut.
        before: accuracy of each run (multi-label: exact matches); None if nothing is known of the same rows.
        after: accuracy of the merged classifier; None without test rows.
        rows: how many rows these are, and `measured_on`: `test`, or `validation` for the runs' own.
        comparisons: the merged classifier against each run, row by row.
    """

    classifier: Classifier
    names: tuple[str, ...]
    weights: tuple[float, ...]
    kept: float
    before: tuple[float, ...] | None = None
    after: float | None = None
    rows: int = 0
    measured_on: str = ""
    comparisons: tuple[Comparison, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dict(self.classifier.metrics["merged"]) | {
            "measured_on": self.measured_on or None,
            "n": self.rows,
            "before": None if self.before is None else list(self.before),
            "after": self.after,
            "stored": self.classifier.metrics["stored"],
            "comparisons": [str(one) for one in self.comparisons],
        }

    def _repr_html_(self) -> str:
        return html_text(str(self))

    def __str__(self) -> str:
        """A table of the runs and what came of them, then each comparison in words."""
        before = self.before or (None,) * len(self.names)
        rows = [
            [name, f"{weight:.3g}", "" if share is None else f"{100 * share:.1f}"]
            for name, weight, share in zip(self.names, self.weights, before, strict=True)
        ]
        if self.before is not None and self.after is not None:
            rows.append(["mean of the runs", "", f"{100 * float(np.mean(self.before)):.1f}"])
        rows.append(["merged", "", "" if self.after is None else f"{100 * self.after:.1f}"])
        parts = [text_table(["run", "weight", "accuracy %"], rows)]
        if self.rows:
            parts.append(f"on {self.rows:,} {self.measured_on} rows")
        if self.after is None:
            parts.append("the merged classifier was not measured: give --test FILE")
        if self.kept < 1:
            parts.append(
                f"truncation to the plan's ranks keeps {100 * self.kept:.1f}% of the summed update (squared norm)"
            )
        parts.append(f"{self.classifier.metrics['stored']:,} numbers stored in adapter and head")
        return "\n".join([*parts, *map(str, self.comparisons)])


def merge(
    runs: Sequence[str | Path],
    *,
    out: str | Path,
    method: Method = "soup",
    weights: Sequence[float] | None = None,
    test: Any = None,
    device: str = "auto",
) -> MergedRuns:
    """Merge saved classifiers of one backbone, with the same labels and inputs, into a new one.

    The weighted mean of the adapters' updates takes their place, and that of the heads' weights. `soup` (Wortsman et
    al. 2022, "Model soups", https://arxiv.org/abs/2203.05482) wants runs of one plan, and cuts the mean update back to
    the plan's ranks; `compose` keeps it exactly, at the sum of the ranks, and takes runs of any plans. Temperature and
    thresholds are the weighted means of the runs'.

    Args:
        runs: folders of two or more.
        out: a new folder for the merged classifier.
        weights: weights of the runs, positive; equal if not given. They are normalised to a sum of 1.
        test: labelled texts on which runs and merged classifier are measured, as for `pennyweight.train`.
        device: where they are measured.

    Raises:
        InputError: fewer than two runs, weights that do not fit, runs that cannot be merged, or a folder that is taken.
        ArtifactError: a damaged classifier.
        StorageError: it cannot be written.
    """
    names = _names(runs)
    shares = _shares(weights, len(runs))
    if method not in METHODS:
        raise InputError("unknown method", where="--method", expected=", ".join(METHODS), received=method)
    refuse_nonempty_folder(out, "the folder of the merged classifier", "choose another --out")
    _refuse_inside(out, runs)
    artifacts: list[Artifact] = []
    outputs: list[np.ndarray] = []
    data: EvaluationData | None = None
    for run in runs:  # one engine in memory at a time
        classifier = load(run, device=device)
        artifacts.append(classifier.artifact)
        _refuse_unlike(artifacts, names, method)
        if test is not None:
            with without_flags("merge without --test, then use `pennyweight evaluate`: {}"):
                data = data or read_evaluation_data(classifier, test)
            outputs.append(classifier.logits_of(classifier.tokens(data.table.texts)))
    runtime = classifier.runtime
    merged, kept = _merged(artifacts, shares, method, runtime)
    described: dict[str, Any] = {"method": method, "runs": list(names), "weights": list(shares), "kept": round(kept, 6)}
    described |= _offsets(artifacts, shares)
    measured = None if data is None else _measured(Classifier(merged, runtime), data, artifacts, shares)
    metrics = _metrics(merged, artifacts, measured, shares) | {"merged": described}
    predictions = {} if measured is None else measured.predictions["test"].to_arrays("test")
    merged = replace(merged, metrics=metrics, predictions=predictions, run={"merged": described})
    save_artifact(replace(merged, card=model_card(merged)), out, replace=False)
    logger.info(f"saved: {out}")
    found = MergedRuns(load(out, device=device), names, shares, kept)
    return _with_figures(found, artifacts, outputs, measured)


def _refuse_inside(out: str | Path, runs: Sequence[str | Path]) -> None:
    """A run's folder is its own: what lies in it is moved and deleted with it."""
    place = Path(out).resolve()
    for run in runs:
        if place.is_relative_to(Path(run).resolve()):
            raise InputError(
                f"the folder of the merged classifier is inside the run {run}", where=out, remedy="choose another --out"
            )


def _names(runs: Sequence[str | Path]) -> tuple[str, ...]:
    if len(runs) < 2:
        raise InputError("merging takes at least two runs", received=len(runs))
    short = [Path(run).name for run in runs]
    return tuple(short if len(set(short)) == len(short) else map(str, runs))


def _shares(weights: Sequence[float] | None, runs: int) -> tuple[float, ...]:
    if weights is None:
        return (1 / runs,) * runs
    if len(weights) != runs or not all(np.isfinite(weight) and weight > 0 for weight in weights):
        raise InputError(
            "the weights do not match the runs", where="--weights", expected=f"{runs} numbers above 0",
            received=", ".join(f"{weight:g}" for weight in weights),
        )  # fmt: skip
    parts = [float(weight) / float(max(weights)) for weight in weights]  # whose sum is finite
    if min(parts) == 0:
        raise InputError(
            "the weights are too far apart: the least of them is rounded to 0", where="--weights",
            received=", ".join(f"{weight:g}" for weight in weights),
        )  # fmt: skip
    return tuple(part / sum(parts) for part in parts)


def _refuse_unlike(artifacts: Sequence[Artifact], names: Sequence[str], method: Method) -> None:
    """Refuse the last of some classifiers if it cannot be merged with the first."""
    first, last = artifacts[0], artifacts[-1]
    wanted, found = _described(first), _described(last)
    plan: dict[str, Any] = {}
    if method == "soup":
        plan = _described_plan(first)
        wanted, found = wanted | plan, found | _described_plan(last)
    for what, expected in wanted.items():
        if found[what] != expected:
            remedy = "merge them with --method compose" if what in plan else None
            raise InputError(
                f"{names[len(artifacts) - 1]} cannot be merged with {names[0]}: {what} differ",
                expected=expected, received=found[what], remedy=remedy,
            )  # fmt: skip


def _described(artifact: Artifact) -> dict[str, Any]:
    """The properties that must be equal in all runs, by name."""
    recipe, spec, head = artifact.recipe, artifact.input_spec, artifact.plan.head
    return {
        "backbones": f"{artifact.backbone.name} ({artifact.backbone.fingerprint()[:12]})",
        "tasks": "any number of labels per text" if artifact.labels.multi else "one label per text",
        "labels": ", ".join(artifact.labels.names),
        "poolings": recipe.model.pooling,
        "inputs": f"max_length {recipe.data.max_length}, long_texts {recipe.data.long_texts}, pair {spec.pair}",
        "heads": head.kind + (f" of rank {head.rank}" if head.kind == "low_rank" else ""),
        "adapters": "none" if artifact.plan.adapter is None else "one",
    }


def _described_plan(artifact: Artifact) -> dict[str, Any]:
    spec = artifact.plan.adapter
    if spec is None:
        return {}
    ranks = ", ".join(f"{key}={rank}" for key, rank in spec.rank_pattern.items())
    layers = "all layers" if spec.layers is None else f"layers {', '.join(map(str, spec.layers))}"
    return {"plans": f"r {spec.r} on {', '.join(spec.target_modules)} of {layers}{ranks and f' ({ranks})'}"}


def _merged(
    artifacts: Sequence[Artifact], shares: Sequence[float], method: Method, runtime: Runtime
) -> tuple[Artifact, float]:
    """The merged classifier, not yet described, and what is left of the summed update."""
    first = artifacts[0]
    config, plan = first.backbone.config, first.plan
    heads = [artifact.tensors.head for artifact in artifacts]
    head = {name: average([each[name] for each in heads], shares) for name in heads[0]}
    spec, adapter, kept = None, {}, 1.0
    if plan.adapter is not None:
        parts = [
            WeightedAdapter(artifact.plan.adapter.as_saved, artifact.tensors.adapter, share)
            for artifact, share in zip(artifacts, shares, strict=True)
            if artifact.plan.adapter is not None
        ]
        found = combine(config, parts, exact=method == "compose")
        spec, adapter, kept = found.spec, found.tensors, found.kept
    counted = count(config, adapter=spec, head=plan.head, labels=len(first.labels.names))
    why = (f"merged from {len(artifacts)} runs ({method}); nothing was trained after that",)
    budget = plan.budget if plan.budget is not None and counted.trainable <= plan.budget else None
    left = Plan(spec, plan.head, counted, budget, plan.strategy if method == "soup" else "manual", why)
    recipe = first.recipe.model_copy(update={"name": "merged"})
    bare = replace(first, recipe=recipe, metrics={}, card="", predictions={}, run={}, ranges={})
    return rebuilt(bare, left, TrainedTensors(adapter, head), runtime), kept


def _temperature(artifacts: Sequence[Artifact], shares: Sequence[float]) -> float:
    values = [(artifact.metrics.get("calibration") or {}).get("temperature", 1.0) for artifact in artifacts]
    return float(np.dot(values, shares))


def _thresholds(artifacts: Sequence[Artifact], shares: Sequence[float]) -> np.ndarray:
    names = artifacts[0].labels.names
    values = [(artifact.metrics.get("thresholds") or {}).get("values", [0.5] * len(names)) for artifact in artifacts]
    found: np.ndarray = np.asarray(shares) @ np.asarray(values, dtype=np.float64)
    return found


def _offsets(artifacts: Sequence[Artifact], shares: Sequence[float]) -> dict[str, list[float]]:
    """What the head's biases have of the runs' offsets; empty if no run has any."""
    values = [artifact.metrics.get("bias_offsets", {}).get("values") for artifact in artifacts]
    found = sum(share * np.array(each) for share, each in zip(shares, values, strict=True) if each is not None)
    return {"bias_offsets": found.tolist()} if isinstance(found, np.ndarray) and found.any() else {}


def _measured(
    classifier: Classifier, data: EvaluationData, artifacts: Sequence[Artifact], shares: Sequence[float]
) -> Evaluation:
    """The merged classifier on the test rows."""
    tokens, labels = classifier.tokens(data.table.texts), artifacts[0].labels
    rows = LabelledRows.of_table(data.table, tokens, labels.encode(data.table), data.unknown)
    multi = labels.multi
    settings = EvaluationSettings(
        ordinal=artifacts[0].recipe.data.ordinal,
        temperature=None if multi else Temperature(_temperature(artifacts, shares), 0),
        thresholds=LabelThresholds(_thresholds(artifacts, shares)) if multi else None,
    )
    return evaluate({"test": rows}, {"test": classifier.logits_of(tokens)}, labels.names, settings)


def _metrics(
    merged: Artifact, artifacts: Sequence[Artifact], measured: Evaluation | None, shares: Sequence[float]
) -> dict[str, Any]:
    """metrics.json: what is known of the merged classifier, and of the runs what holds for it too."""
    names, multi = merged.labels.names, merged.labels.multi
    figures = unmeasured(names, multi_label=multi) if measured is None else measured.to_json()
    if measured is None and multi:
        figures["thresholds"] = LabelThresholds(_thresholds(artifacts, shares)).to_json()
    if measured is None and not multi:
        figures["calibration"] = {
            "temperature": _temperature(artifacts, shares), "fitted_on": None, "not_fitted": None, "measured_on": None,
        }  # fmt: skip
    trained = [artifact.metrics["train"] for artifact in artifacts]
    sums: Mapping[str, Any] = {key: sum(each[key] for each in trained) for key in ("steps", "texts", "seconds")}
    return figures | {key: artifacts[0].metrics[key] for key in KEPT} | {
        "seconds": {"training": sums["seconds"], "tokenizing": 0.0, "baselines": 0.0, "measuring": 0.0},
        "trainable": merged.plan.count.trainable,
        "total": merged.plan.count.total,
        "stored": merged.plan.count.stored,
        "budget": merged.plan.budget,
        "train": dict(sums) | {
            "rows": max(each["rows"] for each in trained), "best": {}, "history": [], "texts_per_second": None,
        },
    }  # fmt: skip


def _with_figures(
    found: MergedRuns, artifacts: Sequence[Artifact], outputs: Sequence[np.ndarray], measured: Evaluation | None
) -> MergedRuns:
    """Figures of the runs and the merged classifier on the test rows; without these, of the runs on validation."""
    if measured is None:
        kept = [RowPredictions.from_arrays(artifact.predictions, "validation") for artifact in artifacts]
        known = [each for each in kept if each is not None]
        if len(known) < len(kept) or len({fingerprint(each.rows) for each in known}) > 1:
            return found
        shares = tuple(float(each.correct.mean()) for each in known)
        return replace(found, before=shares, rows=len(known[0].rows), measured_on="validation")
    after, rows = measured.predictions["test"], measured.rows
    before = []
    for artifact, values in zip(artifacts, outputs, strict=True):
        run = Classifier(artifact, found.classifier.runtime)
        limits = run.thresholds if run.multi else None
        before.append(row_predictions(rows.texts, rows.labels, run.probabilities(values), limits))
    return replace(
        found,
        before=tuple(float(each.correct.mean()) for each in before),
        after=float(after.correct.mean()),
        rows=len(after.rows),
        measured_on="test",
        comparisons=tuple(
            compare(after.labels, each.predicted, after.predicted, names=(name, "merged"))
            for name, each in zip(found.names, before, strict=True)
        ),
    )
