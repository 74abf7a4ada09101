"""Saved classifiers: what is written is what is read, and nothing else is."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pennyweight import pipeline
from pennyweight.artifact import layout, saved_files
from pennyweight.artifact.load_artifact import load_artifact, metrics_of, read_fingerprint, read_recipe
from pennyweight.artifact.manifest import manifest_text
from pennyweight.artifact.model_card import model_card
from pennyweight.artifact.save_artifact import save_artifact
from pennyweight.artifact.saved_files import SavedFiles, read_files
from pennyweight.errors import ArtifactError, PennyweightError, StorageError
from pennyweight.model import backbone as backbones
from pennyweight.model.kernels.int8_linear import has_int8
from pennyweight.predict import predictor as predict
from pennyweight.predict.explanation import explain
from pennyweight.predict.label_shift import training_shares
from pennyweight.storage import checksums, untrusted_folder

from ..json_values import places, put

TEXTS = ["rates fell", "a late goal", ""]
ROWS = [(f"{word} number {number}", label) for number in range(12) for word, label in (("bank", "a"), ("goal", "b"))]


@pytest.fixture(scope="module")
def run(tiny_backbone: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifact") / "run"
    pipeline.train(
        ROWS, out=folder, backbone=str(tiny_backbone("bert", num_hidden_layers=1)), strategy="manual", r=2,
        budget="none", max_steps=2, device="cpu", precision="fp32", report="short",
    )  # fmt: skip
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def refusal(folder: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        predict.load(folder, device="cpu")
    return str(caught.value).replace(str(folder), "F")


AGAIN = "copy the folder again from its source, or train again"


def test_it_comes_back_with_the_same_answers(run: Path, tmp_path: Path) -> None:
    one = predict.load(run, device="cpu")
    one.save(tmp_path / "second")
    other = predict.load(tmp_path / "second", device="cpu")
    assert np.array_equal(one.predict_proba(TEXTS), other.predict_proba(TEXTS))
    assert other.artifact.run == one.artifact.run != {}
    assert other.metrics == one.metrics


def test_the_manifest_lists_every_file_of_the_classifier(run: Path) -> None:
    listed = read_files(run).facts["sha256"]
    assert {"recipe.yaml", "plan.json", "metrics.json", "README.md", layout.ADAPTER, layout.HEAD} <= listed.keys()
    others = {path.relative_to(run).parts[0] for path in run.rglob("*")} - {name.split("/")[0] for name in listed}
    assert others <= {"pennyweight.json", "checkpoints", "report", "report.html", ".lock"}


def test_files_that_are_not_its_own_do_not_matter(copy: Path) -> None:
    shutil.rmtree(copy / "checkpoints")
    (copy / "notes.txt").write_text("mine")
    assert len(predict.load(copy, device="cpu").labels) == 2


@pytest.mark.parametrize("file", ["tokenizer/added_tokens.json", "adapter/adapter_model.bin", "tokenizer/deep/x.py"])
def test_an_unsigned_file_where_libraries_read_everything(copy: Path, file: str) -> None:
    (copy / file).parent.mkdir(exist_ok=True)
    (copy / file).touch()
    assert refusal(copy) == f"F/{file}: a file that the manifest does not list; {AGAIN}"


def test_no_classifier(tmp_path: Path, copy: Path) -> None:
    assert refusal(tmp_path / "x") == "F: no such classifier; expected a folder that `pennyweight train` wrote"
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty") == "F: not a saved classifier: no pennyweight.json"
    (copy / "pennyweight.json").unlink()
    assert refusal(copy) == (
        "F: not a saved classifier: no pennyweight.json; the run did not finish; continue it with --resume"
    )


def test_a_newer_format(copy: Path) -> None:
    facts = json.loads((copy / "pennyweight.json").read_text())
    (copy / "pennyweight.json").write_text(json.dumps(facts | {"format": 2}))
    assert refusal(copy) == (
        "F: this classifier was saved by a newer Pennyweight; expected format 1 or older; received format 2; "
        "upgrade: pip install -U pennyweight"
    )


def test_a_manifest_that_was_edited(copy: Path) -> None:
    path = copy / "pennyweight.json"
    path.write_text(path.read_text().replace('"a"', '"c"'))
    assert refusal(copy) == f"F/pennyweight.json: the manifest is damaged: it was changed after it was saved; {AGAIN}"


def test_labels_cannot_be_swapped_by_swapping_files(copy: Path) -> None:
    (copy / "plan.json").write_bytes((copy / "metrics.json").read_bytes())
    assert refusal(copy) == f"F/plan.json: a file does not match its checksum; {AGAIN}"
    (copy / "plan.json").unlink()
    assert refusal(copy) == f"F/plan.json: a file is missing; {AGAIN}"


def reseal(folder: Path, **changes: Any) -> None:
    facts = json.loads((folder / layout.MANIFEST).read_text()) | changes
    names = list(facts.pop("sha256"))
    facts.pop("seal")
    (folder / layout.MANIFEST).write_text(manifest_text(facts, folder, names))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("adapter/adapter_config.json", {"r": 3}, "F/adapter/adapter_config.json: r differs from the plan"),
        ("adapter/adapter_config.json", {"lora_alpha": 1}, "F/adapter/adapter_config.json: lora_alpha differs from the "
        "plan"),
        ("plan.json", {"trainable": 7}, "F/plan.json: unexpected content: plan: the plan's parts do not add up; "),
        ("plan.json", {"adapter": None}, "F/plan.json: the plan has "),
        ("tokenizer/tokenizer_config.json", {"auto_map": {}}, "F/tokenizer/tokenizer_config.json: the tokenizer needs "
        "to run its own code (auto_map)"),
        ("tokenizer/tokenizer.json", {"model": {"type": "Evil"}}, "F/tokenizer: the tokenizer cannot be read ("),
        ("tokenizer/tokenizer.json", {"added_tokens": [{"id": 10**6, "content": "goal", "single_word": False,
         "lstrip": False, "rstrip": False, "normalized": False, "special": False}]}, "F/tokenizer: the tokenizer"),
    ],
)  # fmt: skip
def test_parts_that_contradict_each_other(copy: Path, name: str, change: dict[str, Any], message: str) -> None:
    (copy / name).write_text(json.dumps(json.loads((copy / name).read_text()) | change))
    reseal(copy)
    assert refusal(copy).startswith(message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pooling": "mean"}, f"F/pennyweight.json: pooling differs from the recipe and the plan; {AGAIN}"),
        ({"labels": {"names": ["a", "b", "c"]}}, "F/plan.json: the plan has "),
        ({"labels": {"names": "ab"}}, "F/pennyweight.json: unexpected content: not a list of class names; "),
        ({"backbone": None}, f"F/pennyweight.json: the manifest names no backbone; {AGAIN}"),
    ],
)
def test_a_manifest_that_contradicts_the_files(copy: Path, change: dict[str, Any], message: str) -> None:
    reseal(copy, **change)
    assert refusal(copy).startswith(message)


def test_an_adapters_config_may_hold_what_switches_nothing_on_and_nothing_else(copy: Path) -> None:
    path = copy / layout.ADAPTER_CONFIG
    config = json.loads(path.read_text())
    for added in ({"a_later_field": None}, {"a_later_field": False}, {"peft_version": "0.99"}):
        path.write_text(json.dumps(config | added))
        reseal(copy)
        assert predict.load(copy, device="cpu").labels == ("a", "b")
    for key, value in (("init_lora_weights", "pissa"), ("fan_in_fan_out", True), ("peft_type", "LOHA"), ("r", None)):
        path.write_text(json.dumps(config | {key: value}))
        reseal(copy)
        assert refusal(copy) == f"F/{layout.ADAPTER_CONFIG}: {key} differs from the plan; {AGAIN}"


@pytest.mark.parametrize("change", ["renamed", "transposed", "of another layer"])
def test_tensors_of_the_right_size_under_a_wrong_name_or_shape(copy: Path, change: str) -> None:
    path = copy / layout.ADAPTER
    tensors = load_file(path)
    name = min(name for name in tensors if "query.lora_A" in name)
    taken = tensors.pop(name)
    new = {"renamed": f"{name}x", "of another layer": name.replace("layer.0", "layer.1")}.get(change, name)
    save_file({**tensors, new: taken.t().contiguous() if change == "transposed" else taken}, path)
    reseal(copy)
    problem = "the adapter's tensors do not fit its plan"
    assert refusal(copy).startswith(f"F/{layout.ADAPTER}: {problem}; expected {min(name, new)} of ")


def test_a_head_of_other_shapes(copy: Path) -> None:
    path = copy / layout.HEAD
    tensors = load_file(path)
    save_file({name: tensor.flatten() for name, tensor in tensors.items()}, path)
    reseal(copy)
    assert refusal(copy) == f"F/{layout.HEAD}: the head's tensors do not fit the plan; {AGAIN}"


@pytest.fixture
def with_ranges(run: Path, tmp_path: Path) -> Path:
    """A classifier with ranges for int8, though not with all that its backbone needs."""
    artifact = replace(predict.load(run, device="cpu").artifact, ranges={"0.qkv": torch.arange(1.0, 33.0)})
    return save_artifact(artifact, tmp_path / "with ranges")


def test_ranges_for_int8_are_kept(with_ranges: Path, run: Path) -> None:
    assert predict.load(run, device="cpu").artifact.ranges == {}
    ((name, values),) = predict.load(with_ranges, device="cpu").artifact.ranges.items()
    assert name == "0.qkv"
    assert torch.equal(values, torch.arange(1.0, 33.0))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.ones(2, 2), "0.qkv does not hold ranges"),
        (torch.ones(32, dtype=torch.int32), "tensor 0.qkv is of type torch.int32, not float32"),
        (torch.full((32,), torch.nan), "tensor 0.qkv has values that are not finite numbers"),
    ],
    ids=["of two dimensions", "whole numbers", "not a number"],
)
def test_damaged_ranges_are_refused(with_ranges: Path, values: torch.Tensor, message: str) -> None:
    save_file({"0.qkv": values}, with_ranges / layout.RANGES)
    assert refusal(with_ranges) == f"F/{layout.RANGES}: a file does not match its checksum; {AGAIN}"
    reseal(with_ranges)
    assert refusal(with_ranges) == f"F/{layout.RANGES}: {message}; {AGAIN}"


def test_a_damaged_limit_of_the_cascade_is_refused(with_ranges: Path) -> None:
    save_file({"0.qkv": torch.ones(32), "margin": torch.ones(2)}, with_ranges / layout.RANGES)
    reseal(with_ranges)
    assert refusal(with_ranges) == f"F/{layout.RANGES}: margin does not hold ranges; {AGAIN}"


@pytest.mark.skipif(not has_int8(), reason="oneDNN's int8 product does not exist here")
def test_ranges_of_another_model_are_refused(with_ranges: Path) -> None:
    remedy = "train it again, or use --precision fp32"
    problem = "the saved int8 ranges do not fit the model: "
    with pytest.raises(ArtifactError) as caught:
        predict.load(with_ranges, device="cpu", precision="int8").predict(TEXTS)
    assert str(caught.value) == f"{problem}0.out; expected 32 numbers; received none; {remedy}"
    save_file({"0.qkv": torch.ones(7)}, with_ranges / layout.RANGES)
    reseal(with_ranges)
    with pytest.raises(ArtifactError) as caught:
        predict.load(with_ranges, device="cpu", precision="int8").predict(TEXTS)
    assert str(caught.value) == f"{problem}0.qkv; expected 32 numbers; received 7; {remedy}"


def test_model_and_tokenizer_are_made_when_they_are_asked_for(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pennyweight.artifact import load_artifact as loading
    from pennyweight.artifact import validation

    made: list[str] = []
    build, build_tokenizer = loading.build, validation.build_tokenizer
    monkeypatch.setattr(loading, "build", lambda *given: [made.append("model"), build(*given)][1])
    monkeypatch.setattr(
        validation, "build_tokenizer", lambda *given: [made.append("tokenizer"), build_tokenizer(*given)][1]
    )
    found = load_artifact(run, predict.load(run, device="cpu").runtime)
    assert made == []
    assert found.model is found.model
    assert found.tokenizer is found.tokenizer
    assert made == ["model", "tokenizer"]
    own = found.model.adapter.state()
    assert own.keys() == found.tensors.adapter.keys()
    assert all(torch.equal(own[name], tensor) for name, tensor in found.tensors.adapter.items())
    assert found.tokenizer("The bank.")["input_ids"] == found.fast_tokenizer.backend_tokenizer.encode("The bank.").ids


def test_a_scaled_copy_has_scaled_tensors_and_a_scaled_model(run: Path) -> None:
    artifact = predict.load(run, device="cpu").artifact
    half = artifact.scaled(0.5)
    for name, tensor in artifact.tensors.adapter.items():
        expected = tensor * 0.5 if ".lora_B." in name else tensor
        assert torch.equal(half.tensors.adapter[name], expected)
        assert torch.equal(half.model.adapter.state()[name], expected)
        assert torch.equal(artifact.model.adapter.state()[name], tensor)
    loaded = predict.load(run, device="cpu", adapter_scale=0.5).artifact
    assert loaded.tensors.adapter.keys() == half.tensors.adapter.keys()
    assert all(torch.equal(loaded.model.adapter.state()[name], held) for name, held in half.tensors.adapter.items())


def test_another_backbone_or_the_same_with_another_config(copy: Path, run: Path, tmp_path: Path) -> None:
    name = json.loads((run / "pennyweight.json").read_text())["backbone"]["name"]
    backbone = Path(shutil.copytree(name, tmp_path / "backbone"))
    predict.load(copy, device="cpu", backbone=str(backbone))
    config = json.loads((backbone / "config.json").read_text())
    (backbone / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-3}))
    with pytest.raises(ArtifactError, match="the backbone is not the one this classifier was trained on"):
        predict.load(copy, device="cpu", backbone=str(backbone))


def test_saving_does_not_overwrite_what_is_there(run: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer").mkdir()
    with pytest.raises(ArtifactError, match="tokenizer is already there; choose another folder"):
        save_artifact(predict.load(run, device="cpu").artifact, tmp_path, replace=False)


def test_a_replaced_classifier_leaves_nothing_behind(copy: Path, tiny_backbone: Callable[..., Path]) -> None:
    backbone = str(tiny_backbone("bert", num_hidden_layers=1))
    pipeline.train(
        ROWS, out=copy, overwrite=True, backbone=backbone, strategy="head-only", max_steps=1, device="cpu",
        precision="fp32", report="short",
    )  # fmt: skip
    assert not (copy / "adapter").exists()
    assert [path.name for path in (copy / "checkpoints").iterdir()] == ["step-00000001"]
    assert predict.load(copy, device="cpu").artifact.plan.adapter is None


# --- a folder that is saved again ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other(tiny_backbone: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another classifier on the same backbone: other labels, and a head alone."""
    folder = tmp_path_factory.mktemp("artifact") / "other"
    pipeline.train(
        [(text, {"a": "c", "b": "d"}[label]) for text, label in ROWS], out=folder,
        backbone=str(tiny_backbone("bert", num_hidden_layers=1)), strategy="head-only", max_steps=2, device="cpu",
        precision="fp32", report="short",
    )  # fmt: skip
    return folder


def generation(saved: SavedFiles) -> tuple[str, ...]:
    """What must not be mixed: the label names, and the weights they are for."""
    parts = [sha256(saved.content[name]).hexdigest() for name in (layout.HEAD, layout.PLAN, layout.RECIPE)]
    return (*saved.facts["labels"]["names"], *parts, str(layout.ADAPTER in saved))


def test_two_hundred_loads_in_a_loop_of_saves_never_mix_two_classifiers(run: Path, other: Path, tmp_path: Path) -> None:
    both = [predict.load(folder, device="cpu").artifact for folder in (run, other)]
    folder = save_artifact(both[0], tmp_path / "busy")
    (folder / "checkpoints").mkdir()
    (folder / "notes.txt").write_text("mine")
    known = {generation(read_files(folder))}
    save_artifact(both[1], folder)
    known.add(generation(read_files(folder)))
    done = threading.Event()
    saves: list[int] = []

    def save() -> None:
        while not done.is_set():
            save_artifact(both[len(saves) % 2], folder)
            saves.append(1)

    writer = threading.Thread(target=save)
    writer.start()
    try:
        seen = [generation(read_files(folder)) for _ in range(180)]
        answers = [predict.load(folder, device="cpu") for _ in range(20)]
        while len(saves) <= 5 and writer.is_alive():  # a save may be slower than the reads on a busy machine
            seen.append(generation(read_files(folder)))
    finally:
        done.set()
        writer.join()
    assert set(seen) == known
    assert len(saves) > 5
    for found in answers:
        assert (found.artifact.plan.adapter is None) == (found.labels == ("c", "d"))
        expected = both[found.labels == ("c", "d")]
        assert np.array_equal(found.artifact.model.head.out.weight.detach(), expected.model.head.out.weight.detach())
    assert {path.name for path in folder.iterdir()} - set(layout.ITEMS) == {"checkpoints", "notes.txt"}


def test_two_who_save_into_one_folder_wait_for_each_other(run: Path, other: Path, tmp_path: Path) -> None:
    both = [predict.load(folder, device="cpu").artifact for folder in (run, other)]
    threads = [
        threading.Thread(target=lambda one=one: [save_artifact(one, tmp_path / "x") for _ in range(5)]) for one in both
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert predict.load(tmp_path / "x", device="cpu").labels in (("a", "b"), ("c", "d"))
    assert [path.name for path in (tmp_path / "x").iterdir() if path.name.endswith(".part")] == []


def test_what_a_killed_save_left_goes_when_the_run_is_asked_about(copy: Path) -> None:
    (copy / ".artifact.0123abcd.part" / "artifact").mkdir(parents=True)
    assert predict.load(copy, device="cpu").labels == ("a", "b")
    assert read_fingerprint(copy) != {}
    assert [path.name for path in copy.iterdir() if path.name.endswith(".part")] == []


def test_each_file_is_read_once(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    read = untrusted_folder.read_inside
    monkeypatch.setattr(
        saved_files, "read_inside", lambda root, name, most: [seen.append(name), read(root, name, most)][1]
    )
    listed = json.loads((copy / "pennyweight.json").read_text())["sha256"]
    predict.load(copy, device="cpu")
    assert sorted(seen) == sorted(["pennyweight.json", *listed])


def test_the_backbones_weights_are_hashed_once_in_training_and_once_on_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    monkeypatch.setattr(backbones, "sha256", lambda path: [hashed.append(path.name), checksums.sha256(path)][1])
    pipeline.train(
        ROWS, out=tmp_path / "run", strategy="head-only", max_steps=1, device="cpu", precision="fp32", report="short"
    )
    assert hashed == ["model.safetensors"]
    predict.load(tmp_path / "run", device="cpu")
    assert hashed == ["model.safetensors"] * 2


@pytest.mark.parametrize("number", range(1, 16))
def test_a_save_that_fails_at_any_rename_leaves_the_former_classifier(
    number: int, copy: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = predict.load(other, device="cpu").artifact
    before = {path: path.read_bytes() for path in sorted(copy.rglob("*")) if path.is_file()}
    rename, left = Path.replace, iter(range(number - 1, -1, -1))

    def fail(self: Path, target: Path) -> Path:
        if next(left, -1) == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(StorageError, match="the disk is full"):
        save_artifact(new, copy)
    assert {path: path.read_bytes() for path in sorted(copy.rglob("*")) if path.is_file()} == before
    assert predict.load(copy, device="cpu").labels == ("a", "b")


def test_without_leave_nothing_is_replaced_not_even_a_readme(run: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("my project")
    with pytest.raises(ArtifactError, match=r"README\.md is already there; choose another folder"):
        predict.load(run, device="cpu").save(tmp_path)
    assert (tmp_path / "README.md").read_text() == "my project"
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


# --- files that are none ------------------------------------------------------------------------------------------

NOT_REGULAR = f"not a regular file of the folder (links are not followed); {AGAIN}"


@pytest.mark.parametrize("name", ["pennyweight.json", "recipe.yaml", "tokenizer/tokenizer.json"])
@pytest.mark.parametrize("kind", ["link", "loop", "pipe", "folder"])
def test_what_is_no_regular_file_is_refused_at_once(copy: Path, tmp_path: Path, name: str, kind: str) -> None:
    (copy / name).replace(tmp_path / "outside")
    if kind == "link":
        (copy / name).symlink_to(tmp_path / "outside")
    elif kind == "loop":
        (copy / name).symlink_to(copy / name)
    elif kind == "pipe":
        os.mkfifo(copy / name)
    else:
        (copy / name).mkdir()
    assert refusal(copy) == f"F/{name}: {NOT_REGULAR}"


def test_a_linked_folder_within_is_refused_and_a_link_to_the_whole_is_fine(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "name").symlink_to(copy)
    assert predict.load(tmp_path / "name", device="cpu").labels == ("a", "b")
    (copy / "tokenizer").replace(tmp_path / "elsewhere")
    (copy / "tokenizer").symlink_to(tmp_path / "elsewhere")
    assert refusal(copy) == f"F/tokenizer/tokenizer.json: {NOT_REGULAR}"


def test_names_that_no_file_can_have(copy: Path, tmp_path: Path) -> None:
    long = "n" * 5000
    assert refusal(tmp_path / long) == "F: no such classifier; expected a folder that `pennyweight train` wrote"
    assert refusal(Path("a\0b")) == "F: no such classifier; expected a folder that `pennyweight train` wrote"
    facts = json.loads((copy / "pennyweight.json").read_text())
    facts.pop("seal")
    (copy / "pennyweight.json").write_text(checksums.seal(facts | {"sha256": facts["sha256"] | {long: "0" * 64}}))
    assert refusal(copy) == (
        f"F/pennyweight.json: the manifest names a file that is not in the folder: {'n' * 80!r}; {AGAIN}"
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.json", b'{"calibration": [1]}', "calibration: Input should be a valid dictionary or instance of"),
        ("metrics.json", b'{"calibration": {"temperature": NaN}}', "not valid JSON (NaN is no JSON number)"),
        ("metrics.json", b'{"calibration": {"temperature": 1e999}}', "not valid JSON (1e999 is too large a number)"),
        ("metrics.json", b'{"task": "multi"}', "the metrics do not match the classifier's task"),
        ("metrics.json", b'{"data": {"labels": 3}}', "data -> labels: Input should be a valid list"),
        ("metrics.json", b'{"test": {"per_class": [null]}}', "test -> per_class -> 0: Input should be a valid"),
        ("answers.safetensors", b"", "not a readable safetensors file ("),
    ],
)
def test_figures_of_a_wrong_form(copy: Path, name: str, content: bytes, message: str) -> None:
    (copy / name).write_bytes(content)
    reseal(copy)
    assert refusal(copy).startswith(f"F/{name}: {message}")


def test_figures_that_a_later_version_added_or_left_out_do_not_matter(copy: Path) -> None:
    value = json.loads((copy / "metrics.json").read_text())
    value["validation"] |= {"brier": 0.1}
    value["validation"].pop("ece")
    (copy / "metrics.json").write_text(json.dumps(value | {"energy": {"joules": 1}}))
    reseal(copy)
    assert predict.load(copy, device="cpu").metrics["energy"] == {"joules": 1}


ODD = (None, [], [[]], {}, {"a": 1}, "x", True, -1, 0.5, 10**30, 10**400, 1e308, float("nan"))


def refused(work: Callable[[], object]) -> bool:
    """Whether it was, in one line; any other exception is a failure."""
    try:
        work()
    except PennyweightError as error:
        return "\n" not in str(error)
    return False


def test_every_figure_made_odd_is_refused_or_harmless(run: Path) -> None:
    classifier = predict.load(run, device="cpu")
    saved = read_files(run)
    value = saved.json("metrics.json")

    def use(content: bytes) -> None:
        found = metrics_of(replace(saved, content=saved.content | {"metrics.json": content}))
        one = predict.Classifier(replace(classifier.artifact, metrics=found), classifier.runtime)
        assert (one.probabilities(np.zeros((1, 2), np.float32)) == 0.5).all()
        assert one.thresholds.shape == (2,)
        training_shares(found, {}, 2)
        model_card(one.artifact)

    made = [json.dumps(put(value, path, odd)).encode() for path in places(value) for odd in ODD]
    count = sum(refused(lambda one=one: use(one)) for one in made)
    assert 100 < count < len(made) - 100


def test_every_value_of_plan_and_manifest_made_odd_is_refused_or_harmless(run: Path) -> None:
    saved = read_files(run)
    runtime = predict.load(run, device="cpu").runtime
    chance = random.Random(0)
    plan = saved.json("plan.json")
    made = [
        replace(saved, content=saved.content | {"plan.json": json.dumps(put(plan, path, chance.choice(ODD))).encode()})
        for path in places(plan)
    ]
    changed = [put(saved.facts, path, chance.choice(ODD)) for path in list(places(saved.facts))[::2]]
    made += [replace(saved, facts=facts) for facts in changed if isinstance(facts, dict)]

    def use(one: SavedFiles) -> None:
        classifier = predict.Classifier(load_artifact(one, runtime), runtime)
        assert np.isfinite(classifier.predict_proba(TEXTS)).all()
        assert explain(classifier, "rates fell").words
        assert classifier.evaluate([("rates fell", "a"), ("a late goal", "b")]).n == 2
        model_card(classifier.artifact)

    count = sum(refused(lambda one=one: use(one)) for one in made)
    assert 20 < count < len(made) - 5


# --- what is handed on --------------------------------------------------------------------------------------------


def test_no_folder_of_the_data_is_handed_on(
    tiny_backbone: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "home-of-somebody"
    typed = ["train", f"{private}/mine.csv", f"--test={private}/held.csv", "--ood", f"{private}/odd.csv"]
    monkeypatch.setattr("sys.argv", ["/usr/bin/pennyweight", *typed])
    private.mkdir()
    for name in ("mine", "held", "chosen", "more", "odd"):
        lines = ["text,label", *(f"{text},{label}" for text, label in ROWS)]
        (private / f"{name}.csv").write_text("\n".join(lines) + "\n")
    backbone = shutil.copytree(tiny_backbone("bert", num_hidden_layers=1), tmp_path / "backbone")
    given = {
        "validation": "chosen.csv", "mix": "more.csv", "ood": "odd.csv", "cache_dir": "cache"
    }  # fmt: skip
    pipeline.train(
        private / "mine.csv", test=private / "held.csv", out=tmp_path / "run", backbone=str(backbone), max_steps=1,
        strategy="head-only", device="cpu", precision="fp32", prefix_cache="disk",
        **{key: str(private / name) for key, name in given.items()},
    )  # fmt: skip
    handed = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert [path.name for path in handed if b"home-of-somebody" in path.read_bytes()] == []
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "pennyweight train mine.csv --test=held.csv --ood odd.csv\n" in page
    recipe = read_recipe(tmp_path / "run")
    assert [getattr(recipe.data, key) for key in ("train", "test", "validation", "mix", "ood")] == [
        "mine.csv", "held.csv", "chosen.csv", "more.csv", "odd.csv",
    ]  # fmt: skip
    assert recipe.train.cache_dir is None
    sources = predict.load(tmp_path / "run", device="cpu").metrics["data"]["sources"]
    assert sources["test"] == {
        "name": "held.csv", "rows": len(ROWS), "sha256": checksums.sha256(private / "held.csv"), "sha256_of": "file",
    }  # fmt: skip
    assert sources.keys() == {"train", "test", "validation", "mix", "ood"}
    # Loading needs the backbone's folder, which is kept; the card, which is for others, names it without.
    assert str(backbone) not in (tmp_path / "run" / "README.md").read_text()


def test_data_given_in_python_have_a_checksum_of_their_rows(run: Path) -> None:
    source = predict.load(run, device="cpu").metrics["data"]["sources"]["train"]
    assert (source["name"], source["rows"], source["sha256_of"]) == ("data", 24, "rows")
    assert len(source["sha256"]) == 64


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_permissions_are_those_of_the_umask(mask: int, tiny_backbone: Callable[..., Path], tmp_path: Path) -> None:
    former = os.umask(mask)
    try:
        classifier = pipeline.train(
            ROWS, out=tmp_path / "run", backbone=str(tiny_backbone("bert", num_hidden_layers=2)), strategy="manual",
            r=2, budget="none", max_steps=1, device="cpu", precision="fp32", prefix_cache="disk", layers="1",
            cache_dir=str(tmp_path / "cache"), average="ema",
        )  # fmt: skip
        classifier.save(tmp_path / "saved")
    finally:
        os.umask(former)
    made = [tmp_path / name for name in ("run", "saved", "cache")]
    made += [path for folder in made for path in folder.rglob("*")]
    wrong = {
        str(path.relative_to(tmp_path)): oct(path.stat().st_mode & 0o777)
        for path in made
        if path.stat().st_mode & 0o777 != (0o777 if path.is_dir() else 0o666) & ~mask
    }
    assert wrong == {}
    assert len(made) > 30
    assert [path.suffix for path in (tmp_path / "cache").iterdir()][:1] == [".prefix"]
