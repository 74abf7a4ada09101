"""The inference engine against transformers: the same pooled vectors, whatever a text's neighbours."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pennyweight.data.batching import Encoded, pack
from pennyweight.errors import DataError
from pennyweight.model.device import Runtime
from pennyweight.model.heads import Head
from pennyweight.model.inference.build import InferenceWeights
from pennyweight.model.inference.engine import ENCODERS, InferenceEngine
from pennyweight.model.kernels.int8_linear import has_int8

pytestmark = pytest.mark.usefixtures("two_threads")
FP32 = Runtime(torch.device("cpu"), "fp32")
KINDS = ["bert", "roberta", "xlm-roberta", "electra", "distilbert", "mpnet", "modernbert"]
LENGTHS = [3, 9, 9, 9, 9, 9, 14, 5, 60, 1, 13, 9, 31, 31, 30, 29]


def texts(config: dict[str, Any], lengths: list[int], *, pairs: bool = False) -> Encoded:
    random = np.random.default_rng(0)
    rows = [random.integers(5, config["vocab_size"], size=length).tolist() for length in lengths]
    types = [[int(place > len(row) // 2) for place in range(len(row))] for row in rows]
    return pack(rows, type_ids=types if pairs else None)


def reference(folder: Path, encoded: Encoded, pooling: str) -> np.ndarray:
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, dtype="float32").eval()
    pooled = []
    for number in range(len(encoded)):
        ids = torch.tensor(encoded.row(number), dtype=torch.long)[None]
        types = {}
        if encoded.type_ids is not None and getattr(model.config, "type_vocab_size", 0) > 1:
            span = slice(encoded.offsets[number], encoded.offsets[number + 1])
            types = {"token_type_ids": torch.tensor(encoded.type_ids[span], dtype=torch.long)[None]}
        with torch.no_grad():
            hidden = model(input_ids=ids, attention_mask=torch.ones_like(ids), **types).last_hidden_state[0]
        pooled.append(hidden[0] if pooling == "cls" else hidden.mean(0))
    return torch.stack(pooled).numpy()


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    from transformers import AutoModel

    state: dict[str, torch.Tensor] = AutoModel.from_pretrained(folder, dtype="float32").state_dict()
    return state


def engine_of(folder: Path, pooling: str = "cls", runtime: Runtime = FP32) -> InferenceEngine:
    config = json.loads((folder / "config.json").read_text())
    engine = weights_of(config, state_of(folder), pooling).engine(runtime)
    assert engine is not None
    return engine


def weights_of(config: dict[str, Any], state: dict[str, torch.Tensor], pooling: str = "cls") -> InferenceWeights:
    torch.manual_seed(0)
    head = Head("linear", config, 3).eval().requires_grad_(False)
    return InferenceWeights(config, state, head, pooling, config["pad_token_id"])


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_pools_what_transformers_computes(
    tiny_backbone: Callable[..., Path], kind: str, pooling: str, pairs: bool
) -> None:
    folder = tiny_backbone(kind)
    engine = engine_of(folder, pooling)
    encoded = texts(json.loads((folder / "config.json").read_text()), LENGTHS, pairs=pairs)
    assert np.abs(engine.features(encoded) - reference(folder, encoded, pooling)).max() < 2e-5


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_has_the_same_logits_alone_and_anywhere_in_a_batch(
    tiny_backbone: Callable[..., Path], kind: str
) -> None:
    folder = tiny_backbone(kind)
    engine = engine_of(folder)
    encoded = texts(json.loads((folder / "config.json").read_text()), LENGTHS)
    together = engine.logits(encoded)
    for number in range(len(LENGTHS)):
        alone = engine.logits(pack([encoded.row(number).tolist()]))
        assert np.abs(alone[0] - together[number]).max() < 1e-5
    turned = pack([encoded.row(number).tolist() for number in reversed(range(len(LENGTHS)))])
    assert np.abs(engine.logits(turned)[::-1] - together).max() < 1e-5


def test_the_padding_id_inside_a_text_is_counted_as_transformers_counts_it(tiny_backbone: Callable[..., Path]) -> None:
    folder = tiny_backbone("roberta")
    padding = json.loads((folder / "config.json").read_text())["pad_token_id"]
    encoded = pack([[7, padding, 8, 9], [9, 8]])
    assert np.abs(engine_of(folder).features(encoded) - reference(folder, encoded, "cls")).max() < 2e-5


def test_several_threads_share_one_engine(tiny_backbone: Callable[..., Path]) -> None:
    folder = tiny_backbone("bert")
    engine, config = engine_of(folder), json.loads((folder / "config.json").read_text())
    encoded = texts(config, LENGTHS * 4)
    expected, found = engine.logits(encoded), []
    threads = [threading.Thread(target=lambda: found.append(engine.logits(encoded))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(np.array_equal(each, expected) for each in found)
    assert torch.get_num_threads() == 2  # for the caller nothing has changed


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_is_near_fp32(tiny_backbone: Callable[..., Path], kind: str) -> None:
    folder = tiny_backbone(kind)
    encoded = texts(json.loads((folder / "config.json").read_text()), LENGTHS)
    exact = engine_of(folder).features(encoded)
    rounded = engine_of(folder, runtime=Runtime(torch.device("cpu"), "bf16")).features(encoded)
    assert rounded.dtype == np.float32
    assert np.abs(rounded - exact).max() < 0.1 * np.abs(exact).max()


def int8_engine(folder: Path, encoded: Encoded, pooling: str = "cls") -> InferenceEngine:
    if not has_int8():
        pytest.skip("oneDNN's int8 product does not exist here")
    weights = weights_of(json.loads((folder / "config.json").read_text()), state_of(folder), pooling)
    ranges = weights.measure_ranges(encoded)
    assert ranges
    engine = weights.engine(Runtime(torch.device("cpu"), "int8"), ranges)
    assert engine is not None
    return engine


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("kind", KINDS)
def test_int8_is_near_fp32(tiny_backbone: Callable[..., Path], kind: str, pooling: str) -> None:
    folder = tiny_backbone(kind)
    encoded = texts(json.loads((folder / "config.json").read_text()), LENGTHS)
    exact = engine_of(folder, pooling).features(encoded)
    rounded = int8_engine(folder, encoded, pooling).features(encoded)
    assert rounded.dtype == np.float32
    assert not np.array_equal(rounded, exact)
    assert np.linalg.norm(rounded - exact) < 0.1 * np.linalg.norm(exact)


@pytest.mark.parametrize("kind", KINDS)
def test_in_int8_a_text_has_nearly_the_same_logits_alone_and_in_a_batch(
    tiny_backbone: Callable[..., Path], kind: str
) -> None:
    folder = tiny_backbone(kind)
    encoded = texts(json.loads((folder / "config.json").read_text()), LENGTHS)
    engine = int8_engine(folder, encoded)
    together = engine.logits(encoded)
    for number in range(len(LENGTHS)):
        alone = engine.logits(pack([encoded.row(number).tolist()]))
        # A number on the border of two bytes may fall to either side.
        assert np.abs(alone[0] - together[number]).max() < 5e-2 * np.abs(together).max()


@pytest.mark.parametrize("kind", KINDS)
def test_both_poolings_side_by_side(tiny_backbone: Callable[..., Path], kind: str) -> None:
    folder = tiny_backbone(kind)
    encoded = texts(json.loads((folder / "config.json").read_text()), LENGTHS)
    config = json.loads((folder / "config.json").read_text())
    engine = weights_of(config, state_of(folder), "both").engine(FP32)
    assert engine is not None
    expected = np.concatenate([reference(folder, encoded, pooling) for pooling in ("cls", "mean")], 1)
    assert np.abs(engine.features(encoded) - expected).max() < 2e-5


def test_no_texts_and_texts_without_tokens(tiny_backbone: Callable[..., Path]) -> None:
    engine = engine_of(tiny_backbone("bert"))
    assert len(engine.logits(pack([]))) == 0
    assert np.isfinite(engine.logits(pack([[], [5, 6]]))).all()


def test_a_text_longer_than_the_positions_is_refused(tiny_backbone: Callable[..., Path]) -> None:
    engine = engine_of(tiny_backbone("roberta"))
    most = engine.encoder.max_length
    assert len(engine.logits(pack([[5] * most]))) == 1
    with pytest.raises(DataError, match=f"a text of {most + 1} tokens is longer than the backbone's positions"):
        engine.logits(pack([[5] * (most + 1)]))


def test_every_family_of_the_registry_is_tested() -> None:
    assert ENCODERS.keys() == set(KINDS)


def test_where_it_does_not_apply_there_is_no_engine(tiny_backbone: Callable[..., Path]) -> None:
    config = json.loads((tiny_backbone("bert") / "config.json").read_text())
    for changed in ({"model_type": "other"}, {"hidden_act": "softplus"}, {"position_embedding_type": "relative_key"}):
        assert weights_of({**config, **changed}, {}).engine(FP32) is None
