"""OpenVINO models: our logits, and code in the README that needs nothing of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pennyweight.errors import ResourceError
from pennyweight.export import onnx as onnx_export
from pennyweight.export.openvino import to_openvino

from .random_classifier import NAMES, shallow, trained
from .readme_code import printed
from .test_onnx import CASES, OURS, multi_label, probabilities, with_temperature

pytestmark = pytest.mark.usefixtures("traced_once")


# What differs between families is in the ONNX graph, which test_onnx.py looks at for each.
@pytest.mark.parametrize("kind", ["roberta", "deberta-v2", "modernbert"])
def test_families_give_our_logits(kind: str, tiny_backbone: Callable[..., Path], tmp_path: Path) -> None:
    artifact = with_temperature(trained(shallow(tiny_backbone, kind), **CASES[kind]))
    assert to_openvino(artifact, tmp_path / "openvino") < 1e-4
    assert {"model.xml", "model.bin", "tokenizer.json", "config.json", "README.md"} <= {
        file.name for file in (tmp_path / "openvino").iterdir()
    }


def test_the_readmes_code_gives_our_probabilities(tiny_backbone: Callable[..., Path], tmp_path: Path) -> None:
    artifact = with_temperature(trained(shallow(tiny_backbone, "electra"), **CASES["electra"]))
    to_openvino(artifact, tmp_path / "openvino")
    answers = printed(tmp_path / "openvino", *OURS)
    ours = probabilities(artifact, ["Shares fell after the bank's warning.", "The striker scored twice."])
    assert [list(answer) for answer in answers] == [list(NAMES)] * 2
    assert np.abs(np.array([list(answer.values()) for answer in answers]) - ours).max() < 2e-4


def test_pairs_and_several_labels(tiny_backbone: Callable[..., Path], tmp_path: Path) -> None:
    artifact = multi_label(trained(shallow(tiny_backbone, "bert", 1), pair="true", pooling="mean"))
    assert to_openvino(artifact, tmp_path / "openvino") < 1e-4
    assert len(printed(tmp_path / "openvino", *OURS)) == 2


def test_a_missing_package_is_named(
    tiny_backbone: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None if name == "openvino" else name)
    with pytest.raises(ResourceError, match=r"^this format needs openvino; pip install 'pennyweight\[openvino\]'"):
        to_openvino(trained(tiny_backbone("minilm")), tmp_path / "openvino")
