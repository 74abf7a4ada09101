"""Checkpoints: whole or not there, newest by manifest, held to the model they are for."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pennyweight.errors import ArtifactError
from pennyweight.storage.checksums import seal
from pennyweight.train import checkpoint
from pennyweight.train.checkpoint import Checkpoint


def state(step: int) -> Checkpoint:
    weights = {"head.weight": torch.full((2, 3), step / 7), "head.bias": torch.arange(2.0)}
    moments: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        moments |= {f"{name}/exp_avg": tensor + 1, f"{name}/exp_avg_sq": tensor * tensor}
        moments[f"{name}/step"] = torch.tensor(float(step))
    progress = {"step": step, "history": [{"step": step, "train_loss": 0.1 + 0.2}], "best": {}}
    return Checkpoint(weights, moments, {}, {"cpu": torch.get_rng_state()}, progress, {"data": "abc"})


def parameters() -> dict[str, torch.nn.Parameter]:
    return {name: torch.nn.Parameter(tensor) for name, tensor in state(1).weights.items()}


def steps(folder: Path) -> list[int]:
    return [step for step, _ in checkpoint.complete(folder)]


def test_a_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, state(5), keep=2)
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.step == 5
    assert found.progress == state(5).progress
    assert found.fingerprint == {"data": "abc"}
    for kind in ("weights", "optimizer", "best", "random"):
        expected = getattr(state(5), kind)
        assert getattr(found, kind).keys() == expected.keys()
        assert all(torch.equal(getattr(found, kind)[name], expected[name]) for name in expected)


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (2, 4, 10):
        checkpoint.save(tmp_path, state(step), keep=2)
    assert steps(tmp_path) == [4, 10]
    assert sorted(os.listdir(tmp_path)) == ["step-00000004", "step-00000010"]


def test_the_newest_is_found_by_manifest_not_by_name_or_time(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, state(2), keep=9)
    checkpoint.save(tmp_path, state(9), keep=9)
    (tmp_path / "step-00000009").rename(tmp_path / "a")
    (tmp_path / "step-00000002").rename(tmp_path / "z-step-00000099")
    os.utime(tmp_path / "z-step-00000099", (4e9, 4e9))
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.step == 9


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_one_gives_way_to_the_one_before(tmp_path: Path, name: str, damage: str) -> None:
    checkpoint.save(tmp_path, state(2), keep=9)
    file = checkpoint.save(tmp_path, state(4), keep=9) / name
    content = file.read_bytes()
    if damage == "remove":
        file.unlink()
    else:
        file.write_bytes(content[:-1] if damage == "cut" else content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.step == 2


def test_what_is_not_a_checkpoint_is_passed_over(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path / "missing") is None
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "manifest.json").write_text(seal({"format": 1, "step": 3, "sha256": {"../../etc/passwd": "x"}}))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "manifest.json").write_text("[")
    assert checkpoint.latest(tmp_path) is None


def test_not_a_number_is_no_progress(tmp_path: Path) -> None:
    bad = state(3)
    bad.progress["loss_sum"] = float("nan")
    with pytest.raises(ValueError, match="Out of range float"):
        checkpoint.save(tmp_path, bad, keep=2)
    assert os.listdir(tmp_path) == []


def test_what_a_run_will_write_anew_is_dropped(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        checkpoint.save(tmp_path, state(step), keep=9)
    (tmp_path / "step-00000001").mkdir()
    (tmp_path / "notes.txt").touch()
    checkpoint.keep_up_to(tmp_path, state(4))
    assert sorted(os.listdir(tmp_path)) == ["notes.txt", "step-00000002", "step-00000004"]
    checkpoint.keep_up_to(tmp_path, None)
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_a_content_that_checksums_vouch_for_and_that_is_none(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, state(2), keep=2)
    (path / "weights.safetensors").write_bytes(b"nonsense")
    manifest = {name: checkpoint.sha256(path / name) for name in checkpoint.FILES}
    (path / "manifest.json").write_text(seal({"format": 1, "step": 2, "sha256": manifest}))
    with pytest.raises(ArtifactError, match="this checkpoint cannot be read; received"):
        checkpoint.latest(tmp_path)


def test_a_checkpoint_of_another_plan_is_refused() -> None:
    checkpoint.check_fits(state(3), parameters())
    other = state(3)
    other.weights["head.weight"] = torch.zeros(2, 4)
    with pytest.raises(ArtifactError) as caught:
        checkpoint.check_fits(other, parameters())
    assert str(caught.value) == (
        "weights.safetensors -> head.weight: the checkpoint does not fit the plan; expected shape (2, 3); received "
        "shape (2, 4); resume with the recipe the run was started with, or start again with --overwrite"
    )
    other = state(3)
    del other.optimizer["head.bias/step"]
    with pytest.raises(ArtifactError, match=r"expected shape \(\); received no such tensor"):
        checkpoint.check_fits(other, parameters())
    other = state(3)
    other.random = {}
    with pytest.raises(ArtifactError, match="has no random state"):
        checkpoint.check_fits(other, parameters())


def test_nothing_in_a_checkpoint_is_a_pickle(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, state(2), keep=2)
    assert {file.suffix for file in path.iterdir()} == {".json", ".safetensors"}
    json.loads((path / "state.json").read_text(), parse_constant=pytest.fail)
    shutil.rmtree(path)
