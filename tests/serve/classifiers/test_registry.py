"""Classifiers are found, checked as `pennyweight.load` checks them, held while there is memory, and read again."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pennyweight as pw
from pennyweight.artifact.manifest import manifest_text
from pennyweight.errors import InputError
from pennyweight.serve.classifiers.open_registry import open_registry
from pennyweight.serve.classifiers.registry import Registry
from pennyweight.serve.classifiers.served_classifier import ServedClassifier
from pennyweight.serve.serving_errors import UnknownClassifier, UnusableClassifier

from ...server_process import save_random, save_three

TEXTS = ["The bank held its rate.", "The striker won the cup in the final minutes of the match.", "polls"]
PAIRS = [("a bank", "a rate"), ("the cup", "the striker won the cup")]


@pytest.fixture(scope="module")
def four(tiny_backbone: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `a` to `d`, alike but for their weights."""
    folder = tmp_path_factory.mktemp("four")
    for seed, name in enumerate("abcd"):
        save_random(tiny_backbone("bert"), folder / name, seed=seed)
    return folder


@pytest.fixture
def copied(four: Path, tmp_path: Path) -> Path:
    """A copy of `four` that a test may damage."""
    return Path(shutil.copytree(four, tmp_path / "copied"))


@pytest.fixture(scope="module")
def foreign(tiny_backbone: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of another backbone than `four`."""
    backbone = tiny_backbone("bert", num_hidden_layers=2)
    return save_random(backbone, tmp_path_factory.mktemp("foreign") / "foreign")


def opened(*sources: object, **settings: Any) -> Registry:
    return open_registry([str(source) for source in sources], device="cpu", **{"precision": "fp32"} | settings)


def computed(registry: Registry, classifier: ServedClassifier, texts: Any) -> np.ndarray:
    """(N, L) probabilities, as a request gets them."""
    tokens = classifier.tokens(texts)
    answers = registry.engine.logits(tokens, [[classifier.member]] * len(tokens))
    return classifier.probabilities(np.stack([row for (row,) in answers]))


def states(registry: Registry) -> list[str]:
    return [registry.describe(name)["state"] for name in registry.names()]


def reseal(folder: Path) -> None:
    """Make checksums and seal right again, as anybody can."""
    path = folder / "pennyweight.json"
    facts = json.loads(path.read_text())
    digests = facts.pop("sha256")
    del facts["seal"]
    path.write_text(manifest_text(facts, folder, list(digests)))


# --- what is served


def test_each_classifier_answers_as_when_it_is_loaded_alone(tiny_backbone: Callable[..., Path], tmp_path: Path) -> None:
    folder = save_three(tiny_backbone("bert"), tmp_path / "served")
    registry = opened(folder)
    assert registry.names() == ("news", "pairs", "topics")
    assert registry.preload() == 3
    for name in registry.names():
        alone = pw.load(folder / name, device="cpu", precision="fp32")
        served = registry.get(name)
        texts: list[Any] = PAIRS if name == "pairs" else TEXTS
        np.testing.assert_allclose(computed(registry, served, texts), alone.predict_proba(texts), atol=1e-5)
        assert (served.labels, served.multi, served.pair) == (alone.labels, alone.multi, alone.pair)
        assert served.max_length == alone.artifact.recipe.data.max_length
        assert served.temperature == alone.temperature
        if served.multi:
            np.testing.assert_array_equal(served.thresholds, alone.thresholds)
    news, pairs, topics = map(registry.get, registry.names())
    assert news.tokenizer is pairs.tokenizer is topics.tokenizer
    assert news.reads_as(topics)
    assert not news.reads_as(pairs)


def test_one_alone_computes_with_its_own_engine(four: Path) -> None:
    registry = opened(four / "a")
    assert registry.preload() == 1
    served = registry.get("a")
    np.testing.assert_array_equal(
        computed(registry, served, TEXTS), pw.load(four / "a", device="cpu", precision="fp32").predict_proba(TEXTS)
    )
    assert registry.describe("a")["state"] == "loaded"
    assert registry.backbone is not None
    with pytest.raises(UnusableClassifier, match="was not loaded at the start"):
        registry.reload("a")


def test_an_exported_model_is_served_alone(four: Path, foreign: Path, tmp_path: Path) -> None:
    from pennyweight.export.onnx import to_onnx

    alone = pw.load(foreign, device="cpu", precision="fp32")  # of two layers: tracing takes a second a layer
    to_onnx(alone.artifact, tmp_path / "exported")
    registry = opened(tmp_path / "exported", precision=None)
    np.testing.assert_allclose(
        computed(registry, registry.get("exported"), TEXTS), alone.predict_proba(TEXTS), atol=1e-5
    )
    described = registry.describe("exported")
    assert (described["state"], described["labels"], described["parameters"]) == ("loaded", ["Sports", "World"], None)
    assert registry.details("exported") == described | {"metrics": None, "card": None}
    with pytest.raises(InputError, match="an exported ONNX model can only be served alone, without --allow-admin"):
        opened(tmp_path / "exported", four)


def test_a_family_without_an_inference_encoder_is_served_alone(
    tiny_backbone: Callable[..., Path], tmp_path: Path
) -> None:
    for name in "ab":
        save_random(tiny_backbone("deberta-v2"), tmp_path / name)
    registry = opened(tmp_path / "a")
    assert computed(registry, registry.get("a"), TEXTS).shape == (3, 2)
    with pytest.raises(InputError, match="backbones of the family deberta-v2 are served one classifier at a time"):
        opened(tmp_path)


def test_a_classifier_is_described_without_its_texts_or_paths(four: Path) -> None:
    registry = opened(four)
    described = registry.describe("b")
    version = described.pop("version")
    assert len(version) == 12
    assert described == {
        "name": "b", "state": "on disk", "problem": None, "task": "single-label", "labels": ["Sports", "World"],
        "pair": False, "max_length": 128, "parameters": described["parameters"],
    }  # fmt: skip
    assert described["parameters"] == pw.load(four / "b", device="cpu").artifact.plan.count.trainable
    assert registry.get("b").version == version
    assert registry.details("b") == registry.describe("b") | {"metrics": {}, "card": ""}


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "/etc", "a/../b", "A", "a\0", "a ", "*", "\ud800"])
def test_names_are_compared_and_never_paths(four: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = opened(four, admin=True)
    opened_paths: list[object] = []
    monkeypatch.setattr(os, "open", lambda *given, **more: opened_paths.append(given))
    for ask in (registry.get, registry.load, registry.unload, registry.reload, registry.describe, registry.details):
        with pytest.raises(UnknownClassifier, match="unknown classifier; received"):
            ask(name)
    assert registry.loaded(name) is None
    assert opened_paths == []


# --- what is found


def test_a_name_can_be_given_and_is_there_once(four: Path, copied: Path) -> None:
    assert opened(f"news={four / 'a'}", f"other={copied / 'a'}", four / "b").names() == ("b", "news", "other")
    with pytest.raises(InputError, match=r"two classifiers are named 'a'; received .*; rename one of them: NAME="):
        opened(four, copied / "a")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("{}/nothing", "nothing: no such folder; expected a classifier's folder or a folder of classifiers"),
        ("{}/a/tokenizer", "tokenizer: no classifier in this folder; expected a folder that `pennyweight train` wrote"),
        ("x={}/nothing", "nothing: no classifier in this folder; expected NAME=FOLDER; received x="),
        ("x/y={}/a", r"not a valid name for a classifier; expected 1 to 200 printable characters"),
        ("..={}/a", "not a valid name for a classifier"),
    ],
)
def test_what_is_no_classifier_is_refused(four: Path, source: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        opened(source.format(four))


def test_classifiers_of_another_backbone_are_refused_by_name(
    copied: Path, foreign: Path, tiny_backbone: Callable[..., Path]
) -> None:
    shutil.copytree(foreign, copied / "foreign")
    with pytest.raises(InputError) as caught:
        opened(copied)
    assert str(caught.value) == (
        f"1 of the classifiers were trained on another backbone: 'foreign'; expected the backbone "
        f"{tiny_backbone('bert')} of the others; serve them with another process, or move them out of the folder"
    )
    with pytest.raises(InputError, match="4 of the classifiers were trained on another backbone: 'a', 'b', 'c', 'd'"):
        opened(copied, backbone=str(tiny_backbone("bert", num_hidden_layers=2)))


def test_several_share_one_number_format_and_the_processor(four: Path) -> None:
    with pytest.raises(InputError, match="expected --precision fp32 or bf16; received int8"):
        opened(four, precision="int8")
    with pytest.raises(InputError, match="need the CPU; received --device cuda"):
        open_registry([str(four)], device="cuda")


# --- what is damaged


def truncate(folder: Path) -> None:
    path = folder / "head.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def not_finite(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = folder / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values()))[0] = np.nan
    save_file(tensors, path)
    reseal(folder)


def wrong_shape(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = folder / "head.safetensors"
    save_file({name: values.T.copy() for name, values in load_file(path).items()}, path)
    reseal(folder)


def no_manifest_seal(folder: Path) -> None:
    (folder / "pennyweight.json").write_text("{}")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (truncate, "head.safetensors: a file does not match its checksum"),
        (not_finite, "has values that are not finite numbers"),
        (wrong_shape, "the head's tensors do not fit the plan"),
        (no_manifest_seal, "the manifest is damaged: it was changed after it was saved"),
    ],
)
def test_a_damaged_classifier_is_listed_with_its_reason_and_the_rest_is_served(
    copied: Path, damage: Callable[[Path], None], why: str
) -> None:
    damage(copied / "c")
    registry = opened(copied)
    assert registry.preload() == 3
    assert states(registry) == ["loaded", "loaded", "unusable", "loaded"]
    assert why in registry.describe("c")["problem"]
    assert registry.counts["unusable"] == 1
    with pytest.raises(UnusableClassifier, match=why):
        registry.get("c")
    with pytest.raises(InputError, match=why):
        opened(copied / "a", copied / "c").preload()


def test_nothing_usable_is_an_error(copied: Path) -> None:
    for name in "abcd":
        truncate(copied / name)
    with pytest.raises(InputError, match=r"none of the 4 classifiers can be used: .*does not match its checksum"):
        opened(copied).preload()


# --- memory


@pytest.mark.parametrize(("sizes", "loaded"), [(100, 4), (4, 4), (3.5, 3), (1, 1), (0.001, 1)])
def test_classifiers_are_loaded_until_another_would_push_one_out(four: Path, sizes: float, loaded: int) -> None:
    one = opened(four).get("a").nbytes
    registry = opened(four, memory=int(sizes * one + 0.5))
    assert registry.preload() == loaded
    assert registry.counts["evictions"] == 0
    assert states(registry) == ["loaded"] * loaded + ["on disk"] * (4 - loaded)


def test_the_least_recently_used_goes_first_and_is_read_again(four: Path) -> None:
    one = opened(four).get("a").nbytes
    registry = opened(four, memory=2 * one)
    before = computed(registry, registry.get("a"), TEXTS)
    for name in "bac":
        registry.get(name)
    assert states(registry) == ["loaded", "on disk", "loaded", "on disk"]
    assert registry.loaded_bytes == 2 * one
    for name in "bd":
        registry.get(name)
    np.testing.assert_array_equal(computed(registry, registry.get("a"), TEXTS), before)
    assert (registry.counts["reads"], registry.counts["evictions"]) == (6, 4)


def test_what_a_request_holds_is_not_put_out(four: Path) -> None:
    one = opened(four).get("a").nbytes
    registry = opened(four, memory=2 * one)
    held = registry.get("a")
    for name in "bcd":
        registry.get(name)
    assert registry.get("a") is held
    assert states(registry) == ["loaded", "on disk", "on disk", "loaded"]


def test_what_was_held_beyond_the_limit_goes_at_the_next_request(four: Path) -> None:
    one = opened(four).get("a").nbytes
    registry = opened(four, memory=one)
    held = [registry.get(name) for name in "abcd"]
    assert registry.loaded_bytes == 4 * one
    del held
    assert registry.loaded("b") is not None
    assert states(registry) == ["on disk", "loaded", "on disk", "on disk"]
    assert registry.loaded_bytes == one


def test_threads_that_ask_for_one_classifier_read_it_once(four: Path) -> None:
    registry = opened(four)
    both = threading.Barrier(8)
    found: list[ServedClassifier] = []

    def ask() -> None:
        both.wait()
        found.append(registry.get("a"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    assert registry.counts["reads"] == 1


# --- folders that change


def test_a_folder_that_changed_answers_from_memory_or_not_at_all_until_it_is_reloaded(copied: Path, four: Path) -> None:
    registry = opened(copied, admin=True)
    held = registry.get("a")
    for name in "ab":
        shutil.rmtree(copied / name)
        shutil.copytree(four / "d", copied / name)
    assert registry.get("a") is held
    for _ in range(2):
        with pytest.raises(UnusableClassifier, match="the folder no longer contains the classifier that was scanned"):
            registry.get("b")
    details = registry.details("a")
    assert (details["metrics"], details["problem"]) == (
        None,
        "the folder no longer contains the classifier that was scanned",
    )
    for name in "ab":
        assert registry.reload(name)["version"] == registry.describe("d")["version"]
        np.testing.assert_array_equal(
            computed(registry, registry.get(name), TEXTS), computed(registry, registry.get("d"), TEXTS)
        )
    assert registry.loaded_bytes == 3 * held.nbytes


def test_a_folder_that_is_gone_answers_from_memory_or_not_at_all(copied: Path) -> None:
    registry = opened(copied, admin=True)
    held = registry.get("a")
    for name in "ab":
        shutil.rmtree(copied / name)
    assert registry.get("a") is held
    with pytest.raises(UnusableClassifier, match="no such classifier"):
        registry.get("b")
    with pytest.raises(UnusableClassifier, match="no such classifier"):
        registry.reload("a")
    assert registry.get("a") is held
    assert states(registry) == ["loaded", "unusable", "on disk", "on disk"]


def test_the_last_of_two_reloads_at_once_holds(copied: Path, four: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = opened(copied, admin=True)
    registry.preload()
    assert registry._loader is not None
    read, former = registry._loader.load, registry.describe("a")["version"]
    first_reads, second_reads, first_is_done = threading.Event(), threading.Event(), threading.Event()

    def load(name: str, folder: Path, digest: str) -> ServedClassifier:
        found = read(name, folder, digest)
        if digest.startswith(former):
            first_reads.set()
            second_reads.wait(0.2)  # which it does not, unless both go on at once
        else:
            second_reads.set()
            first_is_done.wait(60)
        return found

    monkeypatch.setattr(registry._loader, "load", load)

    def reload_first() -> None:
        registry.reload("a")
        first_is_done.set()

    threads = [threading.Thread(target=reload_first), threading.Thread(target=registry.reload, args=("a",))]
    threads[0].start()
    assert first_reads.wait(60)
    shutil.rmtree(copied / "a")
    shutil.copytree(four / "b", copied / "a")
    threads[1].start()
    for thread in threads:
        thread.join()
    assert registry.get("a").version == registry.get("b").version != former


def test_classifiers_come_and_go_by_their_names(copied: Path, four: Path, foreign: Path) -> None:
    registry = opened(copied, admin=True)
    registry.unload("a")
    assert registry.names() == ("b", "c", "d")
    with pytest.raises(UnknownClassifier):
        registry.get("a")
    assert registry.load("a")["state"] == "loaded"
    shutil.copytree(four / "b", copied / "new")
    assert registry.load("new")["name"] == "new"
    assert registry.get("new").version == registry.get("b").version
    shutil.copytree(foreign, copied / "foreign")
    with pytest.raises(UnusableClassifier, match="the backbone is not the one this classifier was trained on"):
        registry.load("foreign")
    assert "foreign" not in registry.names()
    registry.unload("c")
    registry.unload("new")
    assert registry.counts["classifiers"] == 3


def test_a_repaired_classifier_is_used_once_it_is_loaded_again(copied: Path, four: Path) -> None:
    truncate(copied / "b")
    registry = opened(copied, admin=True)
    assert registry.preload() == 3
    shutil.copy(four / "b" / "head.safetensors", copied / "b" / "head.safetensors")
    with pytest.raises(UnusableClassifier):
        registry.get("b")
    assert registry.load("b")["state"] == "loaded"
