from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from pennyweight.budget.architecture import (
    describe,
    encoder_parameters,
    head_parameters,
    linear_modules,
    size,
)
from pennyweight.budget.backbone_config import known_names, load_config
from pennyweight.budget.families import FAMILIES
from pennyweight.errors import BackboneError

DEBERTA_V3 = {
    "relative_attention": True,
    "position_buckets": 4,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
    "type_vocab_size": 0,
}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((family, {}) for family in FAMILIES),
    ("roberta", {"type_vocab_size": 1}),
    ("electra", {"embedding_size": 16}),
    ("electra", {"embedding_size": 8}),
    ("distilbert", {"sinusoidal_pos_embds": True}),
    ("deberta-v2", DEBERTA_V3),
    ("deberta-v2", {**DEBERTA_V3, "position_buckets": -1, "max_relative_positions": 5}),
    ("deberta-v2", {**DEBERTA_V3, "position_buckets": -1, "max_relative_positions": -1}),
    ("deberta-v2", {**DEBERTA_V3, "share_att_key": False}),
    ("deberta-v2", {**DEBERTA_V3, "share_att_key": False, "pos_att_type": ["c2p"]}),
    ("deberta-v2", {**DEBERTA_V3, "conv_kernel_size": 3, "conv_act": "gelu", "attention_head_size": 8}),
    ("deberta-v2", {"embedding_size": 8, "type_vocab_size": 2}),
    ("modernbert", {"attention_bias": True, "mlp_bias": True, "norm_bias": True, "classifier_bias": True}),
    ("modernbert", {"layers": 4, "global_attn_every_n_layers": 2}),
    ("mpnet", {"relative_attention_num_buckets": 8}),
]


@pytest.mark.parametrize(("family", "changes"), VARIANTS)
def test_every_encoder_parameter_has_transformers_name_and_shape(
    family: str, changes: dict[str, Any], tiny: Callable[..., dict[str, Any]], encoder: Callable[..., nn.Module]
) -> None:
    config = tiny(family, **changes)
    expected = {name: tuple(parameter.shape) for name, parameter in encoder(config).named_parameters()}
    assert encoder_parameters(config) == expected


@pytest.mark.parametrize(("family", "changes"), VARIANTS)
def test_the_own_head_is_what_the_stock_classifier_adds(
    family: str,
    changes: dict[str, Any],
    tiny: Callable[..., dict[str, Any]],
    stock: Callable[..., nn.Module],
) -> None:
    config = tiny(family, **changes)
    model = stock(config, 3)
    prefix = f"{model.base_model_prefix}."
    names = {name.removeprefix(prefix): tuple(p.shape) for name, p in model.named_parameters()}
    assert {name: shape for name, shape in names.items() if name not in encoder_parameters(config)} == head_parameters(
        config, 3
    )


@pytest.mark.parametrize(("family", "changes"), VARIANTS)
def test_linear_modules_are_the_linear_layers_of_the_blocks(
    family: str, changes: dict[str, Any], tiny: Callable[..., dict[str, Any]], encoder: Callable[..., nn.Module]
) -> None:
    config = tiny(family, **changes)
    stack = describe(config).stack + "."
    expected = {
        name: (module.in_features, module.out_features, module.bias is not None)
        for name, module in encoder(config).named_modules()
        if isinstance(module, nn.Linear) and name.startswith(stack)
    }
    assert {m.name: (m.in_features, m.out_features, m.bias) for m in linear_modules(config)} == expected
    assert all(m.name.endswith("." + m.suffix) for m in linear_modules(config))
    assert all(m.name.startswith(f"{stack}{m.layer}.") for m in linear_modules(config))


# Published sizes of the encoders, BERT's and its kind's pooler (H x H + H) included where their classes have one.
PUBLISHED = {
    "bert-base-uncased": 109_482_240,
    "bert-large-uncased": 335_141_888,
    "bert-base-cased": 108_310_272,
    "bert-base-multilingual-cased": 177_853_440,
    "roberta-base": 124_645_632,
    "roberta-large": 355_359_744,
    "xlm-roberta-base": 278_043_648,
    "xlm-roberta-large": 559_890_432,
    "distilroberta-base": 82_118_400,
    "distilbert-base-uncased": 66_362_880,
    "deberta-v3-xsmall": 70_682_112,
    "deberta-v3-small": 141_304_320,
    "deberta-v3-base": 183_831_552,
    "deberta-v3-large": 434_012_160,
    "ModernBERT-base": 149_014_272,
    "ModernBERT-large": 394_781_696,
    "electra-small-discriminator": 13_483_008,
    "electra-base-discriminator": 108_891_648,
    "electra-large-discriminator": 334_092_288,
    "all-MiniLM-L6-v2": 22_713_216,
    "multilingual-e5-small": 117_653_760,
    "bge-small-en-v1.5": 33_360_000,
    "all-mpnet-base-v2": 109_486_464,
}


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED.items())
def test_shipped_facts_give_the_published_sizes(name: str, parameters: int) -> None:
    config = load_config(name)
    pooled = config["model_type"] in ("bert", "roberta", "xlm-roberta", "mpnet")
    hidden = describe(config).hidden
    assert size(encoder_parameters(config)) + (hidden * hidden + hidden if pooled else 0) == parameters


@pytest.mark.parametrize("name", known_names())
def test_shipped_facts_build_the_model_that_is_counted(name: str, encoder: Callable[..., nn.Module]) -> None:
    config = load_config(name)
    shapes = {key: tuple(parameter.shape) for key, parameter in encoder(config).named_parameters()}
    assert encoder_parameters(config) == shapes


def test_an_unsupported_kind_is_named() -> None:
    with pytest.raises(BackboneError) as error:
        describe({"model_type": "gpt2"})
    assert str(error.value) == (
        "config -> model_type: unsupported architecture; expected one of bert, roberta, xlm-roberta, "
        "distilbert, deberta-v2, modernbert, electra, mpnet; received 'gpt2'"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"hidden_size": None},
            "config -> hidden_size: the backbone's config lacks a required field; expected a positive whole number",
        ),
        (
            {"num_hidden_layers": "12"},
            "config -> num_hidden_layers: the backbone's config has a value that cannot be used; "
            "expected a positive whole number; received '12'",
        ),
        (
            {"num_attention_heads": 3},
            "config: the backbone's hidden_size is not a multiple of its num_attention_heads; "
            "expected a multiple of 3; received 16",
        ),
    ],
)
def test_a_config_that_lacks_what_is_needed(
    change: dict[str, Any], message: str, tiny: Callable[..., dict[str, Any]]
) -> None:
    with pytest.raises(BackboneError) as error:
        describe(tiny("bert") | change)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        (
            "deberta-v2",
            {"share_att_key": "yes"},
            "config -> share_att_key: the backbone's config has a value that cannot be used; "
            "expected true or false; received 'yes'",
        ),
        (
            "deberta-v2",
            {"position_buckets": None},
            "config -> position_buckets: the backbone's config has a value that cannot be used; "
            "expected a whole number; received None",
        ),
        (
            "modernbert",
            {"layer_types": ["full_attention"]},
            "config -> layer_types: the backbone's config has a value that cannot be used; "
            "expected a list of 2 layer types; received ['full_attention']",
        ),
    ],
)
def test_a_config_value_of_the_wrong_kind(
    family: str, change: dict[str, Any], message: str, tiny: Callable[..., dict[str, Any]]
) -> None:
    with pytest.raises(BackboneError) as error:
        describe(tiny(family) | change)
    assert str(error.value) == message


def test_distilbert_reads_the_usual_names_too(tiny: Callable[..., dict[str, Any]]) -> None:
    usual = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_dim": 24}
    other = {"model_type": "distilbert", "vocab_size": 20, "max_position_embeddings": 12, **usual}
    assert encoder_parameters(other) == encoder_parameters(tiny("distilbert"))


def test_global_layers_follow_the_listed_kinds(tiny: Callable[..., dict[str, Any]]) -> None:
    kinds = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    assert describe(tiny("modernbert", layers=4)).global_layers == {0, 3}
    assert describe(tiny("modernbert", layers=4, layer_types=kinds)).global_layers == {1, 3}
