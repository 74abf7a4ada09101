"""Merged models that stock transformers loads, with the same logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pennyweight.artifact.artifact import Artifact
from pennyweight.data.labels import LabelSet
from pennyweight.errors import ArtifactError
from pennyweight.export.merged import to_merged
from pennyweight.export.peft import to_peft
from pennyweight.export.stock_model import logit_difference
from pennyweight.model.backbone import resolve
from pennyweight.model.classifier import ModelSettings, build
from pennyweight.model.tokenizer import load_tokenizer
from pennyweight.recipe import loading as recipe
from pennyweight.recipe.planning import plan_for

from .random_classifier import CPU, NAMES, trained


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
