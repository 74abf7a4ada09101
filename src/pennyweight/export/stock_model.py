"""The stock transformers model of a classifier, as a user would load it, and how far its logits are from ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..artifact.artifact import Artifact


def stock_model(artifact: Artifact, adapter: Path) -> Any:
    """The stock base with a PEFT adapter folder on it, as a user would load it; evaluation mode, fp32."""
    from peft import PeftModel

    return PeftModel.from_pretrained(stock_base(artifact), str(adapter)).eval()


def stock_base(artifact: Artifact) -> Any:
    """The stock class on the frozen backbone, its head untrained; evaluation mode, fp32."""
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(
        artifact.backbone.folder,
        **label_config(artifact),
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        dtype="float32",
    ).eval()


def label_config(artifact: Artifact) -> dict[str, Any]:
    """The part of transformers' config that describes the labels."""
    names = artifact.labels.names
    labels: dict[str, Any] = {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    }
    # With this type stock pipelines apply a sigmoid, and stock training uses binary cross-entropy.
    return labels | ({"problem_type": "multi_label_classification"} if artifact.labels.multi else {})


@torch.inference_mode()
def logit_difference(artifact: Artifact, model: Any) -> float:
    """The largest difference between our logits and a stock model's, on two texts of different length."""
    texts = ["Shares fell.", "The striker scored twice in extra time as the visitors came from behind to win the cup."]
    limit = artifact.recipe.data.max_length
    second = {"text_pair": texts[::-1]} if artifact.recipe.data.pair else {}
    batch = artifact.tokenizer(texts, **second, padding=True, truncation=True, max_length=limit, return_tensors="pt")
    device = next(artifact.model.parameters()).device
    ours = artifact.model(**{name: tensor.to(device) for name, tensor in batch.items()}).float().cpu()
    theirs = model(**batch).logits.float()
    return float((ours - theirs).abs().max())
