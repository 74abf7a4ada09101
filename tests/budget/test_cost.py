"""Operations against torch's own counter; bytes and seconds by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pennyweight.budget.backbone_config import load_config
from pennyweight.budget.cost import Memory, cache_bytes, first_trained_layer, memory, seconds_per_epoch, work
from pennyweight.budget.count import AdapterSpec, HeadSpec
from pennyweight.budget.plan import Plan, plan
from pennyweight.budget.targets import lora_arguments

T, LABELS = 7, 3


def manual(config: dict[str, Any], *targets: str, **settings: Any) -> Plan:
    adapter = AdapterSpec(r=2, lora_alpha=4, target_modules=targets, **settings) if targets else None
    return plan(config, labels=LABELS, budget=None, strategy="manual", adapter=adapter, head=HeadSpec("linear"))


def measured(encoder: nn.Module, config: dict[str, Any], planned: Plan) -> tuple[float, float]:
    """Forward and backward operations for one text, mean pooled, as torch counts them."""
    model: nn.Module = encoder
    if planned.adapter is None:
        model.requires_grad_(False)
    else:
        model = get_peft_model(encoder, LoraConfig(**lora_arguments(config, planned.adapter)))
    head = nn.Linear(16, LABELS)
    ids = torch.randint(3, 20, (1, T))
    model.train()
    with FlopCounterMode(display=False) as forward:
        logits = head(model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.mean(1))
    with FlopCounterMode(display=False) as backward:
        logits.sum().backward()
    # transformers made ModernBERT's angles by a product once, and does no more; they are of no account, nor counted.
    angles = sum(sum(by_kind.values()) for name, by_kind in forward.get_flop_counts().items() if "rotary" in name)
    return forward.get_total_flops() - angles, backward.get_total_flops()


CASES: list[tuple[str, dict[str, Any], tuple[str, ...], dict[str, Any]]] = [
    ("bert", {}, ("all-linear",), {}),
    ("bert", {}, ("all-linear",), {"layers": (1, 2)}),
    ("roberta", {}, ("query", "key", "value"), {"layers": (2,)}),
    ("distilbert", {}, ("all-linear",), {"layers": (1, 2), "rank_pattern": {"lin1": 5}}),
    ("electra", {"embedding_size": 8}, ("all-linear",), {}),
    ("modernbert", {}, ("all-linear",), {"layers": (1, 2)}),
    ("mpnet", {}, ("all-linear",), {"layers": (1, 2)}),
    ("bert", {}, ("all-linear",), {"layers": (1, 2), "bias": "all"}),
    ("bert", {}, (), {}),
]


@pytest.mark.parametrize(("family", "changes", "targets", "settings"), CASES)
def test_operations_are_those_torch_counts(
    family: str,
    changes: dict[str, Any],
    targets: tuple[str, ...],
    settings: dict[str, Any],
    tiny: Callable[..., dict[str, Any]],
    encoder: Callable[..., nn.Module],
) -> None:
    config = tiny(family, layers=3, **changes)
    planned = manual(config, *targets, **settings)
    forward, backward = measured(encoder(config, "cpu"), config, planned)
    counted = work(config, planned, length=T, pooling="mean")
    # Ours counts the head's bias like a weight; torch does not see the addition.
    assert counted.prefix + counted.forward == forward + 2 * LABELS
    assert counted.backward == backward + (4 if targets else 2) * LABELS


def test_the_prefix_is_what_lies_below_the_lowest_adapted_block() -> None:
    config = load_config("embedded")
    whole = work(config, manual(config, "all-linear"), length=64, pooling="mean")
    upper = work(config, manual(config, "all-linear", layers=(3, 4, 5)), length=64, pooling="mean")
    assert (whole.first_layer, whole.prefix) == (0, 0.0)
    assert upper.first_layer == 3
    weights, attention = 4 * 384 * 384 + 2 * 384 * 1536, 2 * 64 * 384
    assert upper.prefix == 3 * 64 * 2 * (weights + attention)
    assert upper.per_text(cached=True) == upper.forward + upper.backward
    assert upper.per_text(cached=False) == upper.prefix + upper.forward + upper.backward


def test_the_first_token_alone_saves_work_in_the_last_block() -> None:
    config = load_config("embedded")
    planned = manual(config, "query", layers=(5,))
    cls, mean = (work(config, planned, length=64, pooling=pooling) for pooling in ("cls", "mean"))
    weights = 2 * 384 * 384 + 2 * 384 * 1536  # query and output of attention, and the feed-forward
    low_rank = 2 * (384 + 384)
    attention = 2 * 64 * 384
    assert mean.forward - cls.forward == 63 * 2 * (weights + low_rank + attention)
    assert cls.prefix == mean.prefix


def test_a_head_alone_computes_the_encoder_once() -> None:
    config = load_config("embedded")
    counted = work(config, manual(config), length=64)
    head = 384 * LABELS + LABELS
    assert (counted.first_layer, counted.forward, counted.backward) == (6, 2 * head, 2 * head)


def test_training_every_bias_reaches_the_embeddings() -> None:
    config = load_config("embedded")
    assert first_trained_layer(config, manual(config, "query", layers=(5,))) == 5
    assert first_trained_layer(config, manual(config, "query", layers=(5,), bias="all")) == 0


def test_local_attention_costs_no_more_than_its_window() -> None:
    config = load_config("ModernBERT-base")
    planned = manual(config, "all-linear")
    long, twice = (work(config, planned, length=length, pooling="mean").forward for length in (1024, 2048))
    every_layer_global = {**config, "global_attn_every_n_layers": 1}
    assert twice < 2 * long * 1.2
    assert work(every_layer_global, planned, length=2048, pooling="mean").forward > twice


def test_relative_positions_cost_products_of_their_own(tiny: Callable[..., dict[str, Any]]) -> None:
    plain = tiny("deberta-v2", layers=1)
    relative = plain | {"relative_attention": True, "position_buckets": 4, "share_att_key": True}
    without = work(plain, manual(plain, "query"), length=T, pooling="mean").forward
    for kinds, terms in (("c2p", 1), ("p2c|c2p", 2)):
        config = relative | {"pos_att_type": kinds}
        assert (
            work(config, manual(config, "query"), length=T, pooling="mean").forward == without + terms * 2 * T * 8 * 16
        )


def test_seconds_follow_from_a_measured_speed() -> None:
    config = load_config("embedded")
    counted = work(config, manual(config, "all-linear", layers=(3, 4, 5)), length=64)
    seconds = seconds_per_epoch(counted, texts=1000, operations_per_second=1e11, cached=True)
    assert seconds == pytest.approx(1000 * (counted.forward + counted.backward) / 1e11)
    assert seconds < seconds_per_epoch(counted, texts=1000, operations_per_second=1e11)
    again = seconds_per_epoch(counted, texts=1000, operations_per_second=1e11, cached=True, recomputed=True)
    assert again == pytest.approx(seconds + 1000 * counted.forward / 1e11)


def test_bytes() -> None:
    config = load_config("embedded")
    assert cache_bytes(config, vectors=4000 * 53, bytes_per_number=2) == 4000 * 53 * 384 * 2
    whole, upper = manual(config, "all-linear"), manual(config, "all-linear", layers=(3, 4, 5))
    all_blocks = memory(config, whole, batch_size=32, length=64, pooling="mean")
    half = memory(config, upper, batch_size=32, length=64, pooling="mean")
    outputs = 4 * 384 + 1536 + 384
    inputs = 3 * 384 + 1536  # query, key and value have one
    block = 64 * (outputs + 6 * 2 + inputs + 12 * 64)
    assert all_blocks.activations == 32 * (6 + 1) * block * 2  # one block's again for gradients
    assert half.activations == 32 * (3 + 1) * block * 2
    matrices = 4 * 384**2 + 2 * 384 * 1536  # of a block, in bf16 laid out for each direction they are multiplied in
    assert all_blocks.weights == (whole.count.backbone + 6 * 2 * matrices) * 2
    assert half.weights == (whole.count.backbone + (6 + 3) * matrices) * 2
    assert all_blocks.trained == whole.count.trainable * 16
    assert all_blocks.total == all_blocks.weights + all_blocks.trained + all_blocks.activations
    assert memory(config, manual(config), batch_size=32, length=64).activations > 0
    # Computed again: the inputs of all trained blocks but the last, one block's own and its gradients.
    assert all_blocks.checkpointed == 32 * (5 * 64 * 384 + 2 * block) * 2
    assert half.checkpointed == 32 * (2 * 64 * 384 + 2 * block) * 2
    alone = memory(config, manual(config), batch_size=32, length=64)
    assert alone.checkpointed == alone.activations  # a head alone keeps nothing


def test_only_adapted_matrices_keep_their_input() -> None:
    config = load_config("embedded")
    found = memory(config, manual(config, "query", "value"), batch_size=1, length=64, pooling="mean")
    block = 64 * (4 * 384 + 1536 + 384 + 384 + 2 * 2 + 12 * 64)
    assert found.activations == 7 * block * 2


def test_deberta_keeps_its_relative_positions_for_every_text() -> None:
    config = load_config("microsoft/deberta-v3-base")
    whole = manual(config, "query_proj")
    found, plain = (
        memory(each, whole, batch_size=32, length=64, bytes_per_number=4, pooling="mean")
        for each in (config, {**config, "pos_att_type": []})
    )
    # As torch's hooks on saved tensors counted them: in each of 12 blocks four tensors of 32 x 12 x 64 x 512 numbers.
    relative = 4 * 32 * 12 * 64 * 512 * 4
    assert found.activations - plain.activations == (12 + 1) * relative  # one block's again for gradients


def test_weights_by_device_and_format() -> None:
    config = load_config("embedded")
    whole = manual(config, "all-linear")
    matrices, encoder = 6 * (4 * 384**2 + 2 * 384 * 1536), whole.count.backbone

    def held(numbers: int, **how: Any) -> Memory:
        return memory(config, whole, batch_size=32, length=64, bytes_per_number=numbers, **how)

    assert held(4).weights == encoder * 4  # in fp32 and on a GPU the products read them as they are
    assert held(2, cpu=False).weights == encoder * 2
    # Afterwards: the classifier and the frozen backbone, for prediction, beside what was trained.
    assert held(4).measuring == encoder * 4 + 2 * matrices * 4
    assert held(2).measuring == encoder * 2 + 2 * matrices * 4
    assert held(2, cpu=False).measuring == encoder * 2 * 2


@pytest.mark.parametrize("size", [2, 4])
def test_four_bits_hold_the_matrices_with_their_scales(size: int) -> None:
    config = load_config("embedded")
    whole = manual(config, "all-linear")
    matrices, encoder = 6 * (4 * 384**2 + 2 * 384 * 1536), whole.count.backbone
    plain, found = (
        memory(config, whole, batch_size=32, length=64, bytes_per_number=size, cpu=False, quantization=kind)
        for kind in ("none", "nf4")
    )
    scales = matrices / 64 + matrices / 64 / 256 * 4
    one = 384 * 1536 * size  # a matrix is dequantized for its product
    assert found.weights == round((encoder - matrices) * size + matrices / 2 + scales) + one
    assert (found.activations, found.trained, found.measuring) == (plain.activations, plain.trained, plain.measuring)
    assert found.total < plain.total


def test_what_follows_the_steps_may_take_the_most() -> None:
    config = load_config("roberta-large")
    large = manual(config, "all-linear")
    found = memory(config, large, batch_size=1, length=16, bytes_per_number=4)
    assert found.weights + found.activations < found.measuring
    assert found.total == found.checkpointed_total == found.trained + found.measuring
