"""Disks that fill, folders that cannot be written, two runs in one folder, memory that runs out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pennyweight.storage.locks import lock_folder

Ask = Callable[..., dict[str, Any]]
Outcome = Callable[[Path], dict[str, Any]]
FAST = {"encoder": "fast"}
NOBODY = 65534
FULL = "the disk is full; free some space and run again; what was saved before is intact"


@pytest.fixture(scope="session")
def small_disk(fast_folder: Path) -> Iterator[Callable[[int], Path]]:
    """A function `size -> folder`: an empty file system in memory of so many KiB."""
    mounted: list[Path] = []

    def mount(size: int) -> Path:
        folder = fast_folder / f"disk-{len(mounted)}"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"no small disk: only root mounts file systems ({done.stderr.strip()})")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def used(folder: Path) -> int:
    """KiB in use, whatever holds them."""
    facts = os.statvfs(folder)
    return (facts.f_blocks - facts.f_bfree) * facts.f_frsize >> 10


def digests(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def fill_and_free(sizes: list[int], ask: Ask, toy: Any, whole: Any, outcome: Outcome, mount: Any, figure: Any) -> None:
    """Runs on disks that fill at different moments: each says so in one line, keeps what it has, and can go on."""
    from pennyweight.train.checkpoint import complete

    expected, _ = whole("fast")
    refused = good = 0
    for size in sizes:
        disk = mount(8192)
        run = disk / "run"
        ballast = disk / "ballast"
        ballast.write_bytes(bytes((8192 - used(disk) - size) << 10))
        answer = ask("train", out=run, **toy | FAST)
        if answer["code"] == 0:
            continue
        assert answer["kind"] == "StorageError", answer
        assert answer["error"].endswith(FULL), answer
        assert "Traceback" not in answer["stderr"]
        refused += 1
        held = complete(run / "checkpoints")
        assert not [path for path in run.rglob("*.part")]
        assert len(held) == len(list((run / "checkpoints").glob("step-*")))
        ballast.unlink()
        answer = ask("train", out=run, resume=True, **toy | FAST)
        assert answer["code"] == 0, answer
        if held:
            assert f"checkpoint: step {held[-1][0]}" in answer["result"]["said"]
        good += outcome(run) == expected
    figure(
        f"disk full in the middle of a run, {refused} moments: {good} of {refused} said so in one line, kept the last "
        "checkpoint and ended with the same bits once there was space"
    )
    assert good == refused > 0


def test_a_disk_that_fills(
    ask: Ask, toy: Any, whole: Any, outcome: Outcome, small_disk: Any, figure: Callable[[str], None]
) -> None:
    fill_and_free([180], ask, toy, whole, outcome, small_disk, figure)


@pytest.mark.faults
def test_disks_that_fill_at_many_moments(
    ask: Ask, toy: Any, whole: Any, outcome: Outcome, small_disk: Any, figure: Callable[[str], None]
) -> None:
    fill_and_free([4, 8, 40, 60, 90, 120, 150, 170, 190, 210, 240, 270], ask, toy, whole, outcome, small_disk, figure)


def test_a_file_that_may_not_grow(ask: Ask, toy: Any, whole: Any, outcome: Outcome, tmp_path: Path) -> None:
    answer = ask("train", out=tmp_path / "run", file_size=9000, **toy | FAST)
    assert (answer["code"], answer["kind"]) == (1, "StorageError")
    assert answer["error"].endswith(FULL)
    assert ask("train", out=tmp_path / "run", resume=True, **toy | FAST)["code"] == 0
    assert outcome(tmp_path / "run") == whole("fast")[0]


def test_a_full_disk_while_a_classifier_is_replaced(ask: Ask, toy: Any, saved: Path, tmp_path: Path) -> None:
    """Data that turn out unusable, or no space: the classifier that was there is there."""
    shutil.copytree(saved, tmp_path / "run")
    before = digests(tmp_path / "run")
    answer = ask("train", out=tmp_path / "run", overwrite=True, **toy | FAST | {"data": str(tmp_path / "missing.csv")})
    assert answer["kind"] == "DataError"
    assert digests(tmp_path / "run") == before
    answer = ask("train", out=tmp_path / "run", overwrite=True, file_size=9000, **toy | FAST)
    assert answer["kind"] == "StorageError"
    answer = ask("load", folder=tmp_path / "run", texts=["x"])
    assert answer["code"] == 0, answer
    assert answer["result"] == ask("load", folder=saved, texts=["x"])["result"]


def test_a_folder_that_may_not_be_written(ask: Ask, toy: Any, tmp_path: Path, fast_folder: Path) -> None:
    if os.getuid() != 0:
        folder = tmp_path / "read-only"
        folder.mkdir(mode=0o555)
        answer = ask("train", out=folder / "run", **toy | FAST)
    else:
        # Root may write anywhere, so that a user without rights has to try.
        folder = fast_folder / "read-only"
        folder.mkdir(mode=0o755)
        fast_folder.chmod(0o755)
        backbone = Path(shutil.copytree(toy["backbone"], folder / "backbone"))
        answer = ask("train", user=NOBODY, out=folder / "run", **toy | FAST | {"backbone": str(backbone)})
    assert answer["error"] == (
        f"{folder}/run: the folder is not writable; choose another folder with --out or change its permissions"
    )
    assert (answer["code"], answer["kind"]) == (1, "StorageError")
    assert not (folder / "run").exists()


def test_two_runs_in_one_folder(ask: Ask, toy: Any, saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "run")
    before = digests(tmp_path / "run")
    with lock_folder(tmp_path / "run"):
        answer = ask("train", out=tmp_path / "run", overwrite=True, **toy | FAST)
    assert (answer["code"], answer["kind"]) == (1, "StorageError")
    assert answer["error"] == (
        f"{tmp_path}/run: another run is writing to this folder; wait for it, or choose another --out"
    )
    assert digests(tmp_path / "run") == before


def test_a_run_in_a_folder_with_something_else(ask: Ask, toy: Any, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    answer = ask("train", out=tmp_path, **toy | FAST)
    assert answer["error"].startswith(f"{tmp_path}: the run folder is not empty; received thesis.tex; continue")


def test_memory_that_runs_out_at_load(ask: Ask, saved: Path, tiny_backbone: Any, toy: Any, tmp_path: Path) -> None:
    """A vocabulary of 400,000 takes 50 MB; there are 24."""
    backbone = tiny_backbone("bert", num_hidden_layers=1, vocab_size=400_000)
    settings = toy | FAST | {"backbone": str(backbone), "max_steps": 1}
    assert ask("train", out=tmp_path / "run", **settings)["code"] == 0
    answer = ask("command", arguments=["predict", str(tmp_path / "run"), toy["data"]], memory=24)
    assert answer["code"] == 1, answer
    assert "Traceback" not in answer["stderr"]
    errors = [line for line in answer["stderr"].splitlines() if line.startswith("error: ")]
    assert errors == [f"error: {tmp_path}/run: not enough memory to load this classifier; free some"]


def test_what_a_run_leaves_holds_no_pickle(saved: Path) -> None:
    """Everything on disk is safetensors, JSON, YAML, text or nothing."""
    for path in (path for path in saved.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert path.suffix in (".safetensors", ".json", ".yaml", ".md", "") or path.name == ".lock", path
        if path.suffix == ".json":
            json.loads(content, parse_constant=pytest.fail)  # NaN and Infinity are no JSON
        assert not content.startswith((b"\x80", b"PK")), path
