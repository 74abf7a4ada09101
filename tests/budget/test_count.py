from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pennyweight.budget.backbone_config import load_config
from pennyweight.budget.count import AdapterSpec, HeadSpec, TrainedPart, count, head_shapes, layers_in_words
from pennyweight.errors import RecipeError

FULL, LINEAR = HeadSpec("full"), HeadSpec("linear")
ALL_LINEAR = ("query", "key", "value", "output.dense", "intermediate.dense")


def lora(r: int, *targets: str, **settings: Any) -> AdapterSpec:
    return AdapterSpec(r=r, lora_alpha=2.0 * r, target_modules=targets, **settings)


# What counts as trainable: 4 labels, roberta-base.
TRUTHS: list[tuple[AdapterSpec | None, HeadSpec, int, int | None]] = [
    (lora(16, *ALL_LINEAR, bias="lora_only"), FULL, 3_330_820, 127_896_584),
    (lora(16, "query", "key", "value"), FULL, 1_478_404, 126_127_112),
    (lora(8, "query", "key", "value"), FULL, 1_036_036, 125_684_744),
    (lora(8, "query", "value"), FULL, 888_580, 125_537_288),
    (None, FULL, 593_668, None),
    (None, LINEAR, 3_076, None),
    (lora(6, "all-linear"), LINEAR, 998_404, None),
    (lora(12, "all-linear", layers=(6, 7, 8, 9, 10, 11)), LINEAR, 998_404, None),
]


@pytest.mark.parametrize(("adapter", "head", "trainable", "total"), TRUTHS)
def test_known_truths(
    adapter: AdapterSpec | None,
    head: HeadSpec,
    trainable: int,
    total: int | None,
    peft_count: Callable[..., tuple[int, int]],
) -> None:
    config = load_config("roberta-base")
    counted = count(config, adapter=adapter, head=head, labels=4)
    assert counted.trainable == trainable
    assert total is None or counted.total == total
    if adapter is not None:
        assert peft_count(config, adapter, head, 4) == (counted.trainable, counted.total)


NAMES = [
    "bert-base-uncased",
    "roberta-base",
    "xlm-roberta-base",
    "distilbert-base-cased",
    "deberta-v3-small",
    "deberta-v2-xlarge",
    "ModernBERT-base",
    "electra-small-discriminator",
    "all-mpnet-base-v2",
]
SETTINGS = [
    lora(4, "all-linear"),
    lora(4, "query", "value", bias="lora_only"),
    lora(4, "attention", bias="all"),
    lora(2, "all-linear", layers=(0, 3, 5), use_dora=True, bias="lora_only"),
    lora(2, *ALL_LINEAR, rank_pattern={r".*\.(4|5)\..+": 7}, alpha_pattern={r".*\.5\..+": 3.0}),
    lora(3, "intermediate.dense", use_rslora=True),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("adapter", SETTINGS, ids=range(len(SETTINGS)))
def test_every_architecture_counts_as_peft_does(
    name: str, adapter: AdapterSpec, peft_count: Callable[..., tuple[int, int]]
) -> None:
    config = load_config(name)
    counted = count(config, adapter=adapter, head=FULL, labels=5)
    assert peft_count(config, adapter, FULL, 5) == (counted.trainable, counted.total)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("head", [LINEAR, HeadSpec("low_rank", 6)], ids=str)
def test_our_own_heads_count_as_peft_counts_a_saved_module(
    name: str, head: HeadSpec, peft_count: Callable[..., tuple[int, int]]
) -> None:
    config, adapter = load_config(name), lora(2, "query", bias="all")
    counted = count(config, adapter=adapter, head=head, labels=3)
    assert peft_count(config, adapter, head, 3) == (counted.trainable, counted.total)


def test_heads_by_arithmetic() -> None:
    def trained(name: str, head: HeadSpec) -> int:
        return count(load_config(name), adapter=None, head=head, labels=4).trainable

    h = 768
    for name in ("roberta-base", "bert-base-cased", "distilbert-base-cased", "deberta-v3-base"):
        assert trained(name, LINEAR) == h * 4 + 4
        assert trained(name, FULL) == h * h + h + h * 4 + 4
        assert trained(name, HeadSpec("low_rank", 5)) == 5 * (h + h) + h + h * 4 + 4
    assert trained("ModernBERT-base", FULL) == h * h + h + h * 4 + 4  # no dense bias, but a norm's weight
    assert trained("ModernBERT-base", HeadSpec("low_rank", 5)) == 5 * (h + h) + h + h * 4 + 4


def test_a_low_rank_head_is_the_own_head_with_its_dense_weight_in_two() -> None:
    assert head_shapes(load_config("roberta-base"), HeadSpec("low_rank", 5), 4) == {
        "classifier.dense.down.weight": (5, 768),
        "classifier.dense.up.weight": (768, 5),
        "classifier.dense.bias": (768,),
        "classifier.out_proj.weight": (4, 768),
        "classifier.out_proj.bias": (4,),
    }


def test_parts_name_what_is_trained_and_add_up() -> None:
    adapter = lora(2, "query", "value", bias="lora_only", use_dora=True, layers=(0, 1, 2, 5), rank_pattern={"value": 3})
    counted = count(load_config("roberta-base"), adapter=adapter, head=LINEAR, labels=4)
    assert counted.parts == (
        TrainedPart("query", "layers 0-2, 5", 2, 4 * 2 * 1536),
        TrainedPart("value", "layers 0-2, 5", 3, 4 * 3 * 1536),
        TrainedPart("magnitudes", "layers 0-2, 5", None, 8 * 768, "magnitude"),
        TrainedPart("biases", "layers 0-2, 5", None, 8 * 768, "bias"),
        TrainedPart("linear", "head", None, 3076, "head"),
    )
    assert counted.trainable == sum(part.parameters for part in counted.parts)
    assert counted.total == counted.backbone + counted.trainable - 8 * 768 + 3076


def test_every_bias_of_the_encoder_includes_the_norms() -> None:
    counted = count(load_config("roberta-base"), adapter=lora(1, "query", bias="all"), head=LINEAR, labels=4)
    # A block: q, k, v, o, output and two norms of 768, and the intermediate's 3072; one norm after the embeddings.
    assert counted.parts[1] == TrainedPart("biases", "whole encoder", None, 12 * (7 * 768 + 3072) + 768, "bias")


def test_an_encoder_without_biases_trains_none() -> None:
    counted = count(load_config("ModernBERT-base"), adapter=lora(1, "Wqkv", bias="all"), head=LINEAR, labels=4)
    assert [part.parameters for part in counted.parts if part.kind == "bias"] == [0]


@pytest.mark.parametrize(
    ("layers", "words"), [((3,), "layer 3"), ((2, 0, 1, 5), "layers 0-2, 5"), ((0, 2), "layers 0, 2")]
)
def test_layers_in_words(layers: tuple[int, ...], words: str) -> None:
    assert layers_in_words(layers) == words


@pytest.mark.parametrize("r", [0, -3, True, 2.0, "8"])
def test_a_rank_is_a_positive_whole_number(r: Any) -> None:
    with pytest.raises(RecipeError) as error:
        AdapterSpec(r=r, lora_alpha=16, target_modules=("query",))
    assert str(error.value) == (
        f"adapter -> r: the value cannot be used; expected a whole number of 1 or more; received {r!r}"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"rank_pattern": {"query": 0}},
            "adapter -> rank_pattern -> query: the value cannot be used; expected a whole number of 1 or more; "
            "received 0",
        ),
        (
            {"alpha_pattern": {"query": -1.0}},
            "adapter -> alpha_pattern -> query: the value cannot be used; expected a number above 0; received -1.0",
        ),
        (
            {"rank_pattern": {"quer(y": 2}},
            "adapter -> rank_pattern: the pattern is not a regular expression (missing ), unterminated subpattern at "
            "position 4); received 'quer(y'",
        ),
        (
            {"lora_dropout": 1.0},
            "adapter -> lora_dropout: the dropout cannot be used; expected a number from 0 to below 1; received 1.0",
        ),
        (
            {"bias": "some"},
            "adapter -> bias: unknown value; expected one of none, lora_only, all; received 'some'",
        ),
        (
            {"scaling": "alpha*r"},
            "adapter -> scaling: unknown value; expected one of alpha/r, alpha; received 'alpha*r'",
        ),
        (
            {"scaling": "alpha", "use_rslora": True},
            "use_rslora and scaling alpha contradict each other: rsLoRA is itself a way of scaling; "
            "drop one of the two",
        ),
    ],
)
def test_an_adapter_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        lora(8, "query", **settings)
    assert str(error.value) == message


def test_alpha_is_above_zero() -> None:
    with pytest.raises(RecipeError) as error:
        AdapterSpec(r=8, lora_alpha=0, target_modules=("query",))
    assert str(error.value) == "adapter -> lora_alpha: the value cannot be used; expected a number above 0; received 0"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: HeadSpec("deep"),  # type: ignore[arg-type]
            "head -> kind: unknown value; expected one of linear, low_rank, full; received 'deep'",
        ),
        (
            lambda: HeadSpec("low_rank", 0),
            "head -> rank: the value cannot be used; expected a whole number of 1 or more; received 0",
        ),
        (
            lambda: count(load_config("embedded"), adapter=None, head=HeadSpec("low_rank", 385), labels=4),
            "head -> rank: the head's rank is larger than the width of the layer that it factors; expected at most "
            "384; received 385",
        ),
        (
            lambda: count(load_config("embedded"), adapter=None, head=LINEAR, labels=1),
            "a classifier needs at least two classes; expected 2 labels or more; received 1",
        ),
    ],
)
def test_a_head_that_cannot_be(build: Callable[[], object], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        build()
    assert str(error.value) == message
