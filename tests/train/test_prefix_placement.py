"""Where a prefix lies while a GPU trains on it; the GPU is imagined."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pennyweight.data.batching import pack
from pennyweight.model.encoders.bert import FastEncoder
from pennyweight.model.inference import TokenFeed
from pennyweight.train.prefix_cache import Prefix
from pennyweight.train.prefix_placement import (
    computing_is_quicker,
    fits_beside_training,
    place_prefix,
    stays_in_main_memory,
)

GB = 10**9
CONFIG: dict[str, Any] = {
    "model_type": "bert", "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 3, "intermediate_size": 64,
    "vocab_size": 50, "max_position_embeddings": 64,
}  # fmt: skip


@pytest.mark.parametrize(("needed", "free", "fits"), [
    (0, 8 * GB, True), (1, 8 * GB, False), (6 * GB, 14 * GB, True), (6 * GB + 1, 14 * GB, False), (GB, 3 * GB, False),
])  # fmt: skip
def test_half_of_the_memory_stays_free_for_training(needed: int, free: int, fits: bool) -> None:
    assert fits_beside_training(needed, free, 16 * GB) is fits


class Imagined:
    """Hidden states of a given size, which note where they are moved."""

    def __init__(self, size: int, full: bool = False) -> None:
        self.size, self.full, self.place = size, full, "cpu"

    def numel(self) -> int:
        return self.size

    def element_size(self) -> int:
        return 1

    def to(self, device: torch.device) -> Imagined:
        if self.full:
            raise torch.OutOfMemoryError("CUDA out of memory")
        moved = Imagined(self.size)
        moved.place = device.type
        return moved


def prefix_of(hidden: Any, device: str) -> Prefix:
    rows = np.zeros(1, dtype=np.int64)
    return Prefix(hidden, rows, rows + 1, 2, 8, torch.device(device), Path("x.prefix"), False, 0.0)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 GB, 13 of them free; torch holds two more that it does not use."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (13 * GB, 16 * GB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3 * GB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: GB)


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize(("size", "full", "place", "said"), [
    (7 * GB, False, "cuda", "prefix: 7,000 MB on the GPU, 8.0 of its 16.0 GB are left for training"),
    (7 * GB + 1, False, "cpu",
     "prefix: 7,000 MB stay in main memory, because less than half of the GPU's memory would remain for training"),
    (GB, True, "cpu", "prefix: 1,000 MB stay in main memory: the GPU has no free block of this size"),
])  # fmt: skip
def test_it_goes_to_the_gpu_where_it_fits(
    size: int, full: bool, place: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "pennyweight"):
        found: Any = place_prefix(prefix_of(Imagined(size, full), "cuda"))
    assert found.hidden.place == place
    assert found.bytes == size
    assert caplog.messages == [said]


def test_on_a_cpu_it_stays_as_it_is() -> None:
    given = prefix_of(Imagined(1), "cpu")
    assert place_prefix(given) is given


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize(("needed", "kind", "stays"), [
    (7 * GB, "cuda", False), (7 * GB + 1, "cuda", True), (7 * GB + 1, "cpu", False),
])  # fmt: skip
def test_what_does_not_fit_is_read_from_main_memory(needed: int, kind: str, stays: bool) -> None:
    assert stays_in_main_memory(needed, torch.device(kind)) is stays


class Clock:
    """A clock that stands still but when an encoder computes; then it goes on by so many seconds."""

    def __init__(self, encoder: FastEncoder, computing: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.computed = 0.0, 0
        run = encoder.run

        def timed(hidden: torch.Tensor, mask: torch.Tensor, first: int, last: int) -> torch.Tensor:
            assert (first, last) == (0, 2)
            self.now += computing
            self.computed += 1
            return run(hidden, mask, first, last)

        monkeypatch.setattr(encoder, "run", timed)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def encoder() -> FastEncoder:
    made = FastEncoder(CONFIG)
    made.load_weights({name: torch.zeros(value.shape) for name, value in made.module.named_parameters()})
    return made


def feed_of(texts: int) -> TokenFeed:
    return TokenFeed(pack([[1 + row % 9] * (1 + row % 13) for row in range(texts)]), 0, 8, 64, torch.device("cpu"))


@pytest.mark.parametrize("texts", [3, 100])
@pytest.mark.parametrize(("computing", "reading", "quicker"), [(0.004, 0.0065, True), (0.004, 0.003, False)])
def test_the_quicker_of_two_ways_is_measured(
    computing: float, reading: float, quicker: bool, texts: int, encoder: FastEncoder, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    clock, read = Clock(encoder, computing, monkeypatch), Prefix.__call__
    batches: list[int] = []

    def timed(prefix: Prefix, indices: np.ndarray) -> Any:
        found = read(prefix, indices)
        assert found["hidden"].shape[0] == len(indices)
        clock.now += reading
        batches.append(len(indices))
        return found

    monkeypatch.setattr(Prefix, "__call__", timed)
    caplog.set_level(logging.INFO, "pennyweight")
    assert computing_is_quicker(encoder, feed_of(texts), 2, torch.float32, 8, clock) is quicker
    assert clock.computed == len(batches) == 2 * (5 if texts > 40 else 1)
    decided = "not kept" if quicker else "kept in main memory"
    assert caplog.messages == [
        f"prefix: {decided}, because a batch of frozen layers takes 4.0 ms to compute and {reading * 1e3:.1f} ms "
        "to read from there"
    ]
