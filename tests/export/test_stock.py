"""What Pennyweight exports, stock transformers and PEFT load, and give the same logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pennyweight.artifact.artifact import Artifact
from pennyweight.data.labels import LabelSet
from pennyweight.errors import ArtifactError
from pennyweight.export import stock as export
from pennyweight.model.backbone import resolve
from pennyweight.model.classifier import ModelSettings, build
from pennyweight.model.device import Runtime
from pennyweight.model.tokenizer import load_tokenizer
from pennyweight.model.trainable import trainable
from pennyweight.recipe import loading as recipe
from pennyweight.recipe.planning import plan_for

CPU = Runtime(torch.device("cpu"), "fp32")
NAMES = ("World", "Sports", "Business", "Sci/Tech")


def trained(folder: Path, **settings: Any) -> Artifact:
    """A classifier with random weights everywhere training would have put some."""
    wanted = recipe.load(backbone=str(folder), **{"r": 4, "target_modules": "attention", "budget": "none"} | settings)
    backbone = resolve(str(folder))
    plan = plan_for(wanted, backbone.config, len(NAMES))
    model = build(backbone, plan, len(NAMES), CPU, ModelSettings(**wanted.model.settings()))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in trainable(model).values():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return Artifact(model.eval(), load_tokenizer(folder), backbone, LabelSet(NAMES), wanted, plan, {})


@pytest.mark.parametrize("head", ["linear", "low_rank", "full"])
@pytest.mark.parametrize("kind", ["bert", "minilm", "roberta", "xlm-roberta", "distilbert", "electra", "deberta-v2"])
def test_stock_peft_gives_the_same_logits(
    kind: str, head: str, tiny_backbone: Callable[..., Path], tmp_path: Path
) -> None:
    artifact = trained(tiny_backbone(kind), head=head)
    export.to_peft(artifact, tmp_path / "peft")

    # The user's three lines, with nothing of ours.
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    base = AutoModelForSequenceClassification.from_pretrained(tiny_backbone(kind), num_labels=4)
    model = PeftModel.from_pretrained(base, tmp_path / "peft").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "peft")

    texts = ["Shares of the airline fell.", "The striker scored twice in the final ten minutes to win the cup."]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        theirs = model(**batch).logits
        ours = artifact.model(batch["attention_mask"], input_ids=batch["input_ids"])
    assert float((theirs - ours).abs().max()) < 1e-4
    assert float(ours.std()) > 0.05  # logits that are all alike would prove nothing


@pytest.mark.parametrize("head", ["low_rank", "full"])
def test_modernbert_exports_heads_that_have_its_norm(
    head: str, tiny_backbone: Callable[..., Path], tmp_path: Path
) -> None:
    assert export.to_peft(trained(tiny_backbone("modernbert"), head=head), tmp_path / "peft") < 1e-4


@pytest.mark.parametrize(
    "settings",
    [
        {"bias": "lora_only"},
        {"use_dora": "true"},
        {"use_rslora": "true"},
        {"scaling": "alpha", "lora_alpha": "2"},
        {"layers": "top:2", "target_modules": "all-linear"},
        {"rank_pattern": "query=2", "alpha_pattern": "value=3"},
    ],
    ids=lambda settings: "-".join(settings),
)
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_every_kind_of_adapter_exports(
    kind: str, settings: dict[str, str], tiny_backbone: Callable[..., Path], tmp_path: Path
) -> None:
    assert export.to_peft(trained(tiny_backbone(kind), **settings), tmp_path / "peft") < 1e-4


def test_merged_model_gives_the_same_logits(tiny_backbone: Callable[..., Path], tmp_path: Path) -> None:
    artifact = trained(tiny_backbone("roberta"))
    assert export.to_merged(artifact, tmp_path / "merged") < 1e-4

    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    assert export.difference(artifact, model) < 1e-4
    assert model.config.id2label == dict(enumerate(NAMES))


def test_a_head_alone_exports_merged(tiny_backbone: Callable[..., Path], tmp_path: Path) -> None:
    folder = tiny_backbone("bert")
    wanted = recipe.load(backbone=str(folder), strategy="head-only", budget="none")
    backbone = resolve(str(folder))
    plan = plan_for(wanted, backbone.config, len(NAMES))
    model = build(backbone, plan, len(NAMES), CPU, ModelSettings(**wanted.model.settings()))
    artifact = Artifact(model.eval(), load_tokenizer(folder), backbone, LabelSet(NAMES), wanted, plan, {})
    with pytest.raises(ArtifactError, match="there is no adapter: only the head was trained; use --format merged"):
        export.to_peft(artifact, tmp_path / "peft")
    assert export.to_merged(artifact, tmp_path / "merged") < 1e-4


def test_what_stock_classes_cannot_express_is_refused(tiny_backbone: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError, match="cannot express mean pooling; expected a classifier trained with --pooling"
    ):
        export.to_peft(trained(tiny_backbone("bert"), pooling="mean"), tmp_path / "peft")
    with pytest.raises(ArtifactError, match="normalises between its dense layer and its output"):
        export.to_peft(trained(tiny_backbone("modernbert"), head="linear"), tmp_path / "peft")
    assert not list(tmp_path.iterdir())
