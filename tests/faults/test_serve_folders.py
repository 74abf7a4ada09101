"""Classifiers' folders that are damaged, forged or replaced while they are served: refused, and the server stays up."""

from __future__ import annotations

import json
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ..server_process import Answer, ServerProcess, save_random, save_three
from .test_forged_artifacts import make_up, reseal

pytestmark = pytest.mark.faults
TEXTS = ("a bank", "the cup and the rate", "")


@pytest.fixture(scope="module")
def backbone(tiny_backbone: Callable[..., Path]) -> Path:
    return tiny_backbone("bert")


@pytest.fixture(scope="module")
def other_backbone(tiny_backbone: Callable[..., Path]) -> Path:
    return tiny_backbone("bert", num_hidden_layers=3)


@pytest.fixture(scope="module")
def served(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_three(backbone, tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def server(served: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(served, "--allow-admin", log=tmp_path_factory.mktemp("log") / "log") as running:
        yield running
    assert "Traceback" not in running.output


# --- damages: each changes the folder of `news`


def change_tensors(folder: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    tensors = load_file(folder / name)
    first = sorted(tensors)[0]
    tensors[first] = change(tensors[first]).contiguous()
    save_file(tensors, folder / name)
    reseal(folder)


def cut(folder: Path, name: str, share: float) -> None:
    os.truncate(folder / name, int((folder / name).stat().st_size * share))


def swap(folder: Path, name: str, make: Callable[[Path], Any]) -> None:
    (folder / name).unlink()
    make(folder / name)


HEAD, ADAPTER, MANIFEST = "head.safetensors", "adapter/adapter_model.safetensors", "pennyweight.json"
DAMAGES: dict[str, Callable[[Path], Any]] = {
    "the folder deleted": shutil.rmtree,
    "the folder a file": lambda folder: (shutil.rmtree(folder), folder.write_text("x")),
    "the folder a dead link": lambda folder: (shutil.rmtree(folder), folder.symlink_to("nowhere")),
    "the folder a link to itself": lambda folder: (shutil.rmtree(folder), folder.symlink_to(folder.name)),
    "the folder empty": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
    "no manifest": lambda folder: (folder / MANIFEST).unlink(),
    "no head": lambda folder: (folder / HEAD).unlink(),
    "no tokenizer": lambda folder: shutil.rmtree(folder / "tokenizer"),
    "half a manifest": lambda folder: cut(folder, MANIFEST, 0.5),
    "half a head": lambda folder: cut(folder, HEAD, 0.5),
    "half an adapter, sealed": lambda folder: (cut(folder, ADAPTER, 0.5), reseal(folder)),
    "an empty head, sealed": lambda folder: (cut(folder, HEAD, 0), reseal(folder)),
    "an empty manifest": lambda folder: cut(folder, MANIFEST, 0),
    "noise for a head, sealed": lambda folder: ((folder / HEAD).write_bytes(os.urandom(4_096)), reseal(folder)),
    "a header of 2**60 bytes, sealed": lambda folder: (
        (folder / HEAD).write_bytes((2**60).to_bytes(8, "little") + b"{}"),
        reseal(folder),
    ),
    "a manifest of zeros": lambda folder: (folder / MANIFEST).write_bytes(bytes(10_000)),
    "a manifest nested deep": lambda folder: (folder / MANIFEST).write_text("[" * 200_000),
    "a head of 3 GB": lambda folder: os.truncate(folder / HEAD, 3 << 30),
    "one byte changed": lambda folder: (folder / HEAD).write_bytes((folder / HEAD).read_bytes()[:-1] + b"\x7f"),
    "NaN in the head, sealed": lambda folder: change_tensors(folder, HEAD, lambda one: one.fill_(float("nan"))),
    "NaN in the adapter, sealed": lambda folder: change_tensors(folder, ADAPTER, lambda one: one.fill_(float("nan"))),
    "infinity in the head, sealed": lambda folder: change_tensors(folder, HEAD, lambda one: one.fill_(float("inf"))),
    "a wrong shape in the head, sealed": lambda folder: change_tensors(folder, HEAD, lambda one: one[:-1]),
    "a wrong shape in the adapter, sealed": lambda folder: change_tensors(folder, ADAPTER, lambda one: one.t()),
    "a wrong type in the head, sealed": lambda folder: change_tensors(folder, HEAD, torch.Tensor.half),
    "a pipe for a head": lambda folder: swap(folder, HEAD, os.mkfifo),
    "a folder for a head": lambda folder: swap(folder, HEAD, Path.mkdir),
    "a link for a head": lambda folder: swap(folder, HEAD, lambda path: path.symlink_to("/etc/passwd")),
    "a link for a manifest": lambda folder: swap(folder, MANIFEST, lambda path: path.symlink_to("/dev/zero")),
}


def is_refused(answer: Answer, status: int = 503) -> None:
    assert answer.status == status, (answer.status, answer.body[:300])
    assert set(answer.json) == {"error", "error_type"}
    assert "\n" not in answer.json["error"]
    assert "Traceback" not in answer.json["error"]


def restore(folder: Path, kept: Path) -> None:
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(kept, folder)


@pytest.fixture
def kept(served: Path, tmp_path: Path, server: ServerProcess) -> Iterator[Path]:
    """A sound copy of `news`, put back in the end; the server must then answer as before."""
    before = server.predict("news", *TEXTS)
    assert before.status == 200, before.body
    shutil.copytree(served / "news", tmp_path / "kept")
    yield tmp_path / "kept"
    restore(served / "news", tmp_path / "kept")
    assert server.post("/v1/classifiers/news/load", {}).status == 200
    assert server.post("/v1/classifiers/news/reload", {}).status == 200
    assert server.predict("news", *TEXTS).json == before.json


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_folder_is_refused_and_the_others_go_on(
    served: Path, server: ServerProcess, kept: Path, damage: Callable[[Path], Any]
) -> None:
    before, others = server.predict("news", *TEXTS).json, server.predict("topics", *TEXTS).json
    damage(served / "news")
    # In memory it is as it was.
    assert server.predict("news", *TEXTS).json == before
    assert server.get("/v1/classifiers/news").status == 200
    # What is there now is refused, and what was in memory goes on.
    is_refused(server.post("/v1/classifiers/news/reload", {}))
    assert server.predict("news", *TEXTS).json == before
    # Without what was in memory nothing is left of it.
    assert server.post("/v1/classifiers/news/unload", {}).status == 200
    is_refused(server.predict("news", *TEXTS), 404)
    loaded = server.post("/v1/classifiers/news/load", {})
    is_refused(loaded, loaded.status if loaded.status in (404, 503) else 503)
    assert server.predict("news", *TEXTS).status in (404, 503)
    assert server.get("/v1/classifiers").status == 200
    assert server.get("/v1/classifiers/news").status in (200, 404)
    assert server.predict("topics", *TEXTS).json == others
    both = server.post("/v1/predict", {"classifiers": ["topics", "news"], "texts": ["a"]})
    assert both.status in (404, 503)


def test_a_classifier_of_another_backbone_is_refused(
    served: Path, server: ServerProcess, kept: Path, other_backbone: Path
) -> None:
    before = server.predict("news", *TEXTS).json
    save_random(other_backbone, served / "news", ("Business", "Sports", "World"))
    is_refused(server.post("/v1/classifiers/news/reload", {}))
    assert server.predict("news", *TEXTS).json == before
    save_random(other_backbone, served / "foreign")
    is_refused(server.post("/v1/classifiers/foreign/load", {}))
    is_refused(server.predict("foreign", *TEXTS), 404)
    shutil.rmtree(served / "foreign")


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_what_was_damaged_on_disk_is_refused_when_it_is_read_again(
    backbone: Path, tmp_path_factory: pytest.TempPathFactory, damage: Callable[[Path], Any]
) -> None:
    """Without the admin: the registry alone, memory for one classifier, so that `news` is pushed out and read again."""
    from pennyweight.serve.classifiers.open_registry import open_registry
    from pennyweight.serve.serving_errors import UnusableClassifier

    folder = save_three(backbone, tmp_path_factory.mktemp("evicted"))
    registry = open_registry([str(folder)], device="cpu", precision="fp32", memory=1)
    registry.get("news")
    registry.get("topics")
    damage(folder / "news")
    with pytest.raises(UnusableClassifier) as raised:
        registry.get("news")
    assert "\n" not in str(raised.value)
    assert registry.describe("news")["state"] == "unusable"
    assert registry.details("news")["metrics"] is None or damage is not shutil.rmtree
    registry.get("pairs")


def test_made_up_classifiers_are_refused_with_one_line_or_give_probabilities(
    backbone: Path, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    """Right checksums over odd values anywhere, through reload and through the engine."""
    from pennyweight.errors import PennyweightError
    from pennyweight.serve.classifiers.open_registry import open_registry

    save_three(backbone, tmp_path / "served")
    shutil.copytree(tmp_path / "served" / "news", tmp_path / "kept")
    registry = open_registry([str(tmp_path / "served")], device="cpu", precision="fp32", admin=True)
    chance, refused, used, wrong = random.Random(1), 0, 0, []
    for _ in range(1_000):
        restore(tmp_path / "served" / "news", tmp_path / "kept")
        try:
            what = make_up(tmp_path / "served" / "news", chance)
        except (UnicodeEncodeError, ValueError):
            continue
        try:
            registry.reload("news")
            found = registry.get("news")
            texts: list[Any] = [("a bank", ""), ("", "the cup")] if found.pair else ["a bank", ""]
            rows = registry.engine.logits(found.tokens(texts), [[found.member]] * 2)
            logits = np.stack([row for (row,) in rows])
            used += 1
            if not np.isfinite(logits).all():  # from finite weights: the batcher refuses it
                continue
            if logits.shape != (2, len(found.labels)) or not (0 <= found.probabilities(logits).min() <= 1):
                wrong.append(f"{what}: {logits}")
        except PennyweightError as error:
            refused += 1
            if "\n" in str(error):
                wrong.append(f"{what}: {error}")
        except BaseException as error:
            wrong.append(f"{what}: {type(error).__name__}: {str(error)[:300]}")
    figure(f"{refused + used:,} made-up classifiers reloaded: {refused:,} refused with one line, {used:,} taken")
    assert wrong == []
    assert refused > 300


def test_a_classifier_that_is_saved_again_and_again_is_never_a_mix(
    backbone: Path, served: Path, server: ServerProcess, kept: Path, figure: Callable[[str], None]
) -> None:
    """Two versions whose labels, ranks and weights differ: each answer is one of the two, named by its version."""
    versions = {}
    for seed in (5, 6):
        names = ("Business", "Sports", "World") if seed == 5 else ("Science", "Trade")
        save_random(backbone, served / "news", names, seed, r=seed)
        assert server.post("/v1/classifiers/news/reload", {}).status == 200
        answer = server.predict("news", *TEXTS).json
        versions[answer["version"]] = rounded(answer)
    assert len(versions) == 2
    stop, saves, asked = threading.Event(), [0], []

    def save() -> None:
        while not stop.is_set():
            seed = 5 + saves[0] % 2
            names = ("Business", "Sports", "World") if seed == 5 else ("Science", "Trade")
            save_random(backbone, served / "news", names, seed, r=seed)
            saves[0] += 1

    def ask(number: int) -> Any:
        if number % 5 == 0:
            return server.post("/v1/classifiers/news/reload", {}).status
        answer = server.predict("news", *TEXTS)
        asked.append(answer.status)
        if answer.status != 200:
            return answer.status
        return "as it is" if versions[answer.json["version"]] == rounded(answer.json) else answer.json

    saving = threading.Thread(target=save)
    saving.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(ask, range(2_000)))
    finally:
        stop.set()
        saving.join()
    kinds = {json.dumps(one) for one in found}
    figure(f"{saves[0]} saves during {len(asked):,} requests and {len(found) - len(asked)} reloads: {sorted(kinds)}")
    assert kinds <= {'"as it is"', "200", "503"}
    assert asked.count(200) > 0.9 * len(asked)
    versions_seen = {server.predict("news", *TEXTS).json["version"]}
    assert versions_seen <= versions.keys()


def rounded(answer: Any) -> Any:
    """The predictions to four digits: company in a batch changes the last ones."""
    return [
        (one["label"], {name: float(np.round(value, 4)) for name, value in one["probabilities"].items()})
        for one in answer["predictions"]
    ]
