"""ONNX models: our logits in ONNX Runtime, from every family, head and pooling, with nothing of ours beside it."""

from __future__ import annotations

import json
import sysconfig
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import pennyweight as pw
from pennyweight.artifact.artifact import Artifact
from pennyweight.data.labels import LabelSet
from pennyweight.errors import ArtifactError, InputError, ResourceError
from pennyweight.export import onnx as export
from pennyweight.export.difference import example_texts, our_logits
from pennyweight.export.onnx import OPSET, to_onnx, to_onnx_int8
from pennyweight.predict.predictor import Classifier

from .random_classifier import CPU, NAMES, shallow, trained
from .readme_code import printed

pytestmark = pytest.mark.usefixtures("traced_once")

# Every family, head, pooling and kind of adapter, each once or more.
CASES: dict[str, dict[str, Any]] = {
    "bert": {"head": "full", "bias": "lora_only"},
    "minilm": {"head": "linear", "layers": "top:1", "target_modules": "all-linear"},
    "roberta": {"head": "low_rank", "use_dora": "true"},
    "xlm-roberta": {"head": "full", "pooling": "mean"},
    "distilbert": {"head": "linear", "pooling": "mean"},
    "electra": {"head": "low_rank", "use_rslora": "true"},
    "deberta-v2": {"head": "full"},
    "modernbert": {"head": "linear"},
    "mpnet": {"head": "linear", "pooling": "mean"},
}
TEMPERATURE = 1.7
OURS = ("torch", "transformers", "peft", "pennyweight")


def with_temperature(artifact: Artifact, value: float = TEMPERATURE) -> Artifact:
    return replace(artifact, metrics={"calibration": {"temperature": value}})


def multi_label(artifact: Artifact) -> Artifact:
    thresholds = {"values": [0.3, 0.5, 0.6, 0.7]}
    return replace(artifact, labels=LabelSet(NAMES, multi=True), metrics={"thresholds": thresholds})


def probabilities(artifact: Artifact, texts: list[Any]) -> np.ndarray:
    """Pennyweight's own, of the classifier that was exported."""
    return Classifier(artifact, CPU).predict_proba(texts)


@pytest.mark.parametrize("kind", CASES)
def test_every_family_gives_our_logits_divided_by_the_temperature(
    kind: str, tiny_backbone: Callable[..., Path], tmp_path: Path
) -> None:
    artifact = with_temperature(trained(shallow(tiny_backbone, kind), **CASES[kind]))
    assert to_onnx(artifact, tmp_path / "onnx") < 1e-4
    ours = Classifier(artifact, CPU).logits(example_texts(artifact)) / TEMPERATURE
    assert float(ours.std()) > 0.05  # logits that are all alike would prove nothing

    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])
    assert [(one.name, one.shape) for one in session.get_inputs()] == [
        ("input_ids", ["batch", "length"]),
        ("attention_mask", ["batch", "length"]),
    ]
    # Every batch and every length: one text alone, and the longest that the classifier takes.
    tokens = Classifier(artifact, CPU).tokens(example_texts(artifact))
    for row in (0, len(tokens) - 1, len(tokens) - 2):
        ids = tokens.row(row)[None].astype(np.int64)
        (alone,) = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        assert np.abs(alone[0] - ours[row]).max() < 1e-4
    config = json.loads((tmp_path / "onnx" / "config.json").read_text("utf-8"))
    assert list(config["id2label"].values()) == list(NAMES)
    (opset,) = [one.version for one in onnx.load(tmp_path / "onnx" / "model.onnx").opset_import if one.domain == ""]
    assert opset == OPSET
    assert f"opset {OPSET}" in (tmp_path / "onnx" / "README.md").read_text("utf-8")
    # No path of this machine is written: no backbone's, whichever process traced it, no package's, and not our own.
    package = str(Path(pw.__file__).parent)
    for here in (str(artifact.backbone.folder), "/pytest-of-", package, sysconfig.get_path("purelib")):
        assert [file.name for file in (tmp_path / "onnx").iterdir() if here.encode() in file.read_bytes()] == []


def test_the_readmes_code_needs_onnxruntime_tokenizers_and_numpy_alone(
    tiny_backbone: Callable[..., Path], tmp_path: Path
) -> None:
    artifact = with_temperature(trained(shallow(tiny_backbone, "bert"), **CASES["bert"]))
    to_onnx(artifact, tmp_path / "onnx")
    answers = printed(tmp_path / "onnx", *OURS)
    ours = probabilities(artifact, ["Shares fell after the bank's warning.", "The striker scored twice."])
    assert [list(answer) for answer in answers] == [list(NAMES)] * 2
    assert np.abs(np.array([list(answer.values()) for answer in answers]) - ours).max() < 2e-4
    assert "already divided by the fitted temperature" in (tmp_path / "onnx" / "README.md").read_text("utf-8")


def test_pairs_and_several_labels(tiny_backbone: Callable[..., Path], tmp_path: Path) -> None:
    artifact = multi_label(trained(shallow(tiny_backbone, "bert", 1), pair="true", pooling="mean"))
    to_onnx(artifact, tmp_path / "onnx")
    answers = printed(tmp_path / "onnx", *OURS)
    pairs = [("Shares fell.", "The market rose."), ("The striker scored.", "It was a goal.")]
    artifact = replace(artifact, input_spec=replace(artifact.input_spec, pair=True))
    ours = probabilities(artifact, pairs)
    assert np.abs(np.array([list(answer.values()) for answer in answers]) - ours).max() < 2e-4
    assert json.loads((tmp_path / "onnx" / "config.json").read_text("utf-8"))["problem_type"] == (
        "multi_label_classification"
    )
    # And in Pennyweight, where segments and thresholds come from the folder.
    again = pw.load(tmp_path / "onnx")
    assert np.abs(again.predict_proba(pairs) - ours).max() < 1e-5
    assert again.predict(pairs) == Classifier(artifact, CPU).predict(pairs)


def test_int8_quantizes_every_product_with_weights_by_column(
    tiny_backbone: Callable[..., Path], tmp_path: Path
) -> None:
    artifact = with_temperature(trained(shallow(tiny_backbone, "bert"), **CASES["bert"]))
    difference = to_onnx_int8(artifact, tmp_path / "int8")
    graph = onnx.load(tmp_path / "int8" / "model.onnx").graph
    integer = [node for node in graph.node if node.op_type == "MatMulInteger"]
    assert len(integer) == 6 * 2  # six matrices a layer, two layers
    scales = {one.name: list(one.dims) for one in graph.initializer if one.name.endswith("_scale")}
    assert sorted(scales.values()) == [[32]] * 10 + [[64]] * 2
    assert 0 < difference < 0.5
    texts = example_texts(artifact)
    again = pw.load(tmp_path / "int8")
    assert np.abs(again.logits(texts) - our_logits(artifact, texts)).max() == pytest.approx(difference, abs=1e-5)
    assert again.spec.number_format == "int8"
    assert len(printed(tmp_path / "int8", *OURS)) == 2


def test_weights_too_large_for_one_file_lie_beside_it(
    tiny_backbone: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "LARGEST_MODEL", 1000)
    artifact = trained(shallow(tiny_backbone, "bert", 1))
    assert to_onnx(artifact, tmp_path / "onnx") < 1e-4
    assert (tmp_path / "onnx" / "model.onnx.data").stat().st_size > (tmp_path / "onnx" / "model.onnx").stat().st_size
    to_onnx_int8(artifact, tmp_path / "int8")
    assert len(pw.load(tmp_path / "int8").predict(["Shares fell.", "The cup."])) == 2


def test_a_classifier_in_half_precision_exports_what_it_is_in_fp32(tiny_run: Path, tmp_path: Path) -> None:
    artifact = pw.load(tiny_run, device="cpu", precision="bf16").artifact
    assert to_onnx(artifact, tmp_path / "onnx") < 1e-4
    ours = pw.load(tiny_run, precision="fp32").logits(["The striker and the cup."])
    assert np.abs(pw.load(tmp_path / "onnx").logits(["The striker and the cup."]) - ours).max() < 1e-4


def test_other_logits_are_refused_and_nothing_is_written(
    tiny_backbone: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = trained(shallow(tiny_backbone, "bert", 1))
    plain = export.plain_classifier

    def wrong(artifact: Artifact) -> Any:
        found = plain(artifact)
        found.head.out.bias.add_(1.0)
        return found

    monkeypatch.setattr(export, "plain_classifier", wrong)
    with pytest.raises(ArtifactError, match=r"^the exported model's logits differ from the classifier's, and noth"):
        to_onnx(artifact, tmp_path / "onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_or_a_full_folder_is_said_before_anything_is_computed(
    tiny_backbone: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = trained(tiny_backbone("minilm"))
    (tmp_path / "something").touch()
    with pytest.raises(InputError, match="the folder is not empty"):
        to_onnx(artifact, tmp_path)
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(ResourceError) as caught:
        to_onnx(artifact, tmp_path / "onnx")
    assert str(caught.value) == "this format needs onnxscript; pip install 'pennyweight[onnx]', or only these"
