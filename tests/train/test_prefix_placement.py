"""Where a prefix lies while a GPU trains on it; the GPU is imagined."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pennyweight.train.prefix_cache import Prefix
from pennyweight.train.prefix_placement import fits_beside_training, place_prefix

GB = 10**9


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
