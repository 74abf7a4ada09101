"""The stock transformers model of a classifier, as a user would load it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
