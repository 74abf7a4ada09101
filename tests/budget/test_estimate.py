"""Seconds, cache and memory of a workload, in words and numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pennyweight.budget.backbone_config import load_config
from pennyweight.budget.cost import memory, work
from pennyweight.budget.estimate import Speed, Workload, estimate
from pennyweight.budget.plan import plan

CONFIG = load_config("embedded")
UPPER = plan(CONFIG, labels=4, budget=200_000, strategy="top")
WORKLOAD = Workload(texts=1000, tokens=50, batch_size=32, pooling="cls", caches_prefix=True, bytes_per_number=2)
SPEED = Speed(1e9, "cpu, bf16, fast encoder")


def test_a_cached_prefix_is_computed_once_and_takes_room() -> None:
    found = estimate(CONFIG, UPPER, WORKLOAD, SPEED)
    operations = work(CONFIG, UPPER, length=50)
    assert found.seconds_per_epoch == 1000 * (operations.forward + operations.backward) / 1e9
    assert found.first_epoch_seconds == found.seconds_per_epoch + 1000 * operations.prefix / 1e9
    assert found.cache_bytes == 1000 * 50 * 384 * 2
    assert "38 MB prefix cache" in str(found)
    without = estimate(CONFIG, UPPER, replace(WORKLOAD, caches_prefix=False), SPEED)
    assert (without.cache_bytes, without.first_epoch_seconds) == (0, without.seconds_per_epoch)
    assert without.seconds_per_epoch > found.seconds_per_epoch


def test_a_head_alone_keeps_one_vector_a_text() -> None:
    alone = plan(CONFIG, labels=4, budget=None, strategy="manual")
    assert estimate(CONFIG, alone, WORKLOAD, SPEED).cache_bytes == 1000 * 384 * 2


def test_bytes_per_number_count_for_the_cache_and_for_memory() -> None:
    found = estimate(CONFIG, UPPER, replace(WORKLOAD, bytes_per_number=4), SPEED)
    assert found.cache_bytes == 1000 * 50 * 384 * 4
    assert found.memory_bytes == memory(CONFIG, UPPER, batch_size=32, length=50, bytes_per_number=4).total


def test_a_guess_says_so() -> None:
    assert "(as fast as the last training run here on cpu, bf16, fast encoder)" in str(
        estimate(CONFIG, UPPER, WORKLOAD, SPEED)
    )
    assert "(a guess, because no training run here has taken 30 s or more yet)" in str(
        estimate(CONFIG, UPPER, WORKLOAD, Speed(1e9, None))
    )


def test_memory_with_gradient_checkpointing_stands_beside_that_without() -> None:
    held = memory(CONFIG, UPPER, batch_size=32, length=50, bytes_per_number=2)
    open_, on, off = (
        estimate(CONFIG, UPPER, replace(WORKLOAD, gradient_checkpointing=wanted), SPEED)
        for wanted in (None, True, False)
    )
    assert (open_.memory_bytes, on.memory_bytes, off.memory_bytes) == (held.total, held.checkpointed_total, held.total)
    assert str(open_).endswith(
        f", {held.total / 1e6:,.0f} MB of memory ({held.checkpointed_total / 1e6:,.0f} MB with gradient checkpointing)"
    )
    assert str(on).endswith(f", {held.checkpointed_total / 1e6:,.0f} MB of memory")
    assert str(off).endswith(f", {held.total / 1e6:,.0f} MB of memory")
    operations = work(CONFIG, UPPER, length=50)
    assert on.seconds_per_epoch == pytest.approx(off.seconds_per_epoch + 1000 * operations.forward / 1e9)
    alone = plan(CONFIG, labels=4, budget=None, strategy="manual")
    assert "checkpointing" not in str(estimate(CONFIG, alone, WORKLOAD, SPEED))
