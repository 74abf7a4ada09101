"""Classifiers with random weights, for exports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pennyweight.artifact.artifact import Artifact
from pennyweight.data.labels import LabelSet
from pennyweight.model.backbone import resolve
from pennyweight.model.classifier import ModelSettings, build
from pennyweight.model.device import Runtime
from pennyweight.model.tokenizer import load_tokenizer
from pennyweight.model.trainable import trainable
from pennyweight.recipe import loading as recipe
from pennyweight.recipe.planning import plan_for

CPU = Runtime(torch.device("cpu"), "fp32")
NAMES = ("World", "Sports", "Business", "Sci/Tech")


def shallow(tiny_backbone: Callable[..., Path], kind: str, layers: int = 2) -> Path:
    """A tiny backbone of few layers, as tracing takes a second or two for each; modernbert's first two differ."""
    return tiny_backbone(kind, **{"n_layers" if kind == "distilbert" else "num_hidden_layers": layers})


def trained(folder: Path | str, **settings: Any) -> Artifact:
    """A classifier with random weights everywhere training would have put some."""
    wanted = recipe.load(backbone=str(folder), **{"r": 4, "target_modules": "attention", "budget": "none"} | settings)
    backbone = resolve(str(folder))
    plan = plan_for(wanted, backbone.config, len(NAMES))
    model = build(backbone, plan, len(NAMES), CPU, ModelSettings(**wanted.model.settings()))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in trainable(model).values():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return Artifact.of_model(model.eval(), load_tokenizer(backbone.folder), backbone, LabelSet(NAMES), wanted, plan, {})
