"""Prediction with exported ONNX models, in Python and on the command line."""

from __future__ import annotations

import builtins
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pennyweight as pw
from pennyweight.artifact.load_artifact import rebuilt
from pennyweight.errors import ArtifactError, InputError, ResourceError
from pennyweight.export.onnx import to_onnx
from pennyweight.predict import onnx_files
from pennyweight.predict.explanation import explain
from pennyweight.predict.predictor import Classifier
from pennyweight.storage.untrusted_folder import read_inside

Command = Callable[..., Any]
TEXTS = ["The striker and the cup", "The bank and the shares in the quarter", "polls", "", "valley " * 300]


@pytest.fixture(scope="module")
def original(tiny_run: Path) -> Classifier:
    """The tiny run's classifier, with a temperature."""
    found = pw.load(tiny_run, precision="fp32")
    metrics = found.metrics | {"calibration": {"temperature": 1.3}}
    return Classifier(replace(found.artifact, metrics=metrics), found.runtime)


@pytest.fixture(scope="module")
def folder(original: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("exported") / "onnx"
    to_onnx(original.artifact, target)
    return target


def test_it_predicts_as_the_classifier_it_was_exported_from(folder: Path, original: Classifier, news: Path) -> None:
    exported = pw.load(folder)
    assert exported.labels == original.labels
    assert exported.predict(TEXTS) == original.predict(TEXTS)
    assert np.abs(exported.predict_proba(TEXTS) - original.predict_proba(TEXTS)).max() < 1e-5
    assert np.abs(exported.logits(TEXTS) - original.logits(TEXTS) / 1.3).max() < 1e-4
    assert exported.predict("The cup") == original.predict("The cup")
    assert exported.logits("The cup").shape == exported.predict_proba("The cup").shape == (3,)
    assert exported.predict_proba([]).shape == (0, 3)
    assert exported.evaluate(news / "test.csv").accuracy == original.evaluate(news / "test.csv").accuracy
    ours, theirs = explain(original, "The striker and the cup"), explain(exported, "The striker and the cup")
    assert [one.weight for one in theirs.words] == pytest.approx([one.weight for one in ours.words], abs=1e-3)


def test_the_commands_read_the_folder(folder: Path, tiny_run: Path, news: Path, command: Command) -> None:
    ours = command("predict", tiny_run, news / "test.csv", "--precision", "fp32")
    theirs = command("predict", folder, news / "test.csv")
    assert theirs.code == 0, theirs.err
    label = [json.loads(line)["predicted_label"] for line in theirs.out.splitlines()]
    assert label == [json.loads(line)["predicted_label"] for line in ours.out.splitlines()]
    assert [*json.loads(theirs.out.splitlines()[0])] == [*json.loads(ours.out.splitlines()[0])]
    streamed = command("predict", folder, "-", stdin="The cup\nThe bank\n")
    assert [json.loads(line)["label"] for line in streamed.out.splitlines()] == pw.load(folder).predict(
        ["The cup", "The bank"]
    )
    assert command("explain", folder, "The cup and the striker").code == 0
    refused = command("predict", folder, news / "test.csv", "--target-accuracy", "0.9")
    assert refused.error == (
        f"{folder}: an exported ONNX model does not contain the recipe, the adapter or the training metrics; "
        "use the original classifier"
    )
    # Commands that need more than predictions say what is missing.
    assert command("evaluate", folder, news / "test.csv").error.startswith(f"{folder}: not a saved classifier")


def test_neither_torch_nor_transformers_is_imported(folder: Path) -> None:
    code = f"""import sys, pennyweight
print(pennyweight.load({str(folder)!r}).predict("The cup"))
print(sorted({{"torch", "transformers", "peft", "sklearn", "matplotlib"}} & set(sys.modules)))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == "[]"


@pytest.mark.parametrize(
    ("settings", "received"),
    [
        ({"backbone": "elsewhere"}, "backbone elsewhere"),
        ({"device": "cuda"}, "device cuda"),
        ({"precision": "bf16"}, "precision bf16"),
        ({"adapter_scale": 0.5}, "adapter_scale 0.5"),
    ],
)
def test_what_an_exported_model_fixes_cannot_be_chosen(folder: Path, settings: dict[str, Any], received: str) -> None:
    with pytest.raises(InputError) as caught:
        pw.load(folder, **settings)
    assert str(caught.value) == (
        f"{folder}: an exported ONNX model (fp32, on the CPU, its adapter merged) has no {received.split()[0]} to "
        f"choose; received {received}; leave it out, or use the original classifier"
    )
    assert pw.load(folder, device="cpu", precision="fp32").predict("The cup")


def test_what_the_folder_lacks_is_said(folder: Path, tmp_path: Path) -> None:
    exported = pw.load(folder)
    for use in (
        lambda: exported.artifact,
        lambda: exported.scaled(0.5),
        lambda: exported.with_prior("balanced"),
        lambda: exported.save(tmp_path / "copy"),
    ):
        with pytest.raises(ArtifactError, match=r"an exported ONNX model does not contain .*; use the original"):
            use()
    assert exported.metrics == {}


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("classifier.json", b"{", "not a valid description of an exported model"),
        ("classifier.json", b"[]", "not a valid description of an exported model"),
        ("classifier.json", b'{"format": 2}', "format 2 is not 1"),
        ("classifier.json", b'{"format": 1, "sha256": {"../x": ""}}', "not a valid description of an exported model"),
        ("model.onnx", b"nothing", "a file does not match its checksum"),
        ("tokenizer.json", b"{}", "a file does not match its checksum"),
    ],
)
def test_damaged_files_are_refused(folder: Path, tmp_path: Path, file: str, content: bytes, problem: str) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / file).write_bytes(content)
    with pytest.raises(ArtifactError, match=problem):
        pw.load(tmp_path / "copy")


@pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json"])
def test_files_without_checksums_are_checked_by_what_reads_them(folder: Path, tmp_path: Path, file: str) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    described = json.loads((copy / "classifier.json").read_text("utf-8"))
    del described["sha256"]  # as the message says, for files changed on purpose, and as older versions wrote it
    (copy / "classifier.json").write_text(json.dumps(described), "utf-8")
    assert pw.load(copy).predict("The cup") == pw.load(folder).predict("The cup")
    (copy / file).write_bytes(b"{}")
    with pytest.raises(ArtifactError, match="the exported model cannot be loaded"):
        pw.load(copy)


@pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json"])
def test_a_missing_file_or_a_link_is_refused(folder: Path, tmp_path: Path, file: str) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / file).unlink()
    if file == "tokenizer.json":
        with pytest.raises(ArtifactError, match=r"tokenizer\.json: the exported model cannot be read \(No such file"):
            pw.load(copy)
    (copy / file).symlink_to(folder / file)
    with pytest.raises(ArtifactError, match="links are not followed"):
        pw.load(copy)


@pytest.fixture(scope="module")
def other(original: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of the same labels in another order: mixed with the first, it would swap them without a word."""
    labels = replace(original.artifact.labels, names=original.labels[::-1])
    head = {
        name: tensor.flip(0) if "out" in name else tensor for name, tensor in original.artifact.tensors.head.items()
    }
    tensors = replace(original.artifact.tensors, head=head)
    target = tmp_path_factory.mktemp("other") / "onnx"
    artifact = replace(original.artifact, labels=labels, tensors=tensors)
    to_onnx(rebuilt(artifact, artifact.plan, tensors, original.runtime), target)
    return target


@pytest.mark.parametrize("replaced", [0, 1, 2, 3])
def test_an_export_that_is_replaced_while_it_loads_is_never_mixed(
    folder: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: int
) -> None:
    place = shutil.copytree(folder, tmp_path / "place")
    read: list[str] = []

    def read_then_replace(root: int, name: str, largest: int) -> bytes:
        if len(read) == replaced:
            place.rename(tmp_path / "former")
            shutil.copytree(other, place)
        read.append(name)
        return read_inside(root, name, largest)

    monkeypatch.setattr(onnx_files, "read_inside", read_then_replace)
    loaded = pw.load(place)
    assert loaded.labels == pw.load(folder).labels
    assert loaded.logits("The cup").tolist() == pw.load(folder).logits("The cup").tolist()
    assert len(read) > 3


@pytest.mark.parametrize("file", ["model.onnx", "classifier.json"])
def test_files_of_two_exports_in_one_folder_are_refused(folder: Path, other: Path, tmp_path: Path, file: str) -> None:
    place = shutil.copytree(folder, tmp_path / "place")
    shutil.copy(other / file, place / file)
    with pytest.raises(ArtifactError, match="a file does not match its checksum"):
        pw.load(place)


def test_the_identity_is_that_of_the_files_that_were_loaded(folder: Path, other: Path, tmp_path: Path) -> None:
    place = shutil.copytree(folder, tmp_path / "place")
    loaded = pw.load(place)
    shutil.copytree(other, place, dirs_exist_ok=True)
    assert loaded.identity == pw.load(folder).identity != pw.load(place).identity


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_length", -1),
        ("pad_id", "0"),
        ("temperature", 1e999),
        ("thresholds", [0.5]),
        ("labels", 3),
        ("input", []),
        ("sha256", []),
        ("sha256", {"README.md": ""}),
    ],
)
def test_a_description_of_another_form_is_refused(folder: Path, tmp_path: Path, key: str, value: Any) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    spec = tmp_path / "copy" / "classifier.json"
    spec.write_text(json.dumps(json.loads(spec.read_text("utf-8")) | {key: value}), "utf-8")
    with pytest.raises(ArtifactError, match="not a valid description of an exported model"):
        pw.load(tmp_path / "copy")


def test_a_model_of_other_labels_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    spec = tmp_path / "copy" / "classifier.json"
    changed = json.loads(spec.read_text("utf-8")) | {"labels": {"names": ["a", "b"]}}
    spec.write_text(json.dumps(changed), "utf-8")
    with pytest.raises(ArtifactError, match="there are 2 labels"):
        pw.load(tmp_path / "copy")


def test_without_onnx_runtime_the_package_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ResourceError) as caught:
        pw.load(folder)
    assert str(caught.value) == (
        f"{folder}: ONNX Runtime is not installed; pip install onnxruntime, or pennyweight[onnx]"
    )


def test_a_copy_and_a_forked_process_open_the_folder_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "onnx"
    shutil.copytree(folder, mine)
    exported = pw.load(mine)
    expected = exported.predict_proba(TEXTS)
    assert np.array_equal(pickle.loads(pickle.dumps(exported)).predict_proba(TEXTS), expected)
    before = exported._own_session()
    assert exported._own_session() is before
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as in a child, whose parent's session has no threads there
    assert exported._own_session() is not before
    assert np.array_equal(exported.predict_proba(TEXTS), expected)
    monkeypatch.undo()
    facts = json.loads((mine / "classifier.json").read_text("utf-8"))
    (mine / "classifier.json").write_text(json.dumps(facts))  # other bytes
    with pytest.raises(ArtifactError, match="the exported model was replaced since it was loaded; load it again"):
        exported.predict(TEXTS)
