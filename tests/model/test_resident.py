from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from pennyweight.budget.plan import Plan
from pennyweight.model.backbone import resolve
from pennyweight.model.classifier import ModelSettings, build
from pennyweight.model.device import Runtime
from pennyweight.model.resident import ResidentBackbone
from pennyweight.recipe.loading import load
from pennyweight.recipe.planning import plan_for

SETTINGS = ModelSettings("auto", "cls", 0.0, 0.0)


def test_the_last_classifier_leaves_nothing_behind(tiny_backbone: Callable[..., Path]) -> None:
    backbone, runtime = resolve(str(tiny_backbone("bert"))), Runtime(torch.device("cpu"), "fp32")
    resident = ResidentBackbone(backbone, runtime)

    def plan(**settings: object) -> Plan:
        return plan_for(load("default", **settings), backbone.config, 3)

    plans = [plan(budget="5k"), plan(budget="6k", use_dora=True), plan(budget="none", strategy="head-only")]
    for each in [*plans, plan(budget="6k", bias="lora_only"), *plans]:
        kept, fresh = resident.build(each, 3, SETTINGS), build(backbone, each, 3, runtime, SETTINGS)
        first, second = kept.state_dict(), fresh.state_dict()
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
        with torch.no_grad():
            for parameter in kept.parameters():
                if parameter.requires_grad:
                    parameter.add_(1.0)  # as training would


def test_classifiers_share_the_frozen_weights(tiny_backbone: Callable[..., Path]) -> None:
    backbone, runtime = resolve(str(tiny_backbone("bert"))), Runtime(torch.device("cpu"), "fp32")
    resident = ResidentBackbone(backbone, runtime)
    plan = plan_for(load("default", budget="none", strategy="head-only"), backbone.config, 3)
    one, other = (dict(resident.build(plan, 3, SETTINGS).module.named_parameters()) for _ in range(2))
    assert all(one[name].data_ptr() == other[name].data_ptr() for name in one)
