"""Training, stage by stage: load data, plan, build, fit, evaluate, save. Each stage returns one frozen result."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from .budget.plan import Plan
from .data.labels import find_order_source
from .data.provenance import absolute_recipe, check_sources_exist
from .model.backbone import Backbone, config_of, resolve
from .recipe.planning import plan_for
from .recipe.schema import Recipe
from .runs.loaded_data import LoadedData as LoadedData
from .runs.loaded_data import load_data as load_data
from .runs.starting_recipe import starting_recipe
from .train.auto_settings import settle
from .train.launcher import is_follower
from .train.observer import Observer, say_to_logging
from .train.training_display import followed

if TYPE_CHECKING:  # torch, and what stands on it, is imported inside the stages: planning and help do not wait for it
    from .audit.short_audit import ShortAudit
    from .data.batching import Encoded
    from .evaluate.evaluation import Evaluation
    from .evaluate.labelled_rows import LabelledRows
    from .evaluate.metrics.shift import Shift
    from .model.device import Runtime
    from .model.resident import ResidentBackbone
    from .model.text_model import TextModel
    from .predict.predictor import Classifier
    from .recipe.settings import RecipeSettings
    from .train.bias_offsets import BiasOffsets
    from .train.frozen_features import FrozenBackbone
    from .train.inference_precision import ReadyModel
    from .train.resume import ResumePoint
    from .train.run_folder import RunFolder
    from .train.state import FitResult

logger = logging.getLogger(__name__)

FindBackbone = Callable[[str, str | None], Backbone]


def train(
    data: Any = None,
    *,
    test: Any = None,
    recipe: str | Path | Recipe = "default",
    out: str | Path | None = None,
    resume: bool = False,
    resume_anyway: bool = False,
    overwrite: bool = False,
    observer: Observer | None = None,
    **settings: Unpack[RecipeSettings],
) -> Classifier:
    """Train a classifier under a budget. Processes started by torchrun train it together.

    Args:
        data: labelled texts: a path, a hub name, (text, label) pairs, a pandas DataFrame, a `datasets.Dataset`...
        test: labelled texts for the final measurement, in any of these forms.
        recipe: a shipped name, a YAML file or a `Recipe`.
        out: run folder for checkpoints, the saved classifier and its report. None keeps everything in memory.
        resume: continue from the newest checkpoint in `out`; resume_anyway: even if recipe, data or versions changed.
        overwrite: replace a finished run in `out`.
        observer: is called after each step and evaluation; everything else is logged, see `train.observer`.
        **settings: any recipe field by key: `budget="200k"`, `epochs=3`; and `progress`: show a bar and the log, by
            default on a terminal and in a notebook, unless there is an observer.

    Returns:
        The classifier, of the epoch that did best on the validation rows, with its metrics in `.metrics`.

    Raises:
        PennyweightError: any error of `pennyweight.errors`; a classifier to be replaced is kept.
        Interrupted: by SIGINT, SIGTERM or SIGHUP, once the state is saved; not an `Exception`.
    """
    say, progress = settings.pop("say", None), settings.pop("progress", None)
    if is_follower():  # of several processes the first reads all this, and tells the others
        return train_beside()
    resolved = absolute_recipe(starting_recipe(recipe, settings), {"train": data, "test": test})
    check_sources_exist(resolved, recipe, {"train": data, "test": test} | settings)
    from .train.run_folder import open_run_folder

    options = {"resume": resume, "resume_anyway": resume_anyway, "overwrite": overwrite}
    with say_to_logging(say), followed(observer, progress) as observer, open_run_folder(out, **options) as folder:
        return _run(resolved, data, test, folder, observer)


def train_beside() -> Classifier:
    """Take part in the training whose first process calls `train`; the classifier is that one's."""
    from .train.run_folder import open_run_folder

    with open_run_folder(None, resume=False, resume_anyway=False, overwrite=False) as folder:
        return _run(Recipe(), None, None, folder, None)


def _run(recipe: Recipe, train_data: Any, test_data: Any, folder: RunFolder, observer: Observer | None) -> Classifier:
    """Every stage, in order. Of several processes the first one decides and finishes, and all of them train."""
    from .train.random_state import preserved_random_state

    group = folder.group
    recipe, loaded, planned = group.first(partial(_decide, recipe, train_data, test_data, folder))
    if planned.is_finished:
        return group.first(partial(_finished, recipe, folder))
    planned = replace(planned, runtime=group.runtime(planned.runtime, recipe.train.threads))
    if group.rank:
        from .train.follower import follow

        recipe, backbone = follow(recipe, str(planned.fingerprint["backbone"]))
        planned = replace(planned, backbone=backbone)
    with preserved_random_state():
        built = build_model(recipe, loaded, planned)
        fitted = fit_model(recipe, loaded, planned, built, folder, observer)
        return group.first(partial(_conclude, recipe, loaded, planned, built, fitted, folder))


def _decide(recipe: Recipe, train_data: Any, test_data: Any, folder: RunFolder) -> tuple[Recipe, LoadedData, Planned]:
    """The stages before the model."""
    folder.group.check_batch_size(recipe.train.batch_size)
    loaded = load_data(recipe, train_data, test_data)
    recipe = settle(recipe, loaded.splits.train.texts, loaded.targets["train"], loaded.names)
    return recipe, loaded, plan_run(recipe, loaded, folder)


def _finished(recipe: Recipe, folder: RunFolder) -> Classifier:
    from .predict.predictor import load

    assert folder.path is not None
    logger.info(f"this run is finished, nothing is left to do: {folder.path}")
    return load(folder.path, device=recipe.train.device)


def _conclude(
    recipe: Recipe, loaded: LoadedData, planned: Planned, built: BuiltModel, fitted: Fitted, folder: RunFolder
) -> Classifier:
    """The stages after training."""
    evaluated = evaluate_model(recipe, loaded, planned, built, fitted, report=folder.path is not None)
    return save_model(recipe, loaded, planned, built, fitted, evaluated, folder).classifier


# --- plan --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Planned:
    """The decisions made before any weight is loaded.

    Attributes:
        quantization: of the frozen matrices in training steps, resolved.
        fingerprint: what the result depends on, see `train.resume.run_fingerprint`.
    """

    plan: Plan
    backbone: Backbone
    runtime: Runtime
    quantization: str
    resume_point: ResumePoint
    fingerprint: Mapping[str, Any]

    @property
    def is_finished(self) -> bool:
        """Whether the classifier in the run's folder is already the result of this run."""
        return self.resume_point.is_finished(self.fingerprint)


def plan_run(recipe: Recipe, loaded: LoadedData, folder: RunFolder, find: FindBackbone = resolve) -> Planned:
    """Spend the budget, `find` the backbone, find the checkpoint to resume from, choose device and number format.

    Raises:
        BudgetError: it does not fit the budget.
        RecipeError: the run to resume was another.
    """
    from .artifact.load_artifact import read_fingerprint
    from .artifact.versions import versions
    from .model.classifier import ModelSettings
    from .model.device import check_inference_precision, choose
    from .model.quantization import choose_quantization
    from .model.tokenizer import check_max_length
    from .train.few_labels import suits_few_labels
    from .train.resume import ResumePoint, run_fingerprint

    plan = plan_for(recipe, config_of(recipe.model.backbone, recipe.model.revision), len(loaded.names))
    # Refuses before weights load.
    suits_few_labels(recipe.train, plan, loaded.targets["train"], len(loaded.names), folder.group.size)
    limit = "no budget" if plan.budget is None else f"of {plan.budget:,}"
    logger.info(f"plan: {plan.count.trainable:,} trainable parameters {limit} ({plan.strategy})")
    resume_point = ResumePoint()
    if folder.path is not None and folder.resume:
        resume_point = ResumePoint.find(folder.path, read_fingerprint(folder.path))
    runtime = choose(recipe.train.device, resume_point.precision(recipe.train.precision), recipe.train.threads)
    check_inference_precision(runtime, recipe.train.inference_precision, recipe.train.prefix_precision)
    backbone = find(recipe.model.backbone, recipe.model.revision)
    check_max_length(recipe.data.max_length, backbone.config)
    settings = ModelSettings(**recipe.model_settings(resume_point.quantization(recipe.train.quantization)))
    quantization = choose_quantization(settings, backbone.config, plan, runtime)
    fingerprint = run_fingerprint(
        recipe.model_dump(mode="json"), data=loaded.fingerprint, backbone=backbone.fingerprint(),
        config=backbone.config, runtime=runtime, versions=versions(), quantization=quantization,
        processes=folder.group.size,
    )  # fmt: skip
    planned = Planned(plan, backbone, runtime, quantization, resume_point, fingerprint)
    if not planned.is_finished:
        resume_point.check(fingerprint, folder.resume_anyway)
    return planned


# --- build -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class BuiltModel:
    """The model, and the texts as it reads them.

    Attributes:
        text_model: the frozen backbone with adapter and head, and the tokenizer.
        tokens: by split.
        tokenize_seconds: what tokenizing took.
        audit: audit of the splits.
        frozen: the backbone without the adapter.
        resident: whether the backbone stays loaded for further classifiers; then none has an engine of its own.
    """

    text_model: TextModel
    tokens: Mapping[str, Encoded]
    tokenize_seconds: float
    audit: ShortAudit
    frozen: FrozenBackbone
    resident: bool = False


def build_model(
    recipe: Recipe, loaded: LoadedData, planned: Planned, resident: ResidentBackbone | None = None
) -> BuiltModel:
    """Load the backbone, inject the adapter, put the head on top; tokenize every text once, and audit them.

    Args:
        resident: the backbone, where it is loaded already and stays for further classifiers.
    """
    from .audit.short_audit import audit_splits, log_findings
    from .model.classifier import ModelSettings, build
    from .model.text_model import TextModel
    from .model.tokenizer import load_tokenizer
    from .train.frozen_features import FrozenBackbone

    backbone, runtime = planned.backbone, planned.runtime
    settings = ModelSettings(**recipe.model_settings(planned.quantization))
    make = partial(build, backbone, runtime=runtime) if resident is None else resident.build
    model = make(plan=planned.plan, labels=len(loaded.names), settings=settings)
    logger.info(f"model: {recipe.model.backbone} on {runtime.device} in {runtime.precision}, {model.how} encoder")
    text_model = TextModel(
        model, load_tokenizer(backbone.folder) if resident is None else resident.tokenizer, runtime,
        recipe.data.max_length, recipe.data.pad_to_multiple_of,
        recipe.train.eval_batch_size, recipe.data.pair, long_texts=recipe.data.long_texts,
    )  # fmt: skip
    began = time.perf_counter()
    tables = loaded.splits.tables()
    tokens = {name: text_model.encode(table.texts) for name, table in tables.items()}
    seconds = time.perf_counter() - began
    audit = audit_splits(recipe.train.audit, tables, tokens, recipe.data.max_length, text_model.tokenizer.unk_token_id)
    log_findings(audit, tokens, recipe.data.max_length, loaded.targets, loaded.names)
    layers = None if resident is None else resident.layers(recipe.data.max_length)
    frozen = FrozenBackbone(
        backbone, recipe, planned.plan, runtime, text_model.tokenizer.pad_token_id, layers,
        int8=planned.quantization == "int8",
    )  # fmt: skip
    return BuiltModel(text_model, tokens, seconds, audit, frozen, resident=resident is not None)


# --- fit ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Fitted:
    """The result of training; the weights are in the model of the stage before.

    Attributes:
        plan: the plan, without the ranks that training removed.
        prefix: description of the cached prefix, as in metrics.json; None if nothing was cached.
        joules: energy of the training; None if it cannot be measured.
        ready: the trained model as it is measured and saved, see `train.inference_precision`.
        fingerprint: the plan stage's, with whose prefixes were kept.
    """

    plan: Plan
    result: FitResult
    prefix: Mapping[str, Any] | None
    joules: float | None
    fingerprint: Mapping[str, Any]
    ready: ReadyModel


def fit_model(
    recipe: Recipe,
    loaded: LoadedData,
    planned: Planned,
    built: BuiltModel,
    folder: RunFolder,
    observer: Observer | None = None,
) -> Fitted:
    """Train adapter and head, from the checkpoint to resume from if there is one; `Interrupted` after a signal."""
    from .train.accelerator import end_training, make_accelerator
    from .train.energy import energy_meter
    from .train.few_labels import fit_few_labels
    from .train.frozen_head import compare_head
    from .train.inference_precision import as_trained, prepare_inference
    from .train.loop import fit
    from .train.machine_speed import remember_training
    from .train.memory_choice import choose_gradient_checkpointing
    from .train.model_start import start_model
    from .train.state import TrainingState
    from .train.training_rows import prepare_rows
    from .train.validator import make_validator

    settings, model, group = recipe.train, built.text_model.model, folder.group
    checkpoint, kept = planned.resume_point.checkpoint, planned.resume_point.prefixes(folder.resume_anyway)
    built.frozen.group = group
    rows, sources = prepare_rows(built.text_model, loaded.training, built.tokens, settings, built.frozen, kept)
    prefixes = {"prefix kept": list(sources.prefixes)}
    choose_gradient_checkpointing(built.text_model, rows, built.frozen)
    planned.resume_point.begin(model, prefixes, folder.path, folder.resume_anyway)
    fingerprint = {**planned.fingerprint, **prefixes}
    if checkpoint is None:
        start_model(model, rows, built.frozen, settings, fingerprint, loaded.start)
    prepare = partial(
        prepare_inference, built.text_model, planned.backbone, settings=settings, tokens=built.tokens,
        labels=loaded.targets, reference=recipe.model.encoder == "reference",
    )  # fmt: skip
    few = None if checkpoint else fit_few_labels(
        built.text_model, planned.plan, built.tokens, loaded.targets, loaded.names, built.frozen, loaded.descriptions
    )  # fmt: skip
    if few is not None:
        return Fitted((ready := prepare(few.plan)).plan, few.result, sources.to_json(), None, fingerprint, ready)
    accelerator = make_accelerator(settings, planned.runtime, folder.path, checkpoint)
    meter = energy_meter(planned.runtime.device)
    counts = planned.plan.count.trainable, len(loaded.targets.get("validation", ()))
    state = TrainingState(model, rows, settings, accelerator, *counts, checkpoint, group)
    validate = make_validator(built.text_model, sources.validation, built.tokens, loaded.targets, loaded.names, group)
    result = fit(state, evaluate=validate, store=folder.checkpoints, fingerprint=fingerprint, observer=observer)
    joules = end_training(accelerator, meter)
    if group.rank:
        return Fitted(planned.plan, result, None, None, fingerprint, as_trained(built.text_model, planned.plan))
    remember_training(
        planned.plan, planned.backbone.config, result, round(float(built.tokens["train"].lengths.mean())),
        pooling=recipe.model.pooling, cached=bool(sources.prefixes), processes=group.size,
        how=(planned.runtime.unit, "int8" if model.quantization == "int8" else planned.runtime.precision, model.engine),
    )  # fmt: skip
    # What is measured, saved and served is what is left, as plain LoRA; `trainable` stays what was trained.
    held_out = sources.held_out(built.text_model, built.tokens) if built.resident else None
    ready = prepare(planned.plan, validation=held_out)
    ready, result.frozen_head = compare_head(ready, built.frozen, planned.plan, built.tokens, loaded.targets, prepare)
    return Fitted(ready.plan, result, sources.to_json(), joules, fingerprint, ready)


# --- evaluate ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Evaluated:
    """How good the classifier is.

    Attributes:
        rows: by split.
        evaluation: None if nothing was held out and there are no test texts.
        seconds: seconds of training and comparing with the `baselines`, and of `measuring`.
        shift: on corrupted texts and texts of another kind, where the recipe asks for it.
        offsets: what was added to the head's biases, where anything was tried.
    """

    rows: Mapping[str, LabelledRows]
    evaluation: Evaluation | None
    seconds: Mapping[str, float]
    shift: Shift | None = None
    offsets: BiasOffsets | None = None


def evaluate_model(
    recipe: Recipe, loaded: LoadedData, planned: Planned, built: BuiltModel, fitted: Fitted, *, report: bool
) -> Evaluated:
    """Measure on the test texts, or on the validation texts where there are none.

    Args:
        report: whether a report will be written; without one no baselines are trained.
    """
    from .evaluate.evaluation import EvaluationSettings, evaluate
    from .runs.robustness import shift_of_run
    from .train.baselines import train_baselines
    from .train.bias_offsets import offset_biases, with_threshold

    rows, model = loaded.rows(built.tokens), fitted.ready.text_model
    if rows.keys() == {"train"}:
        logger.info("nothing is measured: there are no validation or test texts")
        return Evaluated(rows, None, {"baselines": 0.0, "measuring": 0.0})
    wanted, result = recipe.train, fitted.result
    frozen = built.frozen if wanted.report == "full" and not result.keeps_frozen else None  # no baseline of itself
    head = result.frozen_head
    baselines = train_baselines(rows, built.tokens, len(loaded.names), frozen, head, seed=wanted.seed) if report else ()
    began = time.perf_counter()
    logits, predicting = fitted.ready.held_out_logits({name: built.tokens[name] for name in rows})
    logits, offsets = offset_biases(model, logits, rows, built.tokens, wanted, loaded.names)
    settings = EvaluationSettings(recipe.data.ordinal, wanted.thresholds, note=with_threshold(result.note, offsets))
    evaluation = evaluate(rows, logits, loaded.names, settings, baselines)
    seconds = {"baselines": sum(b.seconds for b in baselines), "measuring": time.perf_counter() - began} | predicting
    shift = None
    if wanted.shift or loaded.splits.ood is not None:
        assert evaluation.calibration is not None  # multi-label data was refused at the start
        temperature, corrupted = evaluation.calibration.temperature, wanted.shift
        shift = shift_of_run(model, temperature, loaded.splits, evaluation.measured_on, corrupted=corrupted)
    return Evaluated(rows, evaluation, seconds, shift, offsets)


# --- save --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Saved:
    """The finished classifier, and its folder; None if it is in memory only."""

    classifier: Classifier
    folder: Path | None


def save_model(
    recipe: Recipe,
    loaded: LoadedData,
    planned: Planned,
    built: BuiltModel,
    fitted: Fitted,
    evaluated: Evaluated,
    folder: RunFolder,
) -> Saved:
    """Put the artifact together, and write it and its report into the run's folder if there is one."""
    from .artifact.artifact import Artifact
    from .artifact.model_card import model_card
    from .artifact.save_artifact import save_artifact
    from .predict.predictor import Classifier
    from .runs.reports import write_reports
    from .train.resume import mark_ended

    evaluation = evaluated.evaluation
    predictions = {} if evaluation is None else evaluation.predictions
    pooled = recipe.model.model_copy(update={"pooling": built.text_model.model.pooling})  # few labels choose the mean
    recipe = recipe.model_copy(update={"model": pooled})
    artifact = Artifact.of_model(
        built.text_model.model, built.text_model.tokenizer, planned.backbone, loaded.splits.labels, recipe, fitted.plan,
        metrics=run_metrics(recipe, loaded, planned, built, fitted, evaluated),
        input_spec=loaded.splits.input_spec,
        predictions={key: rows for name, each in predictions.items() for key, rows in each.to_arrays(name).items()},
        run=dict(fitted.fingerprint),
        ranges=dict(fitted.ready.ranges),
    )  # fmt: skip
    artifact = replace(artifact, card=model_card(artifact))
    if folder.path is not None:
        save_artifact(artifact, folder.path)
        # Only now: until the save is complete, an earlier classifier's report stays with it.
        write_reports(folder.path, artifact, evaluation, evaluated.rows, evaluated.shift, shown=folder.shown)
        mark_ended(folder.path)
        logger.info(f"saved: {folder.path}")
    return Saved(Classifier(artifact, fitted.ready.text_model.runtime), folder.path)


def run_metrics(
    recipe: Recipe, loaded: LoadedData, planned: Planned, built: BuiltModel, fitted: Fitted, evaluated: Evaluated
) -> dict[str, Any]:
    """metrics.json: what was measured, and what it was measured with."""
    from .evaluate.evaluation import unmeasured
    from .model.device import machine
    from .train.class_balance import label_counts

    splits, evaluation, names = loaded.splits, evaluated.evaluation, loaded.names
    figures = unmeasured(names, multi_label=splits.labels.multi) if evaluation is None else evaluation.to_json()
    seconds = {"training": fitted.result.seconds, "tokenizing": built.tokenize_seconds} | dict(evaluated.seconds)
    metrics = figures | loaded.told(evaluation) | {
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "trainable": (planned.plan if fitted.plan.adapter else fitted.plan).count.trainable,
        "total": (planned.plan if fitted.plan.adapter else fitted.plan).count.total,
        "stored": fitted.plan.count.stored,
        "budget": planned.plan.budget,
        "train": fitted.result.to_json() | {
            "rows": len(splits.train),
            "truncated": built.tokens["train"].truncated,
            "tokenize_seconds": round(built.tokenize_seconds, 3),
            "prefix": fitted.prefix,
        },
        "data": {
            "labels": list(names),
            "label_order": find_order_source(names, recipe.data.label_names, splits.train),
            "counts": label_counts(loaded.targets["train"], len(names)),
            "cleaning": splits.cleaning,
            "sources": loaded.sources,
        },
        "audit": built.audit.to_json(),
        "inference": fitted.ready.choice.to_json(),
        "machine": machine(planned.runtime) | {
            "encoder": built.text_model.model.engine, "quantization": planned.quantization,
            "training_energy_joules": fitted.joules,
        },
    }  # fmt: skip
    if evaluated.offsets is not None:
        metrics["bias_offsets"] = evaluated.offsets.to_json()
    if evaluation is not None and evaluated.shift is not None:
        metrics["shift"] = evaluated.shift.to_json() | {"measured_on": evaluation.measured_on}
    return metrics
