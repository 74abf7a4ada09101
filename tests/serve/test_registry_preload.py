"""What is loaded at the start: as much as fits, and one at least."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pennyweight.serve.open_registry import open_registry

from ..server_process import save_random


@pytest.fixture(scope="module")
def folder(tiny_backbone: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("four")
    for seed, name in enumerate("abcd"):
        save_random(tiny_backbone("bert"), made / name, seed=seed)
    return made


@pytest.mark.parametrize(("sizes", "loaded"), [(100, 4), (4, 4), (3.5, 3), (1, 1), (0.001, 1)])
def test_classifiers_are_loaded_until_another_would_push_one_out(folder: Path, sizes: float, loaded: int) -> None:
    one = open_registry([str(folder)], device="cpu", precision="fp32").get("a").nbytes
    registry = open_registry([str(folder)], device="cpu", precision="fp32", memory=int(sizes * one + 0.5))
    assert registry.preload() == loaded
    assert registry.counts["loaded"] == loaded
    assert registry.counts["evictions"] == 0
    assert [registry.describe(name)["state"] for name in "abcd"] == ["loaded"] * loaded + ["on disk"] * (4 - loaded)
