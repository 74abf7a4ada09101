"""How fast this machine is: remembered of trainings long enough, for each way of computing on its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from pennyweight.budget.backbone_config import known_names, load_config
from pennyweight.budget.cost import work
from pennyweight.budget.estimate import Estimate
from pennyweight.budget.families import FAST_FAMILIES
from pennyweight.model.backbone import config_of
from pennyweight.model.encoders import FAMILIES, EncoderSettings
from pennyweight.recipe.loading import resolve_recipe
from pennyweight.recipe.planning import plan_for
from pennyweight.recipe.schema import TrainRecipe
from pennyweight.train import machine_speed
from pennyweight.train.machine_speed import estimate_training, remember_speed

BF16 = {"device": "cpu", "precision": "bf16", "engine": "fast"}
FP32 = BF16 | {"precision": "fp32"}
SLOW = BF16 | {"engine": "reference"}
CUDA = BF16 | {"device": "cuda"}


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(machine_speed, "guessed_speed", lambda: 1e9)
    return tmp_path / "pennyweight" / "speed.json"


def asked(**settings: Any) -> Estimate:
    recipe = resolve_recipe("default", settings)
    config = config_of(recipe.model.backbone, recipe.model.revision)
    return estimate_training(recipe, config, plan_for(recipe, config, 4), texts=1000, tokens=50)


def speed(**settings: Any) -> float:
    """Relative to the guess."""
    recipe = resolve_recipe("default", settings)
    config = config_of(recipe.model.backbone)
    each = work(config, plan_for(recipe, config, 4), length=50).per_text(cached=asked(**settings).cache_bytes > 0)
    return round(1000 * each / 1e9 / asked(**settings).seconds_per_epoch, 6)


def test_without_a_training_it_is_a_guess_and_says_so() -> None:
    found = asked()
    assert found.measured is None
    assert "(a guess, because no training run here has taken 30 s or more yet)" in str(found)


def test_a_short_training_teaches_nothing(file: Path) -> None:
    remember_speed(1e6, 29.9, **BF16)
    assert not file.exists()
    assert asked().measured is None


def test_a_training_of_half_a_minute_is_remembered() -> None:
    remember_speed(30 * 4e9, 30.0, **BF16)
    assert speed() == pytest.approx(4)
    assert "(as fast as the last training run here on cpu, bf16, fast encoder)" in str(asked())


def test_device_precision_and_engine_have_speeds_of_their_own() -> None:
    for number, how in enumerate((BF16, FP32, SLOW, CUDA), 2):
        remember_speed(60 * number * 1e9, 60.0, **how)
    assert speed(precision="fp32") == pytest.approx(3)
    assert speed(encoder="reference") == pytest.approx(4)
    assert speed(hidden_dropout=0.1) == pytest.approx(4)  # the fast encoder has none: the reference computes
    assert speed(device="cpu", encoder="fast", precision="bf16") == pytest.approx(2)
    assert asked(precision="fp16").measured is None
    assert asked().measured == "cuda, bf16, fast encoder"  # auto: as last time
    remember_speed(60 * 9e9, 60.0, **FP32)
    assert asked().measured == "cpu, fp32, fast encoder"
    assert speed(precision="fp32") == pytest.approx(9)


def test_cards_have_speeds_of_their_own_and_the_newest_stands_for_cuda() -> None:
    for card, speed in (("cuda:NVIDIA T4", 1e12), ("cuda:NVIDIA L4", 3e12)):
        remember_speed(speed * 60, 60, device=card, precision="fp16", engine="fast")
    assert machine_speed._known(TrainRecipe(device="cuda"), "auto") == (("cuda:NVIDIA L4", "fp16", "fast"), 3e12)
    assert machine_speed._known(TrainRecipe(device="cpu"), "auto") is None
    assert len(machine_speed._speeds()) == 2


def test_the_families_that_are_estimated_as_fast_are_those_with_a_fast_encoder() -> None:
    settings = EncoderSettings(torch.float32, torch.device("cpu"))
    configs = {config["model_type"]: config for config in map(load_config, known_names())}
    fast = {kind for kind, family in FAMILIES.items()
            if family.fast is not None and family.fast_limit(configs[kind], settings) is None}  # fmt: skip
    assert fast == set(FAST_FAMILIES)


def test_numbers_are_as_wide_as_the_engine_keeps_them() -> None:
    numbers = 1000 * 50 * 384  # one hidden vector a token
    half = asked(strategy="top", encoder="fast", precision="bf16")
    assert half.cache_bytes == 2 * numbers
    assert asked(strategy="top", precision="fp16").cache_bytes == 2 * numbers
    assert asked(strategy="top", precision="fp32").cache_bytes == 4 * numbers
    # The reference keeps fp32 whatever its products are in.
    for settings in ({"encoder": "reference"}, {"hidden_dropout": 0.1}):
        found = asked(strategy="top", precision="bf16", **settings)
        assert found.cache_bytes == 4 * numbers
        assert found.memory_bytes > half.memory_bytes
    deberta = asked(strategy="top", backbone="microsoft/deberta-v3-base", precision="bf16", budget="1M")
    assert deberta.cache_bytes == 4 * 1000 * 50 * 768  # it has no fast encoder
    remember_speed(1e12, 60.0, **FP32)
    assert asked(strategy="top").cache_bytes == 4 * numbers  # as last time


@pytest.mark.parametrize(
    ("flags", "size"), [({"avx512f", "avx512_bf16"}, 2), ({"asimd", "bf16"}, 2), ({"avx2", "avx512_vnni"}, 4), ((), 4)]
)
def test_without_a_training_auto_is_what_the_processor_has_units_for(
    flags: Iterable[str], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_speed, "processor_flags", lambda: frozenset(flags))
    assert asked(strategy="top", device="cpu").cache_bytes == size * 1000 * 50 * 384
    assert asked(strategy="top", device="cuda").cache_bytes == 2 * 1000 * 50 * 384


@pytest.mark.parametrize(
    "text",
    [
        '{"operations_per_second": 1000000.0}',  # as it was kept before, of one training of whatever length
        "", "[]", "3", "null", "{", '{"format": 2}', '{"format": 2, "speeds": 3}', '{"format": 2, "speeds": [[1]]}',
        '{"format": 2, "speeds": [["cpu", "bf16", "fast", "quick"]]}', "[" * 100_000,
        '{"format": 2, "speeds": [["cpu", "bf16", "fast", -1], ["cpu", "fp32", "fast", NaN]]}',
        '{"format": 3, "speeds": [["cpu", "bf16", "fast", 1e12]]}',
    ],
)  # fmt: skip
def test_a_file_that_says_nothing_is_as_none(text: str, file: Path) -> None:
    file.parent.mkdir()
    file.write_text(text)
    assert asked().measured is None
    remember_speed(60 * 2e9, 60.0, **BF16)
    assert speed() == pytest.approx(2)


def test_a_place_that_cannot_be_written_is_fine(file: Path) -> None:
    file.parent.write_text("a file where the folder should be")
    remember_speed(1e12, 60.0, **BF16)
    assert asked().measured is None


def test_plan_after_a_training_of_a_few_texts(
    tiny_backbone: Callable[..., Path], news: Path, file: Path, command: Callable[..., Any]
) -> None:
    import pennyweight as pw

    pw.train(news / "train.csv", backbone=str(tiny_backbone("bert")), budget="5k", max_steps=2, precision="fp32")
    assert not file.exists()
    done = command("plan", "--json")
    assert json.loads(done.out)["estimate"]["measured"] is None
