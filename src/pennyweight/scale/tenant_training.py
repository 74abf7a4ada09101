"""One classifier of many: trained on a resident backbone, and saved whole or not at all."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import pipeline
from ..artifact.layout import MANIFEST
from ..artifact.load_artifact import metrics_of
from ..artifact.saved_files import read_files
from ..errors import InputError, PennyweightError
from ..model.backbone import Backbone, resolve
from ..model.device import Runtime
from ..model.resident import ResidentBackbone
from ..storage.atomic import atomic_folder
from ..storage.folders import visible_names
from ..train.auto_settings import settle
from ..train.random_state import preserved_random_state
from ..train.resume import ResumePoint
from ..train.run_folder import RunFolder
from .tenants import Tenant

logger = logging.getLogger(__name__)

# What may differ from when a classifier was trained without its being another: the same texts and the same recipe.
_OF_THE_MACHINE = ("device", "precision", "threads")


@dataclass(frozen=True)
class TenantOutcome:
    """The result of one row of a manifest.

    Attributes:
        state: `trained`, `finished` (in an earlier call) or `failed`.
        error: one line, where it failed.
        seconds: wall-clock time, its texts' reading included.
        metrics: the whole metrics.json; empty if it failed.
        peak_memory_mb: peak memory of the process so far, in MB.
    """

    name: str
    state: str
    error: str = ""
    seconds: float = 0.0
    metrics: Mapping[str, Any] = field(default_factory=dict)
    peak_memory_mb: int = 0

    def __str__(self) -> str:
        """In a few words, for a log."""
        if self.state == "failed":
            return f"{self.name}: failed: {self.error}"
        measured = next((name for name in ("test", "validation") if name in self.metrics), None)
        found = "not measured"
        if measured is not None:
            found = f"{100 * accuracy_of(self.metrics[measured]):.1f}% on {measured}"
        words = f"{self.metrics['trainable']:,} parameters, {self.seconds:.1f} s"
        return f"{self.name}: {found}, {words if self.state == 'trained' else 'finished earlier'}"


def accuracy_of(figures: Mapping[str, Any]) -> float:
    """The share of right texts in a part of metrics.json; of texts with any number of labels the exact matches."""
    return float(figures["accuracy"] if "accuracy" in figures else figures["exact_match"])


class TenantTrainer:
    """Trains classifiers one after the other, with one backbone in memory.

    Args:
        out: the folder that theirs lie in.
        overwrite: train those again whose recipe or texts changed since.
    """

    def __init__(self, out: Path, *, overwrite: bool) -> None:
        self.out = out
        self.overwrite = overwrite
        self._found: dict[tuple[str, str | None], Backbone] = {}
        self._resident: ResidentBackbone | None = None

    def __call__(self, tenant: Tenant) -> TenantOutcome:
        """Train a classifier unless that is done. A failure is an outcome, too: others may not depend on it."""
        began = time.perf_counter()
        try:
            state, metrics = self._run(tenant)
        except Exception as error:
            return TenantOutcome(tenant.name, "failed", _in_words(error), time.perf_counter() - began)
        peak = int(metrics["machine"]["peak_memory_mb"]) if state == "trained" else 0
        return TenantOutcome(tenant.name, state, "", time.perf_counter() - began, metrics, peak)

    def _run(self, tenant: Tenant) -> tuple[str, Mapping[str, Any]]:
        recipe, folder = tenant.recipe, self.out / tenant.name
        loaded = pipeline.load_data(recipe)
        recipe = settle(recipe, loaded.splits.train.texts, loaded.targets["train"], loaded.names)
        planned = pipeline.plan_run(recipe, loaded, RunFolder(), self._find)
        if os.path.lexists(folder):
            metrics = _finished(folder, planned.fingerprint, self.overwrite)
            if metrics is not None:
                return "finished", metrics
        with preserved_random_state():
            resident = self._keep(planned.backbone, planned.runtime)
            built = pipeline.build_model(recipe, loaded, planned, resident)
            fitted = pipeline.fit_model(recipe, loaded, planned, built, RunFolder())
            evaluated = pipeline.evaluate_model(recipe, loaded, planned, built, fitted, report=True)
        with atomic_folder(folder) as aside:
            place = RunFolder(aside, shown=folder)
            saved = pipeline.save_model(recipe, loaded, planned, built, fitted, evaluated, place)
        return "trained", saved.classifier.metrics

    def _find(self, name: str, revision: str | None) -> Backbone:
        """As `resolve`, each backbone's files hashed once."""
        if (name, revision) not in self._found:
            self._found[name, revision] = resolve(name, revision)
        return self._found[name, revision]

    def _keep(self, backbone: Backbone, runtime: Runtime) -> ResidentBackbone:
        """The resident backbone; another one takes its place."""
        kept = self._resident
        if kept is None or kept.backbone is not backbone or kept.runtime != runtime:
            self._resident = None  # before the next one is loaded: two would take twice the memory
            self._resident = ResidentBackbone(backbone, runtime)
        assert self._resident is not None
        return self._resident


def _finished(folder: Path, fingerprint: Mapping[str, Any], overwrite: bool) -> Mapping[str, Any] | None:
    """The figures of the classifier in a folder; None if it may be trained again.

    Raises:
        InputError: the folder holds something else, or what was trained from other texts or another recipe.
        ArtifactError: a damaged classifier, which may only be overwritten.
    """
    if not os.path.isdir(folder) or not (folder / MANIFEST).is_file():
        if os.path.isdir(folder) and not visible_names(folder):
            return None
        raise InputError("something else is in the classifier's place", where=folder, remedy="move it away")
    try:
        saved = read_files(folder)
        run = saved.facts.get("run")
        metrics = metrics_of(saved)
    except PennyweightError:
        if overwrite:
            return None
        raise
    run = run if isinstance(run, dict) else {}
    compared = {
        key: value for key, value in fingerprint.items()
        if key not in _OF_THE_MACHINE and not key.startswith("version of ")
    }  # fmt: skip
    if ResumePoint(finished=run).is_finished(compared):
        return metrics
    if overwrite:
        return None
    changed = [key for key, value in compared.items() if run.get(key) != value]
    shown = ", ".join(changed[:4]) + (f" and {len(changed) - 4} more" if len(changed) > 4 else "")
    raise InputError(
        f"the classifier is finished, but was trained with other settings or texts: {shown}",
        where=folder,
        remedy="train it again with --overwrite, or choose another --out",
    )


def _in_words(error: BaseException) -> str:
    """A failure in one line."""
    words = " ".join(str(error).split())
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "out of memory" in words.lower()):
        return "out of memory; lower batch_size or max_length, or train with fewer --workers"
    if isinstance(error, PennyweightError | OSError):
        return words
    logger.error("a bug in Pennyweight, please report it", exc_info=error)
    return f"{type(error).__name__}: {words}; this is a bug in Pennyweight, please report it"


def with_threads(tenant: Tenant, threads: int | None) -> Tenant:
    """The tenant with as many threads, unless its row or the recipe says how many; None leaves it as it is."""
    if threads is None or tenant.recipe.train.threads is not None:
        return tenant
    train = tenant.recipe.train.model_copy(update={"threads": threads})
    return replace(tenant, recipe=tenant.recipe.model_copy(update={"train": train}))
