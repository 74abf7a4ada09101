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
from ..artifact.versions import versions
from ..audit.short_audit import audit_splits, warn_of_cut_splits
from ..errors import InputError, PennyweightError
from ..model.backbone import Backbone, config_of, resolve
from ..model.classifier import ModelSettings
from ..model.device import Runtime, check_inference_precision, choose
from ..model.inference.frozen_layers import FrozenLayers
from ..model.on_demand import OnDemand
from ..model.resident import ResidentBackbone
from ..model.text_model import TextModel
from ..model.tokenizer import check_max_length
from ..recipe.planning import plan_for
from ..recipe.schema import Recipe
from ..storage.atomic import atomic_folder
from ..storage.folders import visible_names
from ..train.auto_settings import settle
from ..train.frozen_features import FrozenBackbone, calibrated_layers
from ..train.random_state import preserved_random_state
from ..train.resume import ResumePoint, run_fingerprint
from ..train.run_folder import RunFolder
from .tenants import Tenant

logger = logging.getLogger(__name__)

# What may differ from when a classifier was trained without its being another: the same texts and the same recipe.
_OF_THE_MACHINE = ("device", "precision", "threads")


@dataclass(frozen=True)
class TenantOutcome:
    """What came of one row of a manifest.

    Attributes:
        state: `trained`, `finished` (in an earlier call) or `failed`.
        error: one line, where it failed.
        seconds: wall-clock time, its texts' reading included.
        metrics: the whole metrics.json; empty where it failed.
        peak_memory_mb: of the process, so far.
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
        self._layers: tuple[tuple[Backbone, int], OnDemand[FrozenLayers | None]] | None = None

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
        recipe = settle(recipe, loaded.splits.train.texts)
        planned = self._plan(recipe, loaded)
        if os.path.lexists(folder):
            metrics = _finished(folder, planned.fingerprint, self.overwrite)
            if metrics is not None:
                return "finished", metrics
        with preserved_random_state():
            built = self._build(recipe, loaded, planned)
            fitted = pipeline.fit_model(recipe, loaded, planned, built, RunFolder())
            evaluated = pipeline.evaluate_model(recipe, loaded, planned, built, fitted, report=True)
        with atomic_folder(folder) as aside:
            place = RunFolder(aside, shown=folder)
            saved = pipeline.save_model(recipe, loaded, planned, built, fitted, evaluated, place)
        return "trained", saved.classifier.metrics

    def _plan(self, recipe: Recipe, loaded: pipeline.LoadedData) -> pipeline.Planned:
        """As `pipeline.plan_run`, with a backbone whose files are hashed once, and nothing to resume."""
        wanted = recipe.model.backbone, recipe.model.revision
        plan = plan_for(recipe, config_of(*wanted), len(loaded.names))
        runtime = choose(recipe.train.device, recipe.train.precision, recipe.train.threads)
        check_inference_precision(runtime, recipe.train.inference_precision, recipe.train.prefix_precision)
        if wanted not in self._found:
            self._found[wanted] = resolve(*wanted)
        backbone = self._found[wanted]
        check_max_length(recipe.data.max_length, backbone.config)
        fingerprint = run_fingerprint(
            recipe.model_dump(mode="json"), data=loaded.splits.fingerprint(), backbone=backbone.fingerprint(),
            config=backbone.config, runtime=runtime, versions=versions(),
        )  # fmt: skip
        return pipeline.Planned(plan, backbone, runtime, ResumePoint(), fingerprint)

    def _build(self, recipe: Recipe, loaded: pipeline.LoadedData, planned: pipeline.Planned) -> pipeline.BuiltModel:
        """As `pipeline.build_model`, on the resident backbone."""
        resident = self._keep(planned.backbone, planned.runtime)
        dropout, seed = recipe.plan.head_dropout, recipe.train.seed
        settings = ModelSettings(**recipe.model.settings(), head_dropout=dropout, seed=seed)
        model = resident.build(planned.plan, len(loaded.names), settings)
        text_model = TextModel(
            model, resident.tokenizer, planned.runtime, recipe.data.max_length, recipe.data.pad_to_multiple_of,
            recipe.train.eval_batch_size, recipe.data.pair, long_texts=recipe.data.long_texts,
        )  # fmt: skip
        began = time.perf_counter()
        tables = loaded.splits.tables()
        tokens = {name: text_model.encode(table.texts) for name, table in tables.items()}
        seconds = time.perf_counter() - began
        unknown_id, pad_id = text_model.tokenizer.unk_token_id, text_model.tokenizer.pad_token_id
        audit = audit_splits(recipe.train.audit, tables, tokens, recipe.data.max_length, unknown_id)
        warn_of_cut_splits(tokens, recipe.data.max_length, loaded.targets, loaded.names)
        layers = self._layers_of(planned.backbone, recipe.data.max_length)
        frozen = FrozenBackbone(planned.backbone, recipe, planned.plan, planned.runtime, pad_id, layers)
        return pipeline.BuiltModel(text_model, tokens, seconds, audit, frozen, resident=True)

    def _layers_of(self, backbone: Backbone, max_length: int) -> OnDemand[FrozenLayers | None]:
        """The backbone's layers in int8, made when a recipe first asks for them; another's take their place."""
        if self._layers is None or self._layers[0] != (backbone, max_length):
            self._layers = (backbone, max_length), OnDemand(lambda: calibrated_layers(backbone, max_length))
        return self._layers[1]

    def _keep(self, backbone: Backbone, runtime: Runtime) -> ResidentBackbone:
        """The resident backbone; another one takes its place."""
        kept = self._resident
        if kept is None or kept.backbone is not backbone or kept.runtime != runtime:
            self._resident = None  # before the next one is loaded: two would take twice the memory
            self._resident = ResidentBackbone(backbone, runtime)
        assert self._resident is not None
        return self._resident


def _finished(folder: Path, fingerprint: Mapping[str, Any], overwrite: bool) -> Mapping[str, Any] | None:
    """The figures of the classifier in a folder; None where it may be trained again.

    Raises:
        InputError: the folder holds something else, or what was trained from other texts or another recipe.
        ArtifactError: a damaged classifier, which may only be overwritten.
    """
    if not os.path.isdir(folder) or not (folder / MANIFEST).is_file():
        if os.path.isdir(folder) and not visible_names(folder):
            return None
        raise InputError("something else is in the place of the classifier", where=folder, remedy="move it away")
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
        f"it is finished, and was trained with other settings or texts: {shown}",
        where=folder,
        remedy="train it again with --overwrite, or name another --out",
    )


def _in_words(error: BaseException) -> str:
    """A failure in one line."""
    words = " ".join(str(error).split())
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "out of memory" in words.lower()):
        return "out of memory; lower batch_size or max_length, or train with fewer --workers"
    if isinstance(error, PennyweightError | OSError):
        return words
    logger.error("a fault in Pennyweight, please report it", exc_info=error)
    return f"{type(error).__name__}: {words}; this is a fault in Pennyweight, please report it"


def with_threads(tenant: Tenant, threads: int | None) -> Tenant:
    """The tenant with as many threads, unless its row or the recipe says how many; None leaves it as it is."""
    if threads is None or tenant.recipe.train.threads is not None:
        return tenant
    train = tenant.recipe.train.model_copy(update={"threads": threads})
    return replace(tenant, recipe=tenant.recipe.model_copy(update={"train": train}))
