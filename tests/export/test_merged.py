"""Merged models that stock transformers loads, with the same logits."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pennyweight.artifact.artifact import Artifact
from pennyweight.data.labels import LabelSet
from pennyweight.errors import ArtifactError
from pennyweight.export.difference import logit_difference
from pennyweight.export.merged import to_merged
from pennyweight.export.peft import to_peft
from pennyweight.model.backbone import resolve
from pennyweight.model.classifier import ModelSettings, build
from pennyweight.model.tokenizer import load_tokenizer
from pennyweight.predict.predictor import Classifier
from pennyweight.recipe import loading as recipe
from pennyweight.recipe.planning import plan_for

from ..forked_python import ForkedPython
from .random_classifier import CPU, NAMES, trained
from .readme_code import code_of, printed


def test_merged_model_gives_the_same_logits(tiny_backbone: Callable[..., Path], tmp_path: Path) -> None:
    artifact = trained(tiny_backbone("roberta"))
    assert to_merged(artifact, tmp_path / "merged") < 1e-4

    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    assert logit_difference(artifact, model) < 1e-4
    assert model.config.id2label == dict(enumerate(NAMES))


def test_a_head_alone_exports_merged(tiny_backbone: Callable[..., Path], tmp_path: Path) -> None:
    folder = tiny_backbone("bert")
    wanted = recipe.load(backbone=str(folder), strategy="head-only", budget="none")
    backbone = resolve(str(folder))
    plan = plan_for(wanted, backbone.config, len(NAMES))
    model = build(backbone, plan, len(NAMES), CPU, ModelSettings(**wanted.model.settings()))
    artifact = Artifact.of_model(model.eval(), load_tokenizer(folder), backbone, LabelSet(NAMES), wanted, plan, {})
    with pytest.raises(ArtifactError, match="there is no adapter: only the head was trained; use --format merged"):
        to_peft(artifact, tmp_path / "peft")
    assert to_merged(artifact, tmp_path / "merged") < 1e-4
    pooled = wanted.model_copy(update={"model": wanted.model.model_copy(update={"pooling": "mean"})})
    with pytest.raises(ArtifactError, match="only the head was trained; use --format onnx"):
        to_peft(replace(artifact, recipe=pooled), tmp_path / "peft")


def test_the_pipeline_gives_our_probabilities(tiny_backbone: Callable[..., Path], tmp_path: Path) -> None:
    artifact = replace(trained(tiny_backbone("bert")), metrics={"calibration": {"temperature": 1.7}})
    assert to_merged(artifact, tmp_path / "merged") < 1e-4
    answers = printed(tmp_path / "merged", "pennyweight")
    ours = Classifier(artifact, CPU).predict_proba(
        ["Shares fell after the bank's warning.", "The striker scored twice."]
    )
    theirs = np.array([[answer[name] for name in NAMES] for answer in answers])
    assert np.abs(theirs - ours).max() < 2e-4
    assert float(np.abs(ours - 0.25).max()) > 0.01


def test_the_pipeline_reads_pairs_and_several_labels(tiny_backbone: Callable[..., Path], tmp_path: Path) -> None:
    artifact = trained(tiny_backbone("bert"), pair="true")
    spec = replace(artifact.input_spec, pair=True)
    artifact = replace(artifact, labels=LabelSet(NAMES, multi=True), input_spec=spec)
    to_merged(artifact, tmp_path / "merged")
    done = ForkedPython(code_of(tmp_path / "merged")).wait()
    assert done.returncode == 0, done.stderr
    (answer,) = map(ast.literal_eval, done.stdout.splitlines())
    ours = Classifier(artifact, CPU).predict_proba(("Shares fell.", "The market rose."))
    assert np.abs(np.array([answer[name] for name in NAMES]) - ours).max() < 2e-4
