"""Saved classifiers: what is written is what is read, and nothing else is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pennyweight import artifact, manifest, pipeline, predict
from pennyweight.errors import ArtifactError

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
    listed = artifact.read(run).facts["sha256"]
    assert {"recipe.yaml", "plan.json", "metrics.json", "README.md", artifact.ADAPTER, artifact.HEAD} <= listed.keys()
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
    artifact.retire(copy)
    assert refusal(copy) == (
        "F: not a saved classifier: no pennyweight.json; the run did not finish; go on with --resume"
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
    assert refusal(copy) == f"F/pennyweight.json: the manifest is damaged: not as it was sealed; {AGAIN}"


def test_labels_cannot_be_swapped_by_swapping_files(copy: Path) -> None:
    (copy / "plan.json").write_bytes((copy / "metrics.json").read_bytes())
    assert refusal(copy) == f"F/plan.json: a file does not match its checksum; {AGAIN}"
    (copy / "plan.json").unlink()
    assert refusal(copy) == f"F/plan.json: a file is missing; {AGAIN}"


def reseal(folder: Path, **changes: Any) -> None:
    facts = json.loads((folder / manifest.NAME).read_text()) | changes
    names = list(facts.pop("sha256"))
    facts.pop("seal")
    (folder / manifest.NAME).write_text(manifest.text(facts, folder, names))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("adapter/adapter_config.json", {"r": 3}, "F/adapter/adapter_config.json: r is not what the plan says"),
        ("adapter/adapter_config.json", {"lora_alpha": 1}, "F/adapter/adapter_config.json: lora_alpha is not what the "
         "plan says"),
        ("plan.json", {"trainable": 7}, "F/plan.json: unexpected content: plan: the plan's parts do not add up; "),
        ("plan.json", {"adapter": None}, "F/plan.json: a plan of "),
        ("tokenizer/tokenizer_config.json", {"auto_map": {}}, "F/tokenizer/tokenizer_config.json: the tokenizer wants "
         "to run code of its own (auto_map)"),
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
        ({"pooling": "mean"}, f"F/pennyweight.json: pooling is not what the recipe and the plan say; {AGAIN}"),
        ({"labels": {"names": ["a", "b", "c"]}}, "F/plan.json: a plan of "),
        ({"labels": {"names": "ab"}}, "F/pennyweight.json: unexpected content: not a list of class names; "),
        ({"backbone": None}, f"F/pennyweight.json: the manifest names no backbone; {AGAIN}"),
    ],
)
def test_a_manifest_that_contradicts_the_files(copy: Path, change: dict[str, Any], message: str) -> None:
    reseal(copy, **change)
    assert refusal(copy).startswith(message)


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
        artifact.save(predict.load(run, device="cpu").artifact, tmp_path, replace=False)


def test_a_replaced_classifier_leaves_nothing_behind(copy: Path, tiny_backbone: Callable[..., Path]) -> None:
    backbone = str(tiny_backbone("bert", num_hidden_layers=1))
    pipeline.train(
        ROWS, out=copy, overwrite=True, backbone=backbone, strategy="head-only", max_steps=1, device="cpu",
        precision="fp32", report="short",
    )  # fmt: skip
    assert not (copy / "adapter").exists()
    assert [path.name for path in (copy / "checkpoints").iterdir()] == ["step-00000001"]
    assert predict.load(copy, device="cpu").artifact.plan.adapter is None
