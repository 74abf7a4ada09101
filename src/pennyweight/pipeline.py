"""The one way through the house: recipe, data, budget, model, train, evaluate, artifact."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .budget.cost import work
from .budget.plan import Plan
from .data.label_cells import count_unlabelled
from .data.labels import find_order_source
from .data.load import Data
from .data.load import load as load_data
from .data.provenance import ENDINGS, SOURCES, absolute_recipe, provenance
from .errors import DataError, InputError
from .model.backbone import config_of
from .recipe.loading import resolve_recipe
from .recipe.planning import plan_for
from .recipe.schema import Recipe
from .storage.folders import refuse_nonempty_folder
from .storage.locks import lock_folder
from .train.machine_speed import remember_speed
from .train.observer import say_to_logging

if TYPE_CHECKING:
    import numpy as np

    from .predict.predictor import Classifier
    from .train.observer import Observer
    from .train.state import FitResult

logger = logging.getLogger(__name__)


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
    say: Callable[[str], None] | None = None,
    **settings: Any,
) -> Classifier:
    """Train a classifier under a budget.

    Args:
        data: labelled texts: a path, a hub name, (text, label) pairs, a pandas DataFrame, a `datasets.Dataset`...
        test: labelled texts to measure on, in any of these forms.
        recipe: a shipped name, a YAML file or a `Recipe`.
        out: folder for the run: checkpoints, then the saved classifier and its report. None keeps all in memory.
        resume: go on from the newest checkpoint in `out`, which has to be named.
        resume_anyway: even when recipe, data or versions changed since.
        overwrite: replace a finished run in `out`.
        observer: is told of each step and evaluation.
        say: deprecated; receives what is logged, a message at a time.
        **settings: any field of the recipe by its key: `budget="200k"`, `epochs=3`, `learning_rate=1e-4`.

    Returns:
        The classifier with the best validation score, its figures in `.metrics`.

    Raises:
        PennyweightError: the whole tree; see `pennyweight.errors`. Where a former classifier was to be replaced it is
            still there.
        Interrupted: by SIGINT, SIGTERM or SIGHUP, once the state is saved; no `Exception`.
    """
    settled = absolute_recipe(resolve_recipe(recipe, settings), {"train": data, "test": test})
    _check_sources(settled, recipe, {"train": data, "test": test} | settings)
    if out is None:
        if resume or resume_anyway:
            raise InputError("nothing to resume: no run folder is named", remedy="name it with --out")
        with say_to_logging(say):
            return _run(settled, data, test, None, False, False, observer)
    folder = Path(out)
    _check_folder(folder, resume, overwrite)
    from .train.resume import unfinished_run
    from .train.signals import resumable

    with say_to_logging(say), lock_folder(folder), resumable(folder, lambda: unfinished_run(folder), overwrite):
        return _run(settled, data, test, folder, resume, resume_anyway, observer)


def plan(recipe: str | Path | Recipe = "default", *, labels: int = 2, **settings: Any) -> Plan:
    """What a recipe would train, counted from the backbone's config alone: no weights, no data.

    Args:
        recipe: a shipped name, a YAML file or a `Recipe`.
        labels: number of classes.
        **settings: any field of the recipe by its key.

    Raises:
        BudgetError: it does not fit the budget.
    """
    resolved = resolve_recipe(recipe, settings)
    return plan_for(resolved, config_of(resolved.model.backbone, resolved.model.revision), labels)


def _run(
    recipe: Recipe,
    train_data: Any,
    test_data: Any,
    folder: Path | None,
    resume: bool,
    resume_anyway: bool,
    observer: Observer | None,
) -> Classifier:
    """Every stage, in order."""
    # Imported here, so that planning and help never wait for torch.
    from .artifact.artifact import Artifact
    from .artifact.load_artifact import read_fingerprint
    from .artifact.model_card import model_card
    from .artifact.save_artifact import save_artifact
    from .artifact.versions import versions
    from .audit.short_audit import audit_splits
    from .evaluate.metrics import epoch_metrics as quick
    from .model.adapters.lora import scale
    from .model.backbone import resolve
    from .model.classifier import ModelSettings, build
    from .model.device import choose, machine
    from .model.inference import TokenFeed, logits
    from .model.tokenizer import check_max_length, encode, load_tokenizer
    from .model.trainable import trainable
    from .predict.predictor import Classifier, load
    from .runs.robustness import refuse_several
    from .runs.stage import Report
    from .train.accelerator import make_accelerator
    from .train.augmentation import augment
    from .train.batch_source import choose_batch_sources
    from .train.checkpoint import check_fits
    from .train.class_balance import class_weights, label_counts
    from .train.energy import EnergyMeter
    from .train.head_init import fit_head
    from .train.loop import fit
    from .train.resume import ResumePoint, mark_begun, mark_ended, run_fingerprint
    from .train.state import TrainingState
    from .train.training_rows import TrainingRows

    # recipe: settled by now. data:
    data = load_data(recipe.data, train_data, test_data)
    sources = provenance(recipe.data, {"train": train_data, "test": test_data}, data)
    logger.info(_data_line(data))
    for note in data.notes:
        logger.info(note)
    if data.labels.multi and (recipe.train.shift or data.ood is not None):
        refuse_several()  # now, not after an hour of training
    weights = class_weights(data.labels.encode(data.train), data.labels.names, recipe.train.class_weights)

    # budget: from the config alone, before any weight is loaded
    plan = plan_for(recipe, config_of(recipe.model.backbone, recipe.model.revision), len(data.labels.names))
    logger.info(_plan_line(plan))

    # model
    resume_point = ResumePoint()
    if folder is not None and resume:
        resume_point = ResumePoint.find(folder, read_fingerprint(folder))
    precision = resume_point.precision(recipe.train.precision)
    runtime = choose(recipe.train.device, precision, recipe.train.threads)
    backbone = resolve(recipe.model.backbone, recipe.model.revision)
    check_max_length(recipe.data.max_length, backbone.config)
    frozen = backbone.fingerprint()
    facts = run_fingerprint(
        recipe.model_dump(mode="json"), data=data.fingerprint(), backbone=frozen, config=backbone.config,
        runtime=runtime, versions=versions(),
    )  # fmt: skip
    if folder is not None and resume_point.is_finished(facts):
        logger.info(f"this run is finished, nothing is left to do: {folder}")
        return load(folder, device=recipe.train.device, precision=runtime.precision)
    resume_point.check(facts, resume_anyway)
    settings = ModelSettings(**recipe.model.settings(), head_dropout=recipe.plan.head_dropout, seed=recipe.train.seed)
    model = build(backbone, plan, len(data.labels.names), runtime, settings)
    logger.info(f"model: {recipe.model.backbone} on {runtime.device} in {runtime.precision}, {model.engine} encoder")
    bundle = Artifact(
        model, load_tokenizer(backbone.folder), backbone, data.labels, recipe, plan, metrics={},
        input_spec=data.input_spec, run=facts,
    )  # fmt: skip
    classifier = Classifier(bundle, runtime)

    # train: texts become token ids once
    began = time.perf_counter()
    tokens = {
        name: encode(bundle.tokenizer, table.texts, recipe.data.max_length, pair=recipe.data.pair)
        for name, table in data.tables().items()
    }
    tokenize_seconds = time.perf_counter() - began
    truth = {name: data.labels.encode(table) for name, table in data.tables().items()}
    checked = audit_splits(
        recipe.train.audit, data.tables(), tokens, recipe.data.max_length, bundle.tokenizer.unk_token_id
    )
    if checked.mode != "off":
        logger.info(str(checked))

    # train: corrupted copies are rows like the others
    spare = augment(
        data.train.texts, tokens["train"],
        lambda texts: encode(bundle.tokenizer, texts, recipe.data.max_length, pair=recipe.data.pair),
        share=recipe.train.augment, copies=recipe.train.augment_copies, epochs=recipe.train.epochs,
        seed=recipe.train.seed,
    )  # fmt: skip
    rows, targets = tokens["train"], truth["train"]
    if spare is not None:
        logger.info(str(spare))
        rows, targets = spare.tokens, targets[spare.texts]

    # train: what frozen layers compute is computed once
    sources_of = {"train": rows} | ({"validation": tokens["validation"]} if "validation" in tokens else {})
    fed = choose_batch_sources(
        model,
        {
            name: TokenFeed(
                encoded, bundle.tokenizer.pad_token_id, recipe.data.pad_to_multiple_of, recipe.data.max_length,
                runtime.device,
            )
            for name, encoded in sources_of.items()
        },
        recipe.train,
        backbone=f"{frozen}/{model.engine}/{runtime.precision}",
        stochastic=bool(recipe.model.hidden_dropout or recipe.model.attention_dropout),
    )  # fmt: skip
    logger.info(str(fed))

    def validate() -> dict[str, float]:
        assert fed.validation is not None  # not asked for where there is none
        size, bucket = recipe.train.eval_batch_size, recipe.data.pad_to_multiple_of
        values = logits(model, fed.validation, tokens["validation"].lengths, batch_size=size, bucket=bucket)
        return quick.figures(truth["validation"], values, data.labels.names)

    facts["prefix kept"] = list(fed.prefixes)
    resume_point.check({"prefix kept": facts["prefix kept"]}, resume_anyway)
    if resume_point.checkpoint is not None and model.adaptive is None:  # ranks that move have more to keep
        check_fits(resume_point.checkpoint, trainable(model))  # before anything in the folder is touched
    if folder is not None:
        mark_begun(folder, resume_point.checkpoint)  # a former classifier stays until the new one is saved
    epochs = None if spare is None else spare.epochs
    training_rows = TrainingRows(fed.train, targets, rows.lengths, recipe.data.pad_to_multiple_of, weights, epochs)
    if recipe.train.lp_ft and resume_point.checkpoint is None:
        loss = fit_head(model, training_rows, batch_size=recipe.train.eval_batch_size)
        logger.info(f"head: fitted on frozen features, training loss {loss:.3f}")
    accelerator = make_accelerator(recipe.train, runtime, folder, resume_point.checkpoint)
    meter = EnergyMeter()
    state = TrainingState(
        model, training_rows, recipe.train, accelerator, plan.count.trainable, resume_point.checkpoint
    )
    outcome = fit(
        state,
        evaluate=validate if data.validation is not None else None,
        store=None if folder is None else folder / "checkpoints",
        fingerprint=facts,
        observer=observer,
    )
    joules = meter.joules()
    accelerator.end_training()
    how = {"device": runtime.device.type, "precision": runtime.precision, "engine": model.engine}
    _remember_speed(recipe, backbone.config, plan, tokens["train"].lengths, outcome, bool(fed.prefixes), how)

    if model.adaptive is not None:
        # What is measured, saved and served is what is left, as plain LoRA; `trainable` stays what was trained.
        bundle.plan = model.adaptive.settle(plan, len(data.labels.names))
        model.adaptive = None
        logger.info(bundle.plan.why[-1])
    scale(model.module, recipe.train.adapter_scale)

    # evaluate
    report = Report(classifier, data.tables(), tokens, truth, recipe.train.report if folder else "none", data.unknown)
    bundle.metrics = report.to_json(outcome.seconds, tokenize_seconds) | {
        "trainable": plan.count.trainable,
        "total": plan.count.total,
        "budget": plan.budget,
        "train": outcome.to_json() | {
            "rows": len(data.train),
            "truncated": tokens["train"].truncated,
            "tokenize_seconds": round(tokenize_seconds, 3),
            "prefix": fed.to_json(),
        },
        "data": {
            "labels": list(data.labels.names),
            "label_order": find_order_source(data.labels.names, recipe.data.label_names, data.train),
            "counts": label_counts(truth["train"], len(data.labels.names)),
            "cleaning": data.cleaning,
            "sources": sources,
        },
        "audit": checked.to_json(),
        "machine": machine(runtime) | {"encoder": model.engine, "training_energy_joules": joules},
    }  # fmt: skip

    report.under_shift(recipe.train.shift, data.ood)

    # artifact
    bundle.card = model_card(bundle)
    if folder is not None:
        save_artifact(bundle, folder)
        report.write(folder, outcome.history)  # after: until then a former classifier's report stays with it
        mark_ended(folder)
        logger.info(f"saved: {folder}")
    return classifier


def _remember_speed(
    recipe: Recipe,
    config: dict[str, Any],
    plan: Plan,
    lengths: np.ndarray,
    outcome: FitResult,
    cached: bool,
    how: dict[str, str],
) -> None:
    """Keep this machine's speed for the estimates of `pennyweight plan`; a head alone is too little work to tell."""
    if plan.adapter is None:
        return
    each = work(config, plan, length=round(float(lengths.mean())), pooling=recipe.model.pooling).per_text(cached=cached)
    remember_speed(each * outcome.texts, outcome.seconds, **how)


def _check_sources(recipe: Recipe, source: str | Path | Recipe, given: dict[str, Any]) -> None:
    """A recipe out of a saved classifier names its data without their folders: say which files are to be given."""
    if isinstance(source, Recipe) or not os.path.isfile(source):
        return
    named = {key: getattr(recipe.data, key) for key in SOURCES if given.get(key) is None}
    lost = {
        key: name
        for key, name in named.items()
        if name is not None and name == os.path.basename(name) and name.lower().endswith(ENDINGS)
        and not os.path.exists(name)
    }  # fmt: skip
    if lost:
        words = " ".join(f"FOLDER/{name}" if key == "train" else f"--{key} FOLDER/{name}" for key, name in lost.items())
        raise DataError(
            f"the recipe names {' and '.join(lost.values())}, which {'is' if len(lost) == 1 else 'are'} not here",
            where=source,
            remedy=f"say where: `pennyweight train {words} --recipe {source}`",
        )


def _check_folder(folder: Path, resume: bool, overwrite: bool) -> None:
    """Never write into a folder that holds something else, nor over a finished run, unless told to."""
    if resume and overwrite:
        raise InputError("--resume and --overwrite contradict each other", remedy="go on, or begin anew: drop one")
    if os.path.isfile(folder) or not (resume or overwrite):
        remedy = "go on with --resume, replace it with --overwrite, or choose another --out"
        refuse_nonempty_folder(folder, "the run folder", "choose another --out" if os.path.isfile(folder) else remedy)


def _data_line(data: Data) -> str:
    test = "" if data.test is None else f", {len(data.test):,} test"
    validation = "no" if data.validation is None else f"{len(data.validation):,}"
    dropped = sum(sum(report["dropped"].values()) for report in data.cleaning.values())
    gone = f" ({dropped:,} rows dropped)" if dropped else ""
    bare = sum(count_unlabelled(table) for table in data.tables().values())
    gone += f" ({bare:,} of all rows without any label)" if bare else ""
    return (
        f"data: {len(data.train):,} training, {validation} validation{test} texts{gone}, "
        f"{len(data.labels.names)} labels{', any number a text' if data.labels.multi else ''}: "
        f"{', '.join(data.labels.names)}"
    )


def _plan_line(plan: Plan) -> str:
    limit = "no budget" if plan.budget is None else f"of {plan.budget:,}"
    return f"plan: {plan.count.trainable:,} trainable parameters {limit} ({plan.strategy})"
