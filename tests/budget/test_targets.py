from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils.other import get_pattern_key
from torch import nn

from pennyweight.budget.backbone_config import load_config
from pennyweight.budget.count import AdapterSpec, linear_modules, resolve_targets
from pennyweight.budget.targets import express, lora_arguments, pattern_key, ranks, scales
from pennyweight.errors import RecipeError

FAMILIES = ("bert", "roberta", "xlm-roberta", "distilbert", "deberta-v2", "modernbert", "electra", "mpnet")


@pytest.mark.parametrize("layers", [None, (1,), (0, 2)])
@pytest.mark.parametrize(
    ("family", "targets"),
    [
        ("bert", ("query", "output.dense")),
        ("bert", ("dense",)),
        ("roberta", ("attention.output.dense", "layer.1.output.dense")),
        ("distilbert", ("q_lin", "lin2")),
        ("deberta-v2", ("query_proj", "intermediate.dense")),
        ("modernbert", ("Wqkv", "Wo")),
        ("modernbert", ("mlp.Wo",)),
        ("electra", ("self.key",)),
        ("mpnet", ("q", "o")),
        ("mpnet", ("output.dense",)),
    ],
)
def test_a_suffix_means_what_peft_takes_it_to_mean(
    family: str,
    targets: tuple[str, ...],
    layers: tuple[int, ...] | None,
    tiny: Callable[..., dict[str, Any]],
    encoder: Callable[..., nn.Module],
) -> None:
    config = tiny(family, layers=3)
    if layers == (0, 2) and "layer.1.output.dense" in targets:
        with pytest.raises(RecipeError, match="matches nothing"):
            resolve_targets(config, targets, layers)
        return
    pattern = None if layers is None else ("layers" if family == "modernbert" else "layer")
    lora = LoraConfig(
        r=1, target_modules=list(targets), layers_to_transform=list(layers or ()) or None, layers_pattern=pattern
    )
    with torch.device("meta"):
        model = get_peft_model(encoder(config), lora)
    expected = set(model.targeted_module_names)
    assert {module.name for module in resolve_targets(config, targets, layers)} == expected


@pytest.mark.parametrize(
    ("family", "entry", "suffixes"),
    [
        ("distilbert", "query", {"q_lin"}),
        ("distilbert", "output.dense", {"out_lin", "lin2"}),
        ("deberta-v2", "value", {"value_proj"}),
        ("modernbert", "query", {"Wqkv"}),
        ("modernbert", "intermediate.dense", {"Wi"}),
        ("modernbert", "attention", {"Wqkv", "attn.Wo"}),
        ("bert", "attention", {"query", "key", "value", "attention.output.dense"}),
        ("bert", "ffn_output", {"output.dense"}),
        ("electra", "attention_output", {"attention.output.dense"}),
        ("mpnet", "query", {"q"}),
        ("mpnet", "attention", {"q", "k", "v", "o"}),
        ("mpnet", "dense", {"intermediate.dense", "output.dense"}),
    ],
)
def test_roles_and_groups_mean_the_same_everywhere(
    family: str, entry: str, suffixes: set[str], tiny: Callable[..., dict[str, Any]]
) -> None:
    assert {module.suffix for module in resolve_targets(tiny(family), (entry,), None)} == suffixes


@pytest.mark.parametrize("family", FAMILIES)
def test_all_linear_is_every_linear_layer_of_the_blocks(family: str, tiny: Callable[..., dict[str, Any]]) -> None:
    assert resolve_targets(tiny(family), ("all-linear",)) == linear_modules(tiny(family))


@pytest.mark.parametrize("family", FAMILIES)
def test_express_says_any_choice_exactly(family: str, tiny: Callable[..., dict[str, Any]]) -> None:
    config = tiny(family, layers=2)
    modules = linear_modules(config)
    for choice in range(1, 2 ** len(modules), 7):
        chosen = tuple(module for place, module in enumerate(modules) if choice >> place & 1)
        targets, layers = express(config, chosen)
        assert resolve_targets(config, targets, layers) == chosen


def test_express_is_short_where_it_can_be() -> None:
    config = load_config("roberta-base")
    everything = express(config, linear_modules(config))
    assert everything == (("query", "key", "value", "intermediate.dense", "output.dense"), None)
    top = [module for module in linear_modules(config) if module.layer > 9 and module.role == "query"]
    assert express(config, top) == (("query",), (10, 11))
    only = [module for module in linear_modules(config) if module.name.endswith("11.output.dense")]
    assert express(config, only) == (("encoder.layer.11.output.dense",), None)


@pytest.mark.parametrize(
    "keys",
    [
        ("query", "output.dense"),
        ("attention.output.dense", "output.dense"),
        (r"encoder\.layer\.(1|11)\..+",),
        (r"layer\.1\.output\.dense", "dense"),
        ("dens", "ense", "nothing"),
    ],
)
def test_patterns_are_matched_as_peft_matches_them(keys: tuple[str, ...]) -> None:
    for module in linear_modules(load_config("roberta-base")):
        # PEFT answers with the name itself where we answer None.
        assert (pattern_key(keys, module.name) or module.name) == get_pattern_key(keys, module.name)


SCALED = [
    {},
    {"use_rslora": True},
    {"scaling": "alpha"},
    {"rank_pattern": {"value": 5}},
    {"rank_pattern": {"value": 5}, "scaling": "alpha"},
    {"rank_pattern": {"value": 5}, "alpha_pattern": {r".*\.1\..+": 9.0}},
    {"rank_pattern": {"value": 5}, "alpha_pattern": {r".*\.1\..+": 9.0}, "scaling": "alpha"},
    {"rank_pattern": {"value": 5}, "alpha_pattern": {"key": 9.0}, "use_rslora": True, "layers": (1,)},
]


@pytest.mark.parametrize("settings", SCALED, ids=str)
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_peft_builds_the_ranks_and_scales_that_are_meant(
    family: str,
    settings: dict[str, Any],
    tiny: Callable[..., dict[str, Any]],
    encoder: Callable[..., nn.Module],
) -> None:
    config = tiny(family)
    if family == "modernbert":
        names = {"value": "attn.Wo", "key": "Wqkv"}
        settings = {
            key: {names.get(k, k): v for k, v in value.items()} if isinstance(value, dict) else value
            for key, value in settings.items()
        }
    adapter = AdapterSpec(r=4, lora_alpha=6.0, target_modules=("query", "key", "value", "attention_output"), **settings)
    with torch.device("meta"):
        model = get_peft_model(encoder(config), LoraConfig(**lora_arguments(config, adapter)))
    layers = {
        name.removeprefix("base_model.model."): module
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    }
    assert {name: module.r["default"] for name, module in layers.items()} == ranks(config, adapter)
    expected = scales(config, adapter)
    assert {name: module.scaling["default"] for name, module in layers.items()} == pytest.approx(expected)


def test_scale_is_alpha_itself_at_every_rank_with_the_papers_scaling() -> None:
    adapter = AdapterSpec(
        r=4, lora_alpha=2.0, target_modules=("query", "value"), rank_pattern={"value": 8}, scaling="alpha"
    )
    assert set(scales(load_config("embedded"), adapter).values()) == {2.0}


def lora(*targets: str, **settings: Any) -> AdapterSpec:
    return AdapterSpec(r=4, lora_alpha=8, target_modules=targets, **settings)


CHOICES = "one of query, key, value, attention.output.dense, intermediate.dense, output.dense, attention, all-linear"


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (
            lora("query", "q_proj"),
            f"adapter -> target_modules: the target module matches nothing; expected {CHOICES}; received 'q_proj'",
        ),
        (
            lora(),
            f"adapter -> target_modules: no target module is given; expected {CHOICES}; received ()",
        ),
        (
            lora("query", layers=(0, 12, -1)),
            "adapter -> layers: no such layer; expected whole numbers from 0 to 11; received 12, -1",
        ),
        (
            lora("query", layers=()),
            "adapter -> layers: no layer is given; expected whole numbers from 0 to 11; received none",
        ),
        (
            lora("query", rank_pattern={"value": 2}),
            "adapter -> rank_pattern: the pattern matches no adapted module; expected the end of a name such as "
            "encoder.layer.0.attention.self.query; received 'value'",
        ),
        (
            lora("query", alpha_pattern={"layer.0": 2.0}),
            "adapter -> alpha_pattern: the pattern matches no adapted module; expected the end of a name such as "
            "encoder.layer.0.attention.self.query; received 'layer.0'",
        ),
    ],
)
def test_what_matches_nothing(adapter: AdapterSpec, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        ranks(load_config("roberta-base"), adapter)
    assert str(error.value) == message
